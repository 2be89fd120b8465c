package store

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/testredis"
)

// benchText is the content of 128 bytes that a chat of the throughput benchmark has, with what the gateway adds.
var benchText = make([]byte, 200)

// benchID makes an id that is not repeated, and as random as a hash.
func benchID(n int) (id [16]byte) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)*0x9e3779b97f4a7c15) //nolint:gosec // not negative
	return id
}

// window bounds how many appends are under way.
type window struct {
	b     *testing.B
	slots chan struct{}
}

func newWindow(b *testing.B, n int) *window { return &window{b, make(chan struct{}, n)} }

func (w *window) done(a Appended, err error) {
	if err != nil || a.Duplicate {
		w.b.Errorf("append: %+v, %v", a, err)
	}
	<-w.slots
}

func (w *window) wait() {
	for range cap(w.slots) {
		w.slots <- struct{}{}
	}
	for range cap(w.slots) {
		<-w.slots
	}
}

// BenchmarkAppend appends messages of 200 bytes to users who are online, 64 at a time. each is how many in a row are for the
// same user, as when conversations are under way faster than Redis answers.
func BenchmarkAppend(b *testing.B) {
	for _, each := range []int{1, 4, 16} {
		b.Run(fmt.Sprint("each=", each), func(b *testing.B) {
			g, r := benchGateway(b)
			ids := userIDs(1000)
			g.loginMany(ids)
			sessions := g.all()
			w := newWindow(b, 64)
			appendAll := func(from, n int) {
				for i := from; i < from+n; i++ {
					w.slots <- struct{}{}
					s := sessions[i/each%len(sessions)]
					g.member.Append(s.User, &Record{ID: benchID(i), Sender: ids[i%7], Data: benchText}, w.done)
					if (i+1)%each == 0 && i/each/len(sessions)%8 == 7 {
						g.member.Ack(s, 1<<52, func(error) {}) // now and then, or the mailboxes become full
					}
				}
				w.wait()
				g.flush()
			}
			appendAll(0, 130*len(sessions)) // full rings
			cpu := mainThreadCPU(b, r)
			b.ReportAllocs()
			b.ResetTimer()
			appendAll(1<<24, b.N)
			b.StopTimer()
			b.ReportMetric((mainThreadCPU(b, r)-cpu)/float64(b.N)*1e6, "redis-µs/op")
		})
	}
}

// BenchmarkFanOut appends one message to 1,000 users who are online. One op is one user.
func BenchmarkFanOut(b *testing.B) {
	g, r := benchGateway(b)
	ids := userIDs(1000)
	g.loginMany(ids)
	sessions := g.all()
	w := newWindow(b, 2000)
	cpu := mainThreadCPU(b, r)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		w.slots <- struct{}{}
		s := sessions[i%len(sessions)]
		g.member.Append(s.User, &Record{ID: benchID(i / len(ids)), Sender: "sender", Data: benchText}, w.done)
		if i/len(ids)%100 == 99 {
			g.member.Ack(s, 1<<52, func(error) {})
		}
	}
	w.wait()
	g.flush()
	b.StopTimer()
	b.ReportMetric((mainThreadCPU(b, r)-cpu)/float64(b.N)*1e6, "redis-µs/op")
}

// BenchmarkAck acknowledges one message that waits, with its append.
func BenchmarkAck(b *testing.B) {
	g, r := benchGateway(b)
	g.loginMany(userIDs(1000))
	sessions := g.all()
	w := newWindow(b, 64)
	b.ResetTimer()
	for i := range b.N {
		w.slots <- struct{}{}
		s := sessions[i%len(sessions)]
		g.member.Append(s.User, &Record{ID: benchID(i), Sender: "sender", Data: benchText}, w.done)
	}
	w.wait()
	cpu := mainThreadCPU(b, r)
	b.ReportAllocs()
	for i := range b.N {
		w.slots <- struct{}{}
		g.member.Ack(sessions[i%len(sessions)], 1<<52, func(err error) { w.done(Appended{}, err) })
	}
	w.wait()
	b.StopTimer()
	b.ReportMetric((mainThreadCPU(b, r)-cpu)/float64(b.N)*1e6, "redis-µs/op")
}

// BenchmarkMailboxMemory reports what a mailbox takes of a user who is offline, with messages of 200 bytes.
func BenchmarkMailboxMemory(b *testing.B) {
	const users = 20000
	for _, messages := range []int{1, 10} {
		b.Run(fmt.Sprint("messages=", messages), func(b *testing.B) {
			for b.Loop() {
				r := testredis.Start(b)
				g := startGateway(b, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
				empty := usedMemory(b, r)
				w := newWindow(b, 256)
				for i := range users * messages {
					w.slots <- struct{}{}
					g.member.Append(fmt.Sprintf("u%011d", i/messages), &Record{ID: benchID(i), Sender: "sender", Data: benchText}, w.done)
				}
				w.wait()
				b.ReportMetric(float64(usedMemory(b, r)-empty)/users, "B/mailbox")
			}
		})
	}
}
