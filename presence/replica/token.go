package replica

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/imcluster/imcluster/presence/store"
)

// A token says up to where a watcher was told: base64url of
//
//	<version> <digest, 8 bytes> {<revision of a partition + 1, varint>}
//
// with the partitions that the users are in, in order; 0 of a partition of which somebody could not be told yet, so that
// who resumes is told of all in it. The digest is of what the revisions count: how many partitions there are, whom the watcher
// is for, and the generations. 20 users make 50 characters, everybody 200 to 400.
const tokenVersion = 1

// userSet is whom a subscription is for, as far as tokens are concerned.
type userSet struct {
	all   bool
	count uint64
	sum   uint64 // of the hashes of the users, in no order
	parts []partCount

	known   uint64 // the last digest, if it is of
	knownAt uint64 // these generations, which are never 0
	scratch []byte
}

type partCount struct {
	part        uint8
	users, owed uint32
}

func partitionOf(user string) int { return store.Partition(user) }

func (s *userSet) add(user string, part int) {
	s.count++
	s.knownAt = 0
	s.sum += scatter(xxhash.Sum64String(user))
	i, found := s.find(part)
	if !found {
		s.parts = slices.Insert(s.parts, i, partCount{part: uint8(part)})
	}
	s.parts[i].users++
}

func (s *userSet) remove(user string, part int) {
	s.count--
	s.knownAt = 0
	s.sum -= scatter(xxhash.Sum64String(user))
	i, _ := s.find(part)
	if s.parts[i].users--; s.parts[i].users == 0 {
		s.parts = slices.Delete(s.parts, i, i+1)
	}
}

// owe counts the users of a partition who are owed something.
func (s *userSet) owe(part, by int) {
	i, _ := s.find(part)
	s.parts[i].owed += uint32(by)
}

func (s *userSet) find(part int) (int, bool) {
	return slices.BinarySearchFunc(s.parts, part, func(c partCount, p int) int { return int(c.part) - p })
}

// scatter makes sums of hashes as good as hashes: the finalizer of splitmix64 (Steele, Lea, Flood 2014).
func scatter(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// touched yields the partitions that the users are in, in order.
func (s *userSet) touched(yield func(int) bool) {
	if s.all {
		for p := range store.Partitions {
			if !yield(p) {
				return
			}
		}
		return
	}
	for _, c := range s.parts {
		if !yield(int(c.part)) {
			return
		}
	}
}

// digest is what the revisions of a token belong to.
func (s *userSet) digest(marks []*mark) uint64 {
	b := make([]byte, 0, 32+24*len(marks))
	b = append(b, store.Partitions)
	if s.all {
		b = append(b, 1)
	}
	b = binary.BigEndian.AppendUint64(b, s.count)
	b = binary.BigEndian.AppendUint64(b, s.sum)
	for _, m := range marks {
		b = append(append(b, m.generation...), 0)
	}
	return xxhash.Sum64(b)
}

func (s *userSet) marks(of *[store.Partitions]atomic.Pointer[mark]) []*mark {
	n := len(s.parts)
	if s.all {
		n = store.Partitions
	}
	marks := make([]*mark, 0, n)
	for p := range s.touched {
		marks = append(marks, of[p].Load())
	}
	return marks
}

// token returns the token for what was told up to the marks of the hub. A digest of a hundred generations takes 2 µs, and so is
// kept until one is another.
func (s *userSet) token(h *hub) string {
	if at := h.generations.Load(); at != s.knownAt {
		s.known, s.knownAt = s.digest(s.marks(&h.marks)), at
	}
	b := s.scratch[:0]
	b = append(b, tokenVersion)
	b = binary.BigEndian.AppendUint64(b, s.known)
	if s.all {
		for p := range h.marks {
			b = binary.AppendUvarint(b, h.marks[p].Load().revision+1)
		}
	}
	for i := range s.parts {
		if c := &s.parts[i]; c.owed > 0 {
			b = append(b, 0)
		} else {
			b = binary.AppendUvarint(b, h.marks[c.part].Load().revision+1)
		}
	}
	s.scratch = b
	return base64.RawURLEncoding.EncodeToString(b)
}

// parseToken reads a token for so many partitions.
func parseToken(token string, parts int) (digest uint64, revisions []uint64, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) < 9 || b[0] != tokenVersion {
		return 0, nil, false
	}
	digest, b = binary.BigEndian.Uint64(b[1:]), b[9:]
	for range parts {
		r, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, nil, false
		}
		revisions, b = append(revisions, r), b[n:]
	}
	return digest, revisions, len(b) == 0
}
