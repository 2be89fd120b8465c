package replica

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

// load has a replica hold users as if it had loaded them from Redis, with sessions on ten gateways.
func load(r *Replica, users []string) {
	var parts [store.Partitions]store.Loaded
	for p := range parts {
		parts[p] = store.Loaded{Part: p, Generation: "g"}
	}
	for i, u := range users {
		p := &parts[store.Partition(u)]
		p.Users = append(p.Users, store.LoadedUser{ID: u, State: feed.State{Sessions: []feed.Session{{
			Device: fmt.Sprintf("dev%05d", i%100_000), Epoch: feed.Epoch(fmt.Sprintf("epoch%03d", i%10)), Conn: uint64(i),
			Since: time.Now().UnixMilli(), Platform: []string{"ios", "android", "web"}[i%3],
		}}}})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asOf, r.asOfRead = time.Now(), r.now()
	for p := range parts {
		part := r.names.fold(&parts[p], r.cfg.MaxRemembered/store.Partitions)
		part.usable, part.complete, part.polled = true, true, r.now()+time.Hour
		r.parts[p] = part
	}
}

func benchReplica(b *testing.B, users int) *Replica {
	b.Helper()
	r, err := New(Config{Source: newFakeRedis(b), MaxRemembered: 1_000_000})
	if err != nil {
		b.Fatal(err)
	}
	load(r, userIDs(users))
	return r
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkMemory measures what the replica takes for users with one device of 8 bytes, and ids of 12.
func BenchmarkMemory(b *testing.B) {
	const users = 100_000
	for b.Loop() {
		before := heap()
		r := benchReplica(b, users)
		loaded := heap()
		b.ReportMetric((loaded-before)/users, "B/online-user")
		for i := range users {
			id := fmt.Sprintf("gone-%07d", i)
			r.parts[store.Partition(id)].table.remember(id, uint32(i))
		}
		remembered := heap()
		b.ReportMetric((remembered-loaded)/users, "B/remembered-user")
		r.hub.open()
		sub, err := r.Watch(userIDs(users), false, "")
		if err != nil {
			b.Fatal(err)
		}
		if e, err := sub.Next(b.Context()); err != nil || len(e.Users) != users {
			b.Fatal(err)
		}
		b.ReportMetric((heap()-remembered)/users, "B/watched-user")
		sub.Close()
		runtime.KeepAlive(r)
	}
}

// mixed returns users of whom 30 % are online, 40 % offline and 30 % were never seen, all in memory.
func mixed(r *Replica, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		switch k := i * 7919 % 100_000; {
		case i%10 < 3:
			ids[i] = fmt.Sprintf("user-%07d", k)
		case i%10 < 7:
			ids[i] = fmt.Sprintf("gone-%07d", k)
			r.parts[store.Partition(ids[i])].table.remember(ids[i], uint32(since(time.Now().Unix())))
		default:
			ids[i] = fmt.Sprintf("none-%07d", k)
			r.parts[store.Partition(ids[i])].table.remember(ids[i], 0)
		}
	}
	return ids
}

func BenchmarkBriefs(b *testing.B) {
	r := benchReplica(b, 100_000)
	for _, n := range []int{100, 1000} {
		var sets [][]string
		for range 50 {
			sets = append(sets, mixed(r, n))
		}
		into := make([]Brief, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if i++; r.Briefs(b.Context(), sets[i%len(sets)], into) {
					b.Fatal("degraded")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/user")
		})
	}
}

func BenchmarkUsers(b *testing.B) {
	r := benchReplica(b, 100_000)
	ids := mixed(r, 1000)
	b.ReportAllocs()
	for b.Loop() {
		r.Users(b.Context(), ids)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/user")
}

// running starts a replica of a fake Redis in which nothing happens but what change does.
func running(b *testing.B, users int) (r *Replica, change func(of ...int)) {
	b.Helper()
	redis := newFakeRedis(b)
	redis.join("e1")
	redis.login("e1", userIDs(users)...)
	r = startFake(b, redis)
	shows := []string{feed.ShowAway, feed.ShowBusy}
	n := 0
	return r, func(of ...int) {
		n++
		for _, i := range of {
			redis.setStatus(fmt.Sprintf("user-%07d", i), shows[n%2], "")
		}
	}
}

// BenchmarkOneUserWithManyWatchers measures from a change until the last of 10,000 watchers of a user was told.
func BenchmarkOneUserWithManyWatchers(b *testing.B) {
	const watchers = 10_000
	r, change := running(b, 1)
	told := make(chan struct{}, watchers)
	for range watchers {
		sub, err := r.Watch(userIDs(1), false, "")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(sub.Close)
		go func() {
			for {
				e, err := sub.Next(context.Background())
				if err != nil {
					return
				}
				if !e.Bookmark {
					told <- struct{}{}
				}
			}
		}()
	}
	wait := func() {
		for range watchers {
			<-told
		}
	}
	wait()
	for b.Loop() {
		change(0)
		wait()
	}
}

// BenchmarkManyChanges measures what 100 changes cost, of users of whom each has 100 watchers, each of them of 100 users: all
// that the pod does, up to the events.
func BenchmarkManyChanges(b *testing.B) {
	const users, watchers, each = 10_000, 10_000, 100
	r, change := running(b, users)
	told := make(chan int, watchers)
	ids := userIDs(users)
	for i := range watchers {
		list := make([]string, each)
		for j := range list {
			list[j] = ids[(i*each+j*97)%users]
		}
		sub, err := r.Watch(list, false, "")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(sub.Close)
		go func() {
			for {
				e, err := sub.Next(context.Background())
				if err != nil {
					return
				}
				told <- len(e.Users)
			}
		}()
	}
	b.ReportMetric((heap()-0)/1e6, "MB")
	wait := func(n int) {
		for n > 0 {
			n -= <-told
		}
	}
	wait(watchers * each)
	start := cpuTime()
	n := 0
	for b.Loop() {
		of := make([]int, 100)
		for i := range of {
			of[i] = (n*100 + i) % users
		}
		n++
		change(of...)
		wait(100 * watchers * each / users)
	}
	b.ReportMetric(float64((cpuTime()-start).Microseconds())/float64(b.N*100), "CPU-µs/change")
}

// cpuTime is what the process has used of the processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
