package store

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"
)

// BenchmarkGroupMessage begins and finishes messages to a group whose members the gateway knows.
func BenchmarkGroupMessage(b *testing.B) {
	g, r := benchGateway(b)
	if _, err := g.store.CreateGroup(b.Context(), "g", "", []string{"a", "b"}); err != nil {
		b.Fatal(err)
	}
	first, err := g.begin("g", "a", 0, 0)
	if err != nil {
		b.Fatal(err)
	}
	w := newWindow(b, 64)
	cpu, n := mainThreadCPU(b, r), uint64(0)
	for b.Loop() {
		n++
		var id [16]byte
		binary.LittleEndian.PutUint64(id[:], n)
		w.slots <- struct{}{}
		g.member.BeginGroup("g", "a", id, first.Version, func(_ GroupSend, err error) {
			g.member.FinishGroup("g", id)
			w.done(Appended{}, err)
		})
	}
	w.wait()
	g.flush()
	b.ReportMetric((mainThreadCPU(b, r)-cpu)/float64(b.N)*1e6, "redis-µs/op")
}

// BenchmarkGroupMembers creates a group, reads its members as a gateway does that does not know them, and deletes it.
func BenchmarkGroupMembers(b *testing.B) {
	for _, size := range []int{20, 2000} {
		b.Run(fmt.Sprint("members=", size), func(b *testing.B) {
			g, r := benchGateway(b)
			users := userIDs(size)
			cpu := mainThreadCPU(b, r)
			for b.Loop() {
				if _, err := g.store.CreateGroup(b.Context(), "g", "", users); err != nil {
					b.Fatal(err)
				}
				if send, err := g.begin("g", "", 1, 0); err != nil || len(send.Members) != size {
					b.Fatal(err)
				}
				if err := g.store.DeleteGroup(b.Context(), "g", ""); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((mainThreadCPU(b, r)-cpu)/float64(b.N)*1e6, "redis-µs/op")
			empty := usedMemory(b, r)
			const groups = 100
			for i := range groups {
				if _, err := g.store.CreateGroup(b.Context(), fmt.Sprint("group-", i), "", users); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(usedMemory(b, r)-empty)/groups, "B/group")
		})
	}
}

// BenchmarkRevoke refuses users, and tells so in the control log.
func BenchmarkRevoke(b *testing.B) {
	g, r := benchGateway(b)
	cpu, n := mainThreadCPU(b, r), 0
	for b.Loop() {
		n++
		if err := g.store.Revoke(b.Context(), Revocation{User: fmt.Sprint("user-", n)}, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((mainThreadCPU(b, r)-cpu)/float64(b.N)*1e6, "redis-µs/op")
}
