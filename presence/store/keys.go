package store

import (
	"crypto/sha1" //nolint:gosec // spreads entries over buckets, nothing secret
	"encoding/binary"
	"math/bits"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
)

// This file is the only place that builds keys. docs/redis-model.md lists them.

// Partitions is the number of partitions that users are spread over. It is fixed for the life of the data.
const Partitions = 128

// gateways is the pseudo-partition of the lease table.
const gateways = Partitions

// Partition returns the partition of a user, from 0 to Partitions-1.
func Partition(user string) int { return int(xxhash.Sum64String(user) % Partitions) }

// partitionTags are the hash tags of the partitions, two characters each. The slot of tag i lies in the i-th of 128 equal
// ranges of the 16,384 slots, so that any division of the slots into contiguous shares divides the partitions alike:
// three nodes get 43, 42 and 43. They must never change.
const partitionTags = "soskk6k2cgcccockpfpbovor36psx7x3r1jdr9utzhzlexb5iiimvyq4yayea8fu" +
	"bmbi9uz0reramumqady1aly9qlqhi5i1c3c7drdvkjkntzs7xkxoxcxghchg42ww" +
	"momk6wu29o9kbwbsnfnb27qravarf7f30htdl9ktdhdl89ddwiwmhyo4gagexqxu" +
	"8e8ad4d0lela04sqg5g1pmg9oloh4tw1ebef93zvujunjzm7fkfofcfgvcvgisiw"

const gatewayTag = "gw"

// tag returns the hash tag of a partition or of the lease table, without braces.
func tag(part int) string {
	if part == gateways {
		return gatewayTag
	}
	return partitionTags[2*part : 2*part+2]
}

// keys holds the keys that do not depend on a user, built once.
type keys struct {
	// In the slot of the lease table.
	clock, live, records, bans, owner string
	control                           string
	hookStatus                        string
	table                             []string // all six, in the order of clock.lua

	meta  [Partitions]string // generation, bucket count, marks of epochs
	user  [Partitions]string // prefix of a user's hash
	index [Partitions]string // prefix of an epoch's session index
	seen  [Partitions]string // prefix of a last-seen bucket
	mail  [Partitions]string // prefix of a mailbox
	ring  [Partitions]string // prefix of the last ids of a mailbox

	revoked [Partitions]string // prefix of a user's revocations
	group   [Partitions]string // prefix of a group
	members [Partitions]string // prefix of a group's members
	sent    [Partitions]string // prefix of the ids of a group's messages

	feed    [Partitions]string // stream of facts
	hidden  [Partitions]string // invisible users with sessions
	owned   [Partitions]string // prefix of the groups that a user owns
	counted [Partitions]string // prefix of the mark that they were looked at

	hook [Partitions]string // lease of who tells the hooks' receiver
	told [Partitions]string // what it was told
}

func newKeys(prefix string) *keys {
	gw := prefix + "{" + gatewayTag + "}:"
	k := &keys{clock: gw + "t", live: gw + "live", records: gw + "i", bans: gw + "ban", owner: gw + "owner", control: gw + "ctl", hookStatus: gw + "hk"}
	k.table = []string{k.clock, k.live, k.records, k.bans, k.owner, k.control}
	for p := range Partitions {
		t := ":{" + tag(p) + "}"
		k.meta[p] = prefix + "m" + t
		k.user[p] = prefix + "u" + t + ":"
		k.index[p] = prefix + "gs" + t + ":"
		k.seen[p] = prefix + "ls" + t + ":"
		k.mail[p] = prefix + "mb" + t + ":"
		k.ring[p] = prefix + "id" + t + ":"
		k.revoked[p] = prefix + "rv" + t + ":"
		k.group[p] = prefix + "g" + t + ":"
		k.members[p] = prefix + "gm" + t + ":"
		k.sent[p] = prefix + "gd" + t + ":"
		k.feed[p] = prefix + "f" + t
		k.hidden[p] = prefix + "iv" + t
		k.owned[p] = prefix + "go" + t + ":"
		k.counted[p] = prefix + "gc" + t + ":"
		k.hook[p] = prefix + "hk" + t
		k.told[p] = prefix + "hb" + t
	}
	return k
}

func (k *keys) userKey(part int, user string) string { return k.user[part] + user }

func (k *keys) revokedKey(part int, user string) string { return k.revoked[part] + user }

// groupKeys are the keys of a group, in the order of group.lua.
func (k *keys) groupKeys(part int, group string) []string {
	return []string{k.group[part] + group, k.members[part] + group, k.sent[part] + group}
}

// ownedKeys are the keys of the groups that a user owns, in the order of groupclaim.lua.
func (k *keys) ownedKeys(part int, user string) []string {
	return []string{k.owned[part] + user, k.counted[part] + user}
}

func (k *keys) mailKey(part int, user string) string { return k.mail[part] + user }

func (k *keys) ringKey(part int, user string) string { return k.ring[part] + user }

func (k *keys) indexKey(part int, e Epoch) string { return k.index[part] + string(e) }

func (k *keys) seenKey(part, bucket int) string { return k.seen[part] + strconv.Itoa(bucket) }

// Fields of the meta hash. In the hash of a user, a session is the field "s" + device.
const (
	generationField = "g"
	bucketsField    = "b"
	revisionField   = "r"
	doneField       = "done:" // + epoch: the generation of which the epoch has registered everything
	fencedField     = "x:"    // + epoch: the epoch may not write
	deadMark        = "d"     // begins the value of fencedField if the epoch is dead: then follows when it ended
	statusField     = "t"     // in the hash of a user
)

// longID is from which length on a user is remembered by a hash of the id: a value above hash-max-listpack-value (64
// bytes) would turn the whole bucket into a hash table, four times the size for everybody in it.
const longID = 40

// seenField returns the field of a user in a last-seen bucket.
func seenField(user string) string {
	if len(user) <= longID {
		return user
	}
	sum := sha1.Sum([]byte(user)) //nolint:gosec // see longID
	return "\x00" + string(sum[:16])
}

// deviceHash is what an entry of last seen keeps of the device: 16 bits, so that of 100,000 users who change to another
// device less than two are taken for who did not.
func deviceHash(user, device string) int {
	return int(xxhash.Sum64String(indexEntry(user, device)) % (1 << 16))
}

const (
	// seenWindow is after how many seconds the times of last seen begin again: 194 days.
	seenWindow = 1 << 24
	// seenAhead is how far clocks may differ, in s: an entry that is later than now by less is not one of 194 days ago.
	seenAhead = seenWindow / 16
	// maxRetention is for how long entries are kept at most: that of an invisible user is compared with times of as long ago, so it
	// is less than half the window.
	maxRetention = 90 * 24 * time.Hour
)

// parseSeen returns the unix second of an entry of last seen, as seen.lua writes them, at the unix second now; 0 if it is
// none.
func parseSeen(entry string, now int64) int64 {
	if len(entry) != 5 {
		return intOf(entry) // of version 0.2
	}
	at := int64(entry[0])<<16 | int64(entry[1])<<8 | int64(entry[2])
	latest := now + seenAhead
	return latest - (latest-at)%seenWindow
}

// seenHash spreads last-seen fields over buckets. It is SHA-1 because split.lua must compute it too.
func seenHash(field string) uint32 {
	sum := sha1.Sum([]byte(field)) //nolint:gosec // not for security
	return binary.BigEndian.Uint32(sum[:4])
}

// seenBucket returns the bucket of a field when there are n: linear hashing (Litwin 1980), in which the n-th bucket is
// split off bucket n - 2^floor(log2 n).
func seenBucket(field string, n int) int {
	if n == 1 {
		return 0
	}
	hash := seenHash(field)
	level := uint32(1) << (bits.Len(uint(n)) - 1)
	i := hash % (2 * level)
	if i >= uint32(n) {
		i -= level
	}
	return int(i)
}

// indexEntry is the field of a session in the index of its epoch.
func indexEntry(user, device string) string { return user + "\x00" + device }

// clusterSlot is the slot of a hash tag: CRC-16/XMODEM modulo 16,384, as the Redis Cluster specification has it.
func clusterSlot(tag string) int {
	var crc uint16
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc % 16384)
}
