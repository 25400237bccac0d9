package network

import (
	"strings"
	"testing"
)

// count is what `iptables-save | grep -cE 'KUBE|CNI|FLANNEL'` would print.
func count(r Rules) int {
	n := 0
	for _, table := range []string{"mangle", "nat", "filter"} {
		for _, line := range strings.Split(r.text(table), "\n") {
			if strings.Contains(line, "KUBE") || strings.Contains(line, "FLANNEL") {
				n++
			}
		}
	}
	return n
}

func TestNumberOfRules(t *testing.T) {
	all := Rules{NodeAddress: "10.0.0.1", PodCIDR: "10.42.0.0/24", Ranges: Ranges{"10.42.0.0/16", "10.43.0.0/16"}, Port: 6443, KubeProxy: true, NetworkPolicy: true, Flannel: true}
	if n := count(all); n != 79 {
		t.Errorf("%d rules, the real ones are 79", n)
	}
	all.NetworkPolicy = false
	if n := count(all); n != 59 {
		t.Errorf("%d rules without network policies, the real ones are 59", n)
	}
}

func TestRanges(t *testing.T) {
	r := Ranges{"10.8.0.0/22", "10.9.0.0/16"}
	for n, want := range []string{"10.8.0.0/24", "10.8.1.0/24", "10.8.2.0/24", "10.8.3.0/24", ""} {
		if got := r.NodeRange(n); got != want {
			t.Errorf("node %d: %q", n, got)
		}
	}
	if got := r.APIAddress().String(); got != "10.9.0.1" {
		t.Errorf("API: %s", got)
	}
}
