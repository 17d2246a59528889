// Package cluster is what runs: the Kubernetes components of a lab, their certificates and settings, and the order in
// which they start.
package cluster

import (
	"fmt"
	"net/netip"
)

// MaxIndex is the highest index of a lab: 198.18.0.0/15, the range for benchmarks that is never routed (RFC 2544),
// holds 32 labs of 4096 addresses.
const MaxIndex = 31

// labBits is the length of a lab's share of that range.
const labBits = 20

// Network is the addresses of one lab.
type Network struct {
	// Host is the machine's end of the link to the lab, with the range of the nodes.
	Host netip.Prefix
	// Pods holds a /24 for each node.
	Pods netip.Prefix
	// Services are virtual: no link has them.
	Services netip.Prefix
	// API is the address of the Service kubernetes, DNS that of the cluster's name server.
	API, DNS netip.Addr
}

// NewNetwork returns the addresses of the lab with the index, from 0 to MaxIndex.
func NewNetwork(index int) (Network, error) {
	if index < 0 || index > MaxIndex {
		return Network{}, fmt.Errorf("the lab's index is %d: it has to be from 0 to %d", index, MaxIndex)
	}
	at := func(offset int) netip.Addr {
		n := 198<<24 | 18<<16 | index<<(32-labBits) + offset
		return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	return Network{
		Host:     netip.PrefixFrom(at(1), 24),
		Pods:     netip.PrefixFrom(at(2<<8), 23),
		Services: netip.PrefixFrom(at(8<<8), 21),
		API:      at(8<<8 + 1),
		DNS:      at(8<<8 + 10),
	}, nil
}

// NodeAddress is the address of a node, counted from 1, with the range of the nodes.
func (n Network) NodeAddress(node int) netip.Prefix {
	a := n.Host.Addr()
	for range node {
		a = a.Next()
	}
	return netip.PrefixFrom(a, n.Host.Bits())
}

// NodePods is the range of the pods of a node, counted from 1.
func (n Network) NodePods(node int) netip.Prefix {
	b := n.Pods.Addr().As4()
	b[2] += byte(node - 1)
	return netip.PrefixFrom(netip.AddrFrom4(b), 24)
}
