package cluster_test

import (
	"net/netip"
	"testing"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/cluster"
)

func TestNewNetwork(t *testing.T) {
	for _, tc := range []struct {
		index                                  int
		host, node2, pods2, services, api, dns string
	}{
		{0, "198.18.0.1/24", "198.18.0.3/24", "198.18.3.0/24", "198.18.8.0/21", "198.18.8.1", "198.18.8.10"},
		{1, "198.18.16.1/24", "198.18.16.3/24", "198.18.19.0/24", "198.18.24.0/21", "198.18.24.1", "198.18.24.10"},
		{cluster.MaxIndex, "198.19.240.1/24", "198.19.240.3/24", "198.19.243.0/24", "198.19.248.0/21", "198.19.248.1", "198.19.248.10"},
	} {
		n, err := cluster.NewNetwork(tc.index)
		if err != nil {
			t.Fatal(err)
		}
		for what, pair := range map[string][2]string{
			"host": {n.Host.String(), tc.host}, "node 2": {n.NodeAddress(2).String(), tc.node2}, "pods of node 2": {n.NodePods(2).String(), tc.pods2},
			"services": {n.Services.String(), tc.services}, "API": {n.API.String(), tc.api}, "DNS": {n.DNS.String(), tc.dns},
		} {
			if pair[0] != pair[1] {
				t.Errorf("index %d: %s %s, want %s", tc.index, what, pair[0], pair[1])
			}
		}
	}
	for _, index := range []int{-1, cluster.MaxIndex + 1} {
		if _, err := cluster.NewNetwork(index); err == nil {
			t.Errorf("the index %d is no error", index)
		}
	}
}

func TestNetworksDoNotOverlap(t *testing.T) {
	lab := netip.MustParsePrefix("198.18.0.0/15")
	var all []netip.Prefix
	for index := range cluster.MaxIndex + 1 {
		n, err := cluster.NewNetwork(index)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []netip.Prefix{n.Host.Masked(), n.Pods, n.Services} {
			if p != p.Masked() || !lab.Overlaps(p) {
				t.Errorf("index %d: %s is no range within %s", index, p, lab)
			}
			for _, other := range all {
				if p.Overlaps(other) {
					t.Errorf("index %d: %s overlaps %s", index, p, other)
				}
			}
			all = append(all, p)
		}
	}
}
