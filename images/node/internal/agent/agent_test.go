package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k3arm.dev/images/node/internal/config"
)

func settings(t *testing.T, arguments ...string) *config.Settings {
	t.Helper()
	t.Setenv("K3S_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	s, err := config.Load(config.Server, append(arguments, "--data-dir", t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKubeletRefusals(t *testing.T) {
	for _, c := range []struct {
		arguments []string
		v1        bool
		want      string
	}{
		{nil, false, ""},
		{nil, true, "kubelet is configured to not run on a host using cgroup v1"},
		{[]string{"--kubelet-arg=fail-cgroupv1=false"}, true, ""},
		{[]string{"--kubelet-arg=--fail-cgroupv1=false"}, true, ""},
		{[]string{"--kubelet-arg=fail-cgroupv1=true"}, true, "cgroup v1"},
		{[]string{"--kubelet-arg=max-pods=5", "--kubelet-arg=nope=1"}, false, "failed to parse kubelet flag: unknown flag: --nope"},
	} {
		err := kubeletRefusal(settings(t, c.arguments...), c.v1)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, v1 %v: %v", c.arguments, c.v1, err)
		}
	}
}

func TestKubeletDropIn(t *testing.T) {
	s := settings(t)
	directory := filepath.Join(s.Text("data-dir"), "agent", "etc", "kubelet.conf.d")
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, "99.conf"), []byte("kind: KubeletConfiguration\nfailCgroupV1: false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := kubeletRefusal(s, true); err != nil {
		t.Error(err)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	for _, arguments := range [][]string{{"--token=hush"}, {"--token", "hush"}, {"-t", "hush"}, {"--agent-token=hush"}} {
		if shown := strings.Join(masked(settings(t, arguments...)), " "); strings.Contains(shown, "hush") || !strings.Contains(shown, "********") {
			t.Errorf("%v: %s", arguments, shown)
		}
	}
}

func TestTaints(t *testing.T) {
	n := &node{Join: Join{Settings: settings(t, "--node-taint=a=b:NoSchedule", "--node-taint=c:NoExecute")}}
	taints := n.taints()
	last := taints[len(taints)-1].(object)
	if len(taints) != 3 || taints[1].(object)["value"] != "b" || last["key"] != "c" || last["effect"] != "NoExecute" {
		t.Errorf("%v", taints)
	}
}
