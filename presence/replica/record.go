package replica

import (
	"encoding/binary"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/imcluster/imcluster/presence/feed"
)

// A user's state is kept as one string: of a device of 8 bytes it takes 24, where a feed.State with its session takes 220.
// It is unpacked to be shown or changed, in 60 ns.
//
//	<last seen> <show> [<set> <hidden> <text>] {<epoch> <connection> <since> <platform> [<its text>] <device>}
//
// Numbers are varints, times count from packBegin, texts come after their length; epoch and platform are indexes of names.

// packBegin is the beginning of 2024, unix s.
const packBegin = 1704067200

// maxPlatforms is how many names of platforms are kept: clients make them up.
const maxPlatforms = 1000

// names gives numbers to epochs and platforms. Only the goroutine of Run adds; everybody may look one up.
type names struct {
	epochs    naming[feed.Epoch]
	platforms naming[string]
}

func newNames() *names {
	n := &names{}
	n.epochs.list.Store(new([]feed.Epoch))
	n.platforms.list.Store(new([]string))
	n.platforms.number("") // 0
	return n
}

// naming numbers names from 0 on. It forgets none: a gateway that starts a thousand times costs 16 KB.
type naming[T comparable] struct {
	numbers map[T]uint64
	list    atomic.Pointer[[]T]
}

// number returns the number of a name, which it gives it if need be.
func (n *naming[T]) number(name T) uint64 {
	if i, ok := n.numbers[name]; ok {
		return i
	}
	if n.numbers == nil {
		n.numbers = map[T]uint64{}
	}
	list := append(slices.Clone(*n.list.Load()), name)
	n.list.Store(&list)
	i := uint64(len(list) - 1)
	n.numbers[name] = i
	return i
}

func (n *naming[T]) name(i uint64) (name T) {
	if list := *n.list.Load(); i < uint64(len(list)) {
		return list[i]
	}
	return name
}

// shows are the numbers of what a status shows; 0 stands for no status at all.
var shows = []string{"", feed.ShowOnline, feed.ShowAway, feed.ShowBusy, feed.ShowInvisible}

// pack appends a state to b. Addresses of sessions are not kept.
func (n *names) pack(b []byte, s *feed.State) []byte {
	b = binary.AppendUvarint(b, since(s.LastSeen))
	show := slices.Index(shows, s.Status.Show)
	if s.Status == (feed.Standing{}) {
		show = 0
	}
	b = append(b, byte(show))
	if show > 0 {
		b = binary.AppendVarint(b, s.Status.Set)
		b = binary.AppendUvarint(b, since(s.Status.Hidden))
		b = appendText(b, s.Status.Text)
	}
	for i := range s.Sessions {
		o := &s.Sessions[i]
		b = binary.AppendUvarint(b, n.epochs.number(o.Epoch))
		b = binary.AppendUvarint(b, o.Conn)
		b = binary.AppendVarint(b, o.Since-packBegin*1000)
		if len(n.platforms.numbers) < maxPlatforms {
			n.platforms.number(o.Platform)
		}
		if i, ok := n.platforms.numbers[o.Platform]; ok {
			b = binary.AppendUvarint(b, i+1)
		} else {
			b = appendText(append(b, 0), o.Platform)
		}
		b = appendText(b, o.Device)
	}
	return b
}

// since is a time in s as it is packed: 0 stays 0.
func since(unix int64) uint64 { return uint64(max(0, unix-packBegin)) }

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// unpack reads what pack wrote. The strings share the memory of text.
func (n *names) unpack(text string) (s feed.State) {
	u := unpacker{rest: text}
	s.LastSeen = u.unix()
	if show := u.byte(); show > 0 {
		s.Status.Show = shows[show]
		s.Status.Set = u.varint()
		s.Status.Hidden = u.unix()
		s.Status.Text = u.text()
	}
	for u.rest != "" {
		s.Sessions = append(s.Sessions, u.session(n))
	}
	return s
}

// unpacker reads a packed state, which nobody but pack has written.
type unpacker struct{ rest string }

func (u *unpacker) byte() byte {
	b := u.rest[0]
	u.rest = u.rest[1:]
	return b
}

func (u *unpacker) uvarint() (x uint64) {
	for shift := 0; ; shift += 7 {
		b := u.byte()
		x |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return x
		}
	}
}

func (u *unpacker) varint() int64 {
	x := u.uvarint()
	return int64(x>>1) ^ -int64(x&1)
}

func (u *unpacker) unix() int64 {
	if x := u.uvarint(); x > 0 {
		return int64(x) + packBegin
	}
	return 0
}

func (u *unpacker) text() string {
	n := u.uvarint()
	text := u.rest[:n]
	u.rest = u.rest[n:]
	return text
}

func (u *unpacker) session(n *names) (s feed.Session) {
	s.Epoch = n.epochs.name(u.uvarint())
	s.Conn = u.uvarint()
	s.Since = u.varint() + packBegin*1000
	if i := u.uvarint(); i > 0 {
		s.Platform = n.platforms.name(i - 1)
	} else {
		s.Platform = u.text()
	}
	s.Device = u.text()
	return s
}

// pods are the names of the pods of epochs, as the lease table had them last. Those of epochs that it has forgotten stay.
type pods struct {
	byEpoch atomic.Pointer[map[feed.Epoch]string]
}

func (p *pods) of(e feed.Epoch) string { return (*p.byEpoch.Load())[e] }

// set takes over the names of living epochs, and returns whether there are new ones.
func (p *pods) set(live map[feed.Epoch]string) bool {
	known, changed := *p.byEpoch.Load(), false
	for e, pod := range live {
		if known[e] != pod {
			changed = true
		}
	}
	if changed {
		next := maps.Clone(known)
		maps.Copy(next, live)
		p.byEpoch.Store(&next)
	}
	return changed
}
