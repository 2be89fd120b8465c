package store

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/imcluster/imcluster/presence/feed"
)

// Chat servers that are no gateways register their users through presence pods. Such an external server has a lease in the
// lease table, under an epoch that begins with "~", and sessions as any gateway has. It is no peer, and registers nothing
// again by itself after a loss of data: partitions do not wait for it.

var (
	//go:embed lua/external.lua
	externalLua string
	//go:embed lua/restore.lua
	restoreLua string

	externalScript = newScript(clockLua, externalLua)
	restoreScript  = newScript(clockLua, restoreLua)
)

// ErrTooManyServers says that so many external servers have leases that no other gets one.
var ErrTooManyServers = errors.New("too many external servers have leases")

// maxExternals is how many external servers may have leases: each is read with the lease table, every 50 ms.
const maxExternals = 500

// External is the lease of an external server.
type External struct {
	// Lease is for how long it lasts unless it is renewed.
	Lease time.Duration
	// Registry is another one when sessions of the server may have been lost.
	Registry string
}

// afterRevocations is when users of external servers have their tokens from: revocations are about ours, and who is connected
// to a server is online there all the same.
var afterRevocations = time.UnixMilli(1 << 50)

// RegisterExternal makes the session of a device one on an external server, whatever was there before, and renews the
// server's lease. If it is there already, nothing changes. ErrUnavailable: the outcome is unknown; do it again.
// ErrTooManyServers or ErrTooManyDevices: it was refused.
func (s *Store) RegisterExternal(ctx context.Context, server, user, device string) error {
	session := Session{User: user, Device: device, Conn: uint64(rand.Uint32()), Issued: afterRevocations}
	var refused Epoch
	for range 3 {
		epoch, err := s.externals.lease(ctx, server, externalCall{refused: refused})
		if err != nil {
			return fmt.Errorf("register session of an external server: %w", err)
		}
		there, until, err := s.sessionOf(ctx, user, device)
		if err != nil {
			return fmt.Errorf("register session of an external server: %w", err)
		}
		if there.epoch == epoch {
			return nil
		}
		reply, err := s.externals.write(ctx, opRegister, epoch, session, until)
		if err != nil {
			return fmt.Errorf("register session of an external server: %w", err)
		}
		switch reply {
		case "T":
			return ErrTooManyDevices
		case "X": // another pod was told that the server has started anew
			refused = epoch
		case "L": // the server was slow
		default:
			return nil
		}
	}
	return fmt.Errorf("register session of an external server: refused several times: %w", ErrUnavailable)
}

// UnregisterExternal ends the session of a device if it is on the external server, or on any if server is empty. Other
// sessions stay. ErrUnavailable: the outcome is unknown; do it again.
func (s *Store) UnregisterExternal(ctx context.Context, server, user, device string) error {
	there, until, err := s.sessionOf(ctx, user, device)
	if err != nil {
		return fmt.Errorf("end session of an external server: %w", err)
	}
	if !there.epoch.External() {
		return nil
	}
	if server != "" {
		t, err := s.readTable(ctx)
		if err != nil {
			return fmt.Errorf("end session of an external server: %w", err)
		}
		if t.records[there.epoch].podUID != externalUID(server) {
			return nil
		}
		if _, err := s.externals.lease(ctx, server, externalCall{}); err != nil {
			return fmt.Errorf("end session of an external server: %w", err)
		}
	}
	session := Session{User: user, Device: device, Conn: there.conn}
	reply, err := s.externals.write(ctx, opUnregister, there.epoch, session, until)
	if err == nil && reply == "L" {
		err = fmt.Errorf("redis took it too late: %w", ErrUnavailable)
	}
	if err == nil && reply == "S" {
		err = s.splitNext(ctx, Partition(user))
	}
	if err != nil {
		return fmt.Errorf("end session of an external server: %w", err)
	}
	return nil // refused as well: then the lease has ended, and the session with it
}

// KeepExternal renews the lease of an external server that does so regularly, from now on for [Config.LeaseTTL] at a time.
// started says that it has no sessions: those that it had end, within the grace. ErrUnavailable or ErrTooManyServers.
func (s *Store) KeepExternal(ctx context.Context, server string, started bool) (External, error) {
	epoch, err := s.externals.lease(ctx, server, externalCall{keeps: true, started: started})
	if err != nil {
		return External{}, fmt.Errorf("keep an external server: %w", err)
	}
	gens, err := s.generations(ctx, everyPartition())
	if err != nil {
		return External{}, fmt.Errorf("keep an external server: %w", err)
	}
	digest := xxhash.New()
	_, _ = digest.WriteString(string(epoch))
	for p := range Partitions {
		_, _ = digest.WriteString(" " + gens[p])
	}
	return External{Lease: s.cfg.LeaseTTL, Registry: strconv.FormatUint(digest.Sum64(), 36)}, nil
}

// sessionOf reads the session of a device, and until when, by the clock of its node, a write that follows from it is good.
func (s *Store) sessionOf(ctx context.Context, user, device string) (there entry, until int64, err error) {
	part := Partition(user)
	session, clock := read(part, "hget", s.keys.userKey(part, user), "s"+device), read(part, "time")
	if err := s.exchange(ctx, session, clock); err != nil {
		return entry{}, 0, err
	}
	there, _ = parseEntry(session.text())
	return there, timeOf(clock) + min(2*readTimeout, s.cfg.LeaseTTL/2).Milliseconds(), nil
}

// externals are the leases that this process has renewed, and the means to write under them.
type externals struct {
	store *Store
	lanes *lanes // makes the arguments of writes; nothing is queued

	mu       sync.Mutex
	byServer map[string]*externalLease
}

// externalLease is what is known of a lease. It is renewed by one at a time, for all who want it.
type externalLease struct {
	mu      sync.Mutex
	epoch   Epoch // empty: none yet
	gen     string
	renewed time.Time
}

func newExternals(s *Store) *externals {
	return &externals{store: s, lanes: unstartedLanes(s), byServer: map[string]*externalLease{}}
}

// externalCall is what is known of a server when its lease is asked for.
type externalCall struct {
	keeps, started bool
	refused        Epoch // partitions refuse writes under it
}

// externalRecord is the record of an external server. Where a gateway has the name of its pod it has its own.
type externalRecord struct {
	Server string `json:"pod"`
	Keeps  bool   `json:"keep,omitempty"`
}

// externalUID is what stands for the pod UID in the record of an external server.
func externalUID(server string) string {
	sum := sha256.Sum256([]byte(server))
	return "~" + base64.RawURLEncoding.EncodeToString(sum[:12])
}

// lease returns the lease of a server, renewed a third of [Config.LeaseTTL] ago at most.
func (x *externals) lease(ctx context.Context, server string, call externalCall) (Epoch, error) {
	l := x.of(server)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch != "" && l.epoch != call.refused && !call.keeps && time.Since(l.renewed) < x.store.cfg.LeaseTTL/3 {
		return l.epoch, nil
	}
	return x.renew(ctx, l, server, call)
}

// of returns what is known of a server, and forgets those that were not heard of for long.
func (x *externals) of(server string) *externalLease {
	x.mu.Lock()
	defer x.mu.Unlock()
	l, ok := x.byServer[server]
	if !ok {
		if len(x.byServer) >= 2*maxExternals {
			clear(x.byServer)
		}
		l = &externalLease{}
		x.byServer[server] = l
	}
	return l
}

// renew renews a lease, or takes one; l.mu is held.
func (x *externals) renew(ctx context.Context, l *externalLease, server string, call externalCall) (Epoch, error) {
	s, one := x.store, map[bool]string{true: "1"}
	known := l.epoch
	if time.Since(l.renewed) >= s.cfg.LeaseTTL {
		known = "" // perhaps it has ended
	}
	plain, _ := json.Marshal(externalRecord{Server: server}) // strings
	keeping, _ := json.Marshal(externalRecord{Server: server, Keeps: true})
	before := time.Now()
	reply, err := s.tableCall(ctx, externalScript, externalUID(server), plain, keeping, "~"+string(newEpoch()), string(known), l.gen,
		s.cfg.ExternalLease.Milliseconds(), one[call.keeps], one[call.started], s.cfg.Grace.Milliseconds(), string(call.refused), maxExternals)
	if err != nil {
		return "", err
	}
	if len(reply.epochs) == 0 {
		return "", fmt.Errorf("lease table: unexpected reply %v", reply)
	}
	epoch, ended := reply.epochs[0], reply.epochs[1:]
	if epoch != l.epoch || reply.gen != l.gen {
		s.log.Info("an external server has a lease", "epoch", epoch, "server", server, "ended", ended)
		// Gateways make the generations of partitions, if there are any.
		if _, err := s.generations(ctx, everyPartition()); err != nil {
			return "", err
		}
	}
	if err := s.markFenced(ctx, ended); err != nil {
		return "", err
	}
	l.epoch, l.gen, l.renewed = epoch, reply.gen, before
	return epoch, nil
}

// write writes a session under a lease. It returns the first word of the reply.
func (x *externals) write(ctx context.Context, k kind, e Epoch, session Session, until int64) (string, error) {
	part := Partition(session.User)
	l := &lease{epoch: e, index: new([Partitions]string)}
	l.index[part] = x.store.keys.indexKey(part, e)
	for range 3 {
		o := newOp(k, part, session)
		o.endedAt, o.cause = time.Now().UnixMilli(), feed.CauseLogout
		r := &request{part: part, args: o.encode(x.lanes, l, until)}
		start := time.Now()
		err := x.store.exchange(ctx, r)
		x.store.metrics.op(k, time.Since(start), err)
		reply, _, _ := strings.Cut(r.text(), " ")
		o.free() // not before, since it owns the arguments
		if err != nil {
			return "", err
		}
		buckets, other := strings.CutPrefix(reply, "B")
		if !other {
			return reply, nil
		}
		x.lanes.setBuckets(part, buckets)
	}
	return "", fmt.Errorf("last seen is being rearranged: %w", ErrUnavailable)
}

// restore enters leases of external servers again when the table was lost, for as long as they had them: gateways do so
// themselves, but an external server may not call for hours.
func (k *keeper) restore(ctx context.Context, t *table) error {
	last := k.last
	if last == nil || last.gen == t.gen {
		k.last = t
		return nil
	}
	for e, deadline := range last.deadlines {
		r := last.records[e]
		if !e.External() || !r.renewable || !last.live(e) {
			continue
		}
		body, _ := json.Marshal(externalRecord{Server: r.PodName, Keeps: r.Keeps})
		if _, err := k.tableCall(ctx, restoreScript, string(e), r.podUID, body, deadline-last.now, t.gen); err != nil {
			return fmt.Errorf("restore the lease of an external server: %w", err)
		}
	}
	k.last = t
	return nil
}
