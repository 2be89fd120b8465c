package store

import (
	"fmt"
	"strconv"
	"testing"
	"time"
)

func TestPartitionTagsAreEven(t *testing.T) {
	for p := range Partitions {
		if slot := clusterSlot(tag(p)); slot/128 != p {
			t.Errorf("tag %q of partition %d is in slot %d", tag(p), p, slot)
		}
	}
	// From the Redis Cluster specification.
	if got := clusterSlot("123456789"); got != 0x31C3 {
		t.Errorf("slot of 123456789: %#x", got)
	}
}

func TestPartitionsOfUsersNeverChange(t *testing.T) {
	for user, want := range map[string]int{"": 25, "alice": 73, "2": 11} {
		if got := Partition(user); got != want {
			t.Errorf("Partition(%q) = %d, want %d: existing data would be lost", user, got, want)
		}
	}
}

func TestBucketsSplitLinearly(t *testing.T) {
	for n := 1; n < 40; n++ {
		from, modulus := splitBucket(n)
		for i := range 2000 {
			field := fmt.Sprint("user", i)
			old, fresh := seenBucket(field, n), seenBucket(field, n+1)
			if old < 0 || old >= n {
				t.Fatalf("bucket %d of %d", old, n)
			}
			switch {
			case old == fresh:
			case old == from && fresh == n:
			default:
				t.Fatalf("with one bucket more than %d a user moves from %d to %d", n, old, fresh)
			}
			if stays := int(seenHash(field))%modulus == from; old == from && stays != (fresh == from) {
				t.Fatalf("the script would leave a user of bucket %d in %d", fresh, from)
			}
		}
	}
}

// The times of last seen begin again every 194 days. For as long as they are kept they are read as they were written.
func TestLastSeenIsReadAsItWasWritten(t *testing.T) {
	r := startRedis(t)
	for _, now := range []int64{1763748000, 107 * seenWindow, 107*seenWindow - 1, 107*seenWindow + 1, 120*seenWindow + 77} {
		for _, ago := range []time.Duration{0, time.Second, time.Hour, 7 * 24 * time.Hour, maxRetention, -time.Minute, -12 * 24 * time.Hour} {
			at := now - int64(ago/time.Second)
			script := seenLua + "return packSeen(tonumber(ARGV[1]), tonumber(ARGV[2]))"
			entry := textOf(r.MustDo("EVAL", script, "0", strconv.FormatInt(at, 10), "54321"))
			if got := parseSeen(entry, now); got != at || len(entry) != 5 {
				t.Fatalf("%d, which is %s before %d, is read as %d", at, ago, now, got)
			}
			script = seenLua + "local at, device = unpackSeen(ARGV[1], tonumber(ARGV[2])); return {at, device}"
			got := r.MustDo("EVAL", script, "0", entry, strconv.FormatInt(now+seenAhead, 10))
			if want := []any{at, int64(54321)}; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("the script reads %v, want %v", got, want)
			}
		}
	}
}
