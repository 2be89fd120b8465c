package local

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
)

// network is what a cluster uses of the address space: one /16 of 10.0.0.0/8, which the host routes to the node.
//
//	10.x.0.0/20      Services; .0.1 is the API server, .0.10 is DNS
//	10.x.64.0/30     the link: .64.1 is the host, .64.2 is the node
//	10.x.128.0/22    pods
type network struct{ second byte }

// The /16s that clusters choose from: high ones, which home routers, clouds' defaults, Docker and kind leave alone.
const (
	firstNetwork = 224
	networkCount = 24
)

func (n network) address(third, fourth byte) netip.Addr {
	return netip.AddrFrom4([4]byte{10, n.second, third, fourth})
}

func (n network) All() netip.Prefix      { return netip.PrefixFrom(n.address(0, 0), 16) }
func (n network) Services() netip.Prefix { return netip.PrefixFrom(n.address(0, 0), 20) }
func (n network) API() netip.Addr        { return n.address(0, 1) }
func (n network) DNS() netip.Addr        { return n.address(0, 10) }
func (n network) Host() netip.Addr       { return n.address(64, 1) }
func (n network) Node() netip.Addr       { return n.address(64, 2) }
func (n network) Pods() netip.Prefix     { return netip.PrefixFrom(n.address(128, 0), 22) }

// linkBits is the prefix length of the link between host and node.
const linkBits = 30

// chooseNetwork picks a network for a cluster: always the same one for a name, unless it overlaps a prefix in use.
func chooseNetwork(name string, used []netip.Prefix) (network, error) {
	sum := fnv.New32a()
	sum.Write([]byte(name))
	start := int(sum.Sum32() % networkCount)
	for i := range networkCount {
		n := network{second: byte(firstNetwork + (start+i)%networkCount)}
		if !overlapsAny(n.All(), used) {
			return n, nil
		}
	}
	return network{}, fmt.Errorf("no free network: each of 10.%d.0.0/16 to 10.%d.0.0/16 overlaps an address of this machine "+
		"or another cluster", firstNetwork, firstNetwork+networkCount-1)
}

func overlapsAny(prefix netip.Prefix, others []netip.Prefix) bool {
	return slices.ContainsFunc(others, prefix.Overlaps)
}

// hostPrefixes are the networks that this machine has addresses in.
func hostPrefixes() ([]netip.Prefix, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the machine's addresses: %w", err)
	}
	var prefixes []netip.Prefix
	for _, address := range addresses {
		prefix, err := netip.ParsePrefix(address.String())
		// A machine whose own network is all of 10.0.0.0/8 would leave nothing; a /16 of it is a fair guess to be unused.
		if err == nil && prefix.Bits() > 8 {
			prefixes = append(prefixes, prefix)
		}
	}
	return prefixes, nil
}
