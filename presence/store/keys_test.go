package store

import (
	"fmt"
	"testing"
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
