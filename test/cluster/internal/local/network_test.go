package local

import (
	"net/netip"
	"testing"
)

func TestNetworkPartsAreDisjointAndWithinIt(t *testing.T) {
	for i := range networkCount {
		n := network{second: byte(firstNetwork + i)}
		link := netip.PrefixFrom(n.Host(), linkBits).Masked()
		parts := []netip.Prefix{n.Services(), n.Pods(), link}
		for i, part := range parts {
			if part.Masked() != part {
				t.Errorf("%v has host bits set", part)
			}
			if !n.All().Contains(part.Addr()) || part.Bits() < n.All().Bits() {
				t.Errorf("%v is not within %v", part, n.All())
			}
			if overlapsAny(part, parts[i+1:]) {
				t.Errorf("%v overlaps one of %v", part, parts[i+1:])
			}
		}
		for _, in := range []struct {
			prefix  netip.Prefix
			address netip.Addr
		}{{n.Services(), n.API()}, {n.Services(), n.DNS()}, {link, n.Node()}} {
			if !in.prefix.Contains(in.address) {
				t.Errorf("%v lacks %v", in.prefix, in.address)
			}
		}
	}
}

func TestChooseNetwork(t *testing.T) {
	first, err := chooseNetwork("imc", nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := chooseNetwork("imc", nil)
	if err != nil || again != first {
		t.Errorf("the same name has %v, then %v (%v)", first, again, err)
	}
	t.Run("avoids what is in use", func(t *testing.T) {
		used := []netip.Prefix{first.All()}
		for range networkCount - 1 {
			n, err := chooseNetwork("imc", used)
			if err != nil {
				t.Fatalf("with %d networks in use: %v", len(used), err)
			}
			if overlapsAny(n.All(), used) {
				t.Fatalf("%v overlaps one of %v", n.All(), used)
			}
			used = append(used, n.All())
		}
		if n, err := chooseNetwork("imc", used); err == nil {
			t.Errorf("chose %v although all are in use", n.All())
		}
	})
	t.Run("avoids a small network within", func(t *testing.T) {
		small := netip.PrefixFrom(first.address(77, 0), 24)
		n, err := chooseNetwork("imc", []netip.Prefix{small})
		if err != nil || n == first {
			t.Errorf("chose %v, %v, which overlaps %v", n, err, small)
		}
	})
}
