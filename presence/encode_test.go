package presence

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/presence/store"
)

func FuzzParseBatch(f *testing.F) {
	for _, seed := range []string{`{"users":["a","b"]}`, ` { "users" : [ "a" , "b" ] } `, `{"users":["\u0041"]}`, `{"users":[]}`,
		`{"users":["a",]}`, `{"users":["a"]}x`, `{"users":["a"],"users":[]}`, `{"users":null}`, "{\"users\":[\"\t\"]}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		got, ok := parsePlainList(nil, body, `"users"`)
		if !ok {
			return
		}
		var want struct{ Users []string }
		if err := json.Unmarshal([]byte(body), &want); err != nil {
			t.Fatalf("%q was taken for JSON: %v", body, err)
		}
		if clean := strings.ToValidUTF8(body, "\ufffd"); clean == body && !cmp.Equal(got, want.Users) {
			t.Errorf("%q: got %q, want %q", body, got, want.Users)
		}
	})
}

func FuzzAppendString(f *testing.F) {
	f.Add(`a"b\<>&`)
	f.Add("测试😀\x7f\n")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(appendString(nil, s), &got); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); want == s && got != s {
			t.Errorf("%q came back as %q", s, got)
		}
	})
}

func sampleUsers(n int) []store.User {
	users := make([]store.User, n)
	for i := range users {
		u := store.User{ID: fmt.Sprintf("user-%06d", i), State: store.Unknown, Reason: store.NeverSeen}
		switch i % 10 {
		case 0, 1, 2:
			u.State, u.Reason = store.Online, ""
			u.Devices = []store.Device{{ID: "default", Gateway: "chat-gateway-7d9f8-abcde", LoginTime: time.UnixMilli(1767225600123)}}
		case 3, 4, 5, 6:
			u.State, u.Reason, u.LastSeen = store.Offline, "", time.Unix(1767225600, 0)
		}
		users[i] = u
	}
	return users
}

func BenchmarkBatchAnswer(b *testing.B) {
	users := sampleUsers(1000)
	b.Run("append", func(b *testing.B) {
		var buf []byte
		for b.Loop() {
			buf = appendBatchAnswer(buf[:0], users, time.UnixMilli(1767225600123), false)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/user")
	})
	b.Run("reflection", func(b *testing.B) {
		for b.Loop() {
			if _, err := json.Marshal(users); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/user")
	})
}

func BenchmarkParseBatch(b *testing.B) {
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = fmt.Sprintf("user-%06d", i)
	}
	plain, _ := json.Marshal(map[string][]string{"users": ids})
	escaped := strings.Replace(string(plain), "-", `\u002d`, 1)
	for name, body := range map[string]string{"plain": string(plain), "escaped": escaped} {
		b.Run(name, func(b *testing.B) {
			var ids []string
			for b.Loop() {
				var err error
				if ids, err = parseBatch(ids[:0], body); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/user")
		})
	}
}
