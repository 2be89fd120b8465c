package wire

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestIDs(t *testing.T) {
	emoji128 := strings.Repeat("😀", 32)
	for _, tc := range []struct {
		name  string
		check func(string) error
		id    string
		ok    bool
	}{
		{"user", CheckUserID, "a", true},
		{"user of 128 bytes of emoji", CheckUserID, emoji128, true},
		{"user of 129 bytes", CheckUserID, emoji128 + "x", false},
		{"user with punctuation", CheckUserID, "a:disconnect", true},
		{"user with braces", CheckUserID, "{x}", true},
		{"user with a space", CheckUserID, "a b", true},
		{"empty user", CheckUserID, "", false},
		{"user with NUL", CheckUserID, "a\x00", false},
		{"user with a line end", CheckUserID, "a\n", false},
		{"user with DEL", CheckUserID, "a\x7f", false},
		{"user with a C1 control", CheckUserID, "a\u0085", false},
		{"user that is not UTF-8", CheckUserID, "\xc3\x28", false},
		{"device of 64 bytes", CheckDeviceID, strings.Repeat("d", 64), true},
		{"device of 65 bytes", CheckDeviceID, strings.Repeat("d", 65), false},
		{"no platform", CheckPlatform, "", true},
		{"platform", CheckPlatform, "mac-os15", true},
		{"platform of 17", CheckPlatform, strings.Repeat("p", 17), false},
		{"platform with capitals", CheckPlatform, "iOS", false},
		{"no clientMsgId", CheckClientMsgID, "", true},
		{"clientMsgId of 128 bytes", CheckClientMsgID, strings.Repeat("c", 128), true},
		{"clientMsgId of 129 bytes", CheckClientMsgID, strings.Repeat("c", 129), false},
		{"msgId", CheckMsgID, "2bfea133-72a8-4315-82aa-80049fe4fb7b", true},
		{"no msgId", CheckMsgID, "", false},
	} {
		if err := tc.check(tc.id); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// TestMessageID: derived, stable for ever (clients and other releases rely on it), and different where it must be.
func TestMessageID(t *testing.T) {
	const golden = "db0a8b92-0d42-8074-b0a7-5e382383d31f"
	id := MessageID("a", "b", "c")
	if id != golden {
		t.Errorf("got %s, want %s as ever", id, golden)
	}
	parsed, err := uuid.Parse(id)
	if err != nil || parsed.Version() != 8 || parsed.Variant() != uuid.RFC4122 {
		t.Errorf("%s is not a version 8 UUID: %v", id, err)
	}
	seen := map[string]bool{}
	for _, in := range [][3]string{{"a", "b", "c"}, {"ab", "", "c"}, {"a", "bc", "x"}, {"a", "b", "cx"}, {"b", "a", "c"}, {"", "ab", "c"}} {
		seen[MessageID(in[0], in[1], in[2])] = true
	}
	if len(seen) != 6 {
		t.Errorf("%d ids of 6 messages", len(seen))
	}
	if first, second := MessageID("a", "b", ""), MessageID("a", "b", ""); first == second {
		t.Error("two messages without clientMsgId have the same id")
	}
}

func TestCodes(t *testing.T) {
	if c := CodeReplaced.CloseCode(); c != 4304 {
		t.Errorf("close code %d", c)
	}
	for code, want := range map[Code][2]bool{CodeOK: {true, false}, CodeAccepted: {true, false}, CodeBadField: {false, false},
		CodeUnavailable: {false, true}, CodeTooManyConns: {false, true}, CodeReplaced: {false, false}} {
		if got := [2]bool{code.OK(), code.Retryable()}; got != want {
			t.Errorf("code %d: ok and retryable are %v, want %v", code, got, want)
		}
	}
	for idle, want := range map[time.Duration]time.Duration{30 * time.Second: 10 * time.Second, time.Second: time.Second} {
		if got := PingInterval(idle); got != want {
			t.Errorf("PingInterval(%v) is %v, want %v", idle, got, want)
		}
	}
}
