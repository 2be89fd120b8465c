package store

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/feed"
)

// benchGateway is a gateway on a Redis of its own.
func benchGateway(b *testing.B) (*gateway, *testredis.Server) {
	b.Helper()
	r := testredis.Start(b)
	return startGateway(b, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr), r
}

// BenchmarkRegister logs users in and out, 64 at a time, as a closed loop of clients does. One op is a login and a logout.
func BenchmarkRegister(b *testing.B) {
	g, r := benchGateway(b)
	ids := userIDs(100000)
	cpu := mainThreadCPU(b, r)
	var next atomic.Uint64
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > uint64(b.N) {
					return
				}
				s := Session{User: ids[i%uint64(len(ids))], Device: "d0000000", Platform: "web", Conn: i}
				if _, err := g.member.Register(context.Background(), s); err != nil {
					b.Error(err)
					return
				}
				g.member.Unregister(s, time.Now(), feed.CauseLogout)
			}
		})
	}
	wg.Wait()
	g.flush()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "logins/s")
	b.ReportMetric((mainThreadCPU(b, r)-cpu)/float64(b.N)*1e6, "redis-µs/op")
}

// BenchmarkSessionScripts reports what a login and a logout cost the main thread of Redis, with parsing and replying, 64 at a
// time.
func BenchmarkSessionScripts(b *testing.B) {
	const users = 20000
	for b.Loop() {
		g, r := benchGateway(b)
		login := func() {
			eachUser(b, users, func(_ int, s Session) error {
				_, err := g.member.Register(context.Background(), s)
				return err
			})
		}
		logout := func() {
			eachUser(b, users, func(_ int, s Session) error {
				g.member.Unregister(s, time.Now(), feed.CauseLogout)
				return nil
			})
			g.flush()
		}
		login()
		logout() // the buckets of last seen grow, which costs more
		start := mainThreadCPU(b, r)
		login()
		middle := mainThreadCPU(b, r)
		logout()
		b.ReportMetric((middle-start)/users*1e6, "login-µs")
		b.ReportMetric((mainThreadCPU(b, r)-middle)/users*1e6, "logout-µs")
	}
}

// BenchmarkLocate looks up where a user is, 64 at a time.
func BenchmarkLocate(b *testing.B) {
	g, _ := benchGateway(b)
	ids := userIDs(10000)
	g.loginMany(ids)
	slots := make(chan struct{}, 64)
	done := func(_ []Holder, err error) {
		if err != nil {
			b.Error(err)
		}
		<-slots
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		slots <- struct{}{}
		g.member.Locate(ids[i%len(ids)], done)
	}
	for range cap(slots) {
		slots <- struct{}{}
	}
}

// BenchmarkUsers asks for users of whom 30 % are online, 40 % offline and 30 % were never seen.
func BenchmarkUsers(b *testing.B) {
	g, r := benchGateway(b)
	ids := userIDs(20000)
	g.loginMany(ids[:14000])
	for _, s := range g.all() {
		if n, err := strconv.Atoi(s.User[5:]); err == nil && n >= 6000 {
			g.logout(s)
		}
	}
	g.flush()
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			batch := make([]string, size)
			for i := range batch {
				batch[i] = ids[i*7919%len(ids)]
			}
			cpu := mainThreadCPU(b, r)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, degraded := g.store.Users(b.Context(), batch); degraded {
					b.Fatal("degraded")
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "users/s")
			b.ReportMetric((mainThreadCPU(b, r)-cpu)/float64(b.N*size)*1e6, "redis-µs/user")
		})
		b.Run(fmt.Sprintf("brief/%d", size), func(b *testing.B) {
			batch, answers := make([]string, size), make([]Brief, size)
			for i := range batch {
				batch[i] = ids[i*7919%len(ids)]
			}
			cpu := mainThreadCPU(b, r)
			b.ReportAllocs()
			for b.Loop() {
				if g.store.Briefs(b.Context(), batch, answers) {
					b.Fatal("degraded")
				}
			}
			b.ReportMetric((mainThreadCPU(b, r)-cpu)/float64(b.N*size)*1e6, "redis-µs/user")
		})
	}
}

// BenchmarkMemory reports what Redis needs for users with ids of 12 bytes and devices of 8: per online session, on gateways
// of 20,000, and per user who is remembered as offline. The feed, which is as long for few users as for many, does not count.
func BenchmarkMemory(b *testing.B) {
	const perGateway = 20000
	for _, users := range []int{20000, 100000} {
		b.Run(fmt.Sprintf("online/%d", users), func(b *testing.B) {
			for b.Loop() {
				r := testredis.Start(b)
				var gateways []*gateway
				for i := range users / perGateway {
					gateways = append(gateways, startGateway(b, Config{LeaseTTL: 15 * time.Second}, fmt.Sprint("gw-", i), r.Addr))
				}
				empty := usedMemory(b, r) - feedMemory(gateways[0].store, r)
				eachUser(b, users, func(i int, s Session) error {
					_, err := gateways[i/perGateway].member.Register(context.Background(), s)
					return err
				})
				used := usedMemory(b, r) - feedMemory(gateways[0].store, r)
				b.ReportMetric(float64(used-empty)/float64(users), "B/session")
			}
		})
		b.Run(fmt.Sprintf("remembered/%d", users), func(b *testing.B) {
			for b.Loop() {
				g, r := benchGateway(b)
				empty := usedMemory(b, r) - feedMemory(g.store, r)
				eachUser(b, users, func(_ int, s Session) error {
					_, err := g.member.Register(context.Background(), s)
					g.member.Unregister(s, time.Now(), feed.CauseLogout)
					return err
				})
				g.flush()
				used := usedMemory(b, r) - feedMemory(g.store, r)
				b.ReportMetric(float64(used-empty)/float64(users), "B/user")
			}
		})
	}
}

// BenchmarkFeedMemory reports what the feed takes when it is as long as it gets, of logins and logouts from IPv4 addresses.
func BenchmarkFeedMemory(b *testing.B) {
	const facts = 2500 // more than are kept
	fill := newScript(factLua, `
for i = 1, tonumber(ARGV[1]) do
  local user = string.format('u%011d', i)
  fact(KEYS[1], KEYS[2], 'S' .. user .. '\0d0000000\0abcdefgh.1a2.m3abcdef.web\000192.0.2.147')
  fact(KEYS[1], KEYS[2], 'D' .. user .. '\0d0000000\0m3abcdef\0logout')
end`)
	for b.Loop() {
		g, r := benchGateway(b)
		for p := range Partitions {
			g.store.keys.feed[p] = "bench:" + g.store.keys.feed[p]
			q := read(p, append([]any{"eval", fill.text}, fill.eval([]string{"bench:" + g.store.keys.meta[p], g.store.keys.feed[p]}, facts/2)[2:]...)...)
			if err := g.store.exchange(b.Context(), q); err != nil {
				b.Fatal(err)
			}
		}
		bytes, length := feedMemory(g.store, r), int64(0)
		for p := range Partitions {
			length += r.MustDo("XLEN", g.store.keys.feed[p]).(int64)
		}
		b.ReportMetric(float64(bytes)/1e6, "MB")
		b.ReportMetric(float64(bytes)/float64(length), "B/fact")
		b.ReportMetric(float64(length)/Partitions, "facts/partition")
	}
}

// feedMemory is how many bytes the feeds take.
func feedMemory(s *Store, r *testredis.Server) (bytes int64) {
	for p := range Partitions {
		n, _ := r.MustDo("MEMORY", "USAGE", s.keys.feed[p], "SAMPLES", "0").(int64) // nil if there is none
		bytes += n
	}
	return bytes
}

// eachUser calls f for sessions of users, 64 at a time.
func eachUser(b *testing.B, users int, f func(int, Session) error) {
	b.Helper()
	var wg sync.WaitGroup
	for worker := range 64 {
		wg.Go(func() {
			for i := worker; i < users; i += 64 {
				s := Session{User: fmt.Sprintf("u%011d", i), Device: "d0000000", Platform: "web", Conn: uint64(i)}
				if err := f(i, s); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// usedMemory is what Redis uses without the buffers of connections, and without the feed, which does not grow with the users but
// with what they do, up to a bound.
func usedMemory(b *testing.B, r *testredis.Server) int64 {
	b.Helper()
	r.MustDo(append([]string{"DEL"}, newKeys("").feed[:]...)...)
	return intOf(r.Info("used_memory")) - intOf(r.Info("mem_clients_normal"))
}

// mainThreadCPU is how many seconds Redis' main thread has computed.
func mainThreadCPU(b *testing.B, r *testredis.Server) float64 {
	b.Helper()
	var sum float64
	for _, field := range []string{"used_cpu_user_main_thread", "used_cpu_sys_main_thread"} {
		v, err := strconv.ParseFloat(r.Info(field), 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += v
	}
	return sum
}
