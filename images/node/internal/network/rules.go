package network

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"

	"k3arm.dev/images/node/internal/logging"
)

// Rules names the parts whose rules are wanted.
type Rules struct {
	NodeAddress   string
	PodCIDR       string
	Ranges        Ranges
	Port          int
	KubeProxy     bool
	NetworkPolicy bool
	Flannel       bool
}

// Apply adds the chains and rules. A second start finds its own of the first and leaves them.
func (r Rules) Apply() error {
	for _, table := range []string{"mangle", "nat", "filter"} {
		if err := restore("iptables", table, r.text(table)); err != nil {
			return err
		}
	}
	for _, table := range []string{"mangle", "nat", "filter"} {
		// The kubelet's canaries are there for IPv6 too; a host without it is none the worse.
		if err := restore("ip6tables", table, canary("KUBE-KUBELET-CANARY")); err != nil {
			logging.Klog('W', "iptables.go:577", "\"Could not set up iptables canary\" err=%q table=%q chain=\"KUBE-KUBELET-CANARY\"", err, table)
		}
	}
	return nil
}

func canary(name string) string { return ":" + name + " - [0:0]\n" }

// text gives a table's lines in the form that iptables-save prints, so that those that are there already can be found.
func (r Rules) text(table string) string {
	parts := []string{kubeletRules[table]}
	if r.KubeProxy {
		parts = append(parts, proxyRules[table])
	}
	if r.NetworkPolicy {
		parts = append(parts, policyRules[table])
	}
	if r.Flannel {
		parts = append(parts, flannelRules[table])
	}
	values := strings.NewReplacer(
		"NODE_IP", r.NodeAddress, "POD_CIDR", r.PodCIDR, "API_PORT", fmt.Sprint(r.Port), "CLUSTER_CIDR", r.Ranges.Cluster,
		"SERVICE_CIDR", r.Ranges.Service, "API_ADDRESS", r.Ranges.APIAddress().String(),
	)
	return values.Replace(strings.Join(parts, ""))
}

// restore feeds a table to iptables-restore. Chains of our own are made anew with their rules; rules in the built-in chains,
// which belong to everybody, are added only where they are missing.
func restore(command, table, text string) error {
	present := map[string]bool{}
	saved, err := exec.Command(command+"-save", "-t", table).Output()
	if err != nil {
		return fmt.Errorf("%s-save -t %s: %w", command, table, err)
	}
	for _, line := range strings.Split(string(saved), "\n") {
		present[strings.TrimSpace(line)] = true
	}
	input := "*" + table + "\n"
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line != "" && !(inBuiltIn(line) && present[line]) {
			input += line + "\n"
		}
	}
	run := exec.Command(command+"-restore", "--noflush", "-w", "5")
	run.Stdin = strings.NewReader(input + "COMMIT\n")
	var complaint bytes.Buffer
	run.Stderr = &complaint
	if err := run.Run(); err != nil {
		return fmt.Errorf("%s-restore: table %s: %w: %s", command, table, err, strings.TrimSpace(complaint.String()))
	}
	return nil
}

func inBuiltIn(line string) bool {
	for _, chain := range []string{"INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING"} {
		if strings.HasPrefix(line, "-A "+chain+" ") {
			return true
		}
	}
	return false
}
