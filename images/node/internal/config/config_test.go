package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k3arm.dev/images/node/internal/logging"
)

// inFile writes a configuration with drop-ins and loads it.
func inFile(t *testing.T, role Role, content string, dropIns map[string]string, arguments ...string) (*Settings, string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, content)
	for name, dropIn := range dropIns {
		write(t, filepath.Join(path+".d", name), dropIn)
	}
	t.Setenv("K3S_CONFIG_FILE", path)
	var log bytes.Buffer
	logging.SetOutput(&log)
	defer logging.SetOutput(os.Stderr)
	settings, err := Load(role, arguments)
	return settings, log.String(), err
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFileAndCommandLineAreMerged(t *testing.T) {
	settings, _, err := inFile(t, Server, "node-label: [a=1, b=2]\ndisable: traefik\ncluster-init: true\nhttps-listen-port: 7443\nt: short\n",
		map[string]string{"50.yaml": "node-label+: c=3\ndisable: servicelb\n", "ignored.txt": "[", "60.yml": "node-label+: [d=4]\n"},
		"--node-label", "e=5", "--https-listen-port=8443")
	if err != nil {
		t.Fatal(err)
	}
	if got := settings.List("node-label"); !reflect.DeepEqual(got, []string{"a=1", "b=2", "c=3", "d=4", "e=5"}) {
		t.Errorf("node-label: %v", got)
	}
	if got := settings.Fields("disable"); !reflect.DeepEqual(got, []string{"servicelb"}) {
		t.Errorf("a later file replaces: %v", got)
	}
	if !settings.On("cluster-init") || settings.Number("https-listen-port") != 8443 || settings.Text("token") != "short" {
		t.Errorf("settings: %+v", settings)
	}
	if settings.Text("flannel-backend") != "vxlan" {
		t.Errorf("default: %q", settings.Text("flannel-backend"))
	}
}

func TestUnknownNames(t *testing.T) {
	_, log, err := inFile(t, Server, "no-such-flag: 1\n", nil)
	if err != nil || !strings.Contains(log, `level=warning msg="Unknown flag --no-such-flag found in config.yaml, skipping\n"`) {
		t.Errorf("a server only warns: %v, %s", err, log)
	}
	_, _, err = inFile(t, Agent, "tls-san: x\n", nil)
	var usage UsageError
	if !errors.As(err, &usage) || err.Error() != "flag provided but not defined: -tls-san" {
		t.Errorf("an agent fails: %v", err)
	}
	if _, _, err = inFile(t, Server, "", nil, "--nope"); !errors.As(err, &usage) {
		t.Errorf("the command line is checked: %v", err)
	}
}

func TestBrokenFile(t *testing.T) {
	_, _, err := inFile(t, Server, "node-ip: [1", nil)
	var file FileError
	if !errors.As(err, &file) || err.Error() != "yaml: line 1: did not find expected ',' or ']'" {
		t.Errorf("got %v", err)
	}
}

func TestWrongValue(t *testing.T) {
	_, _, err := inFile(t, Server, "https-listen-port: many", nil)
	if err == nil || err.Error() != `invalid value "many" for flag -https-listen-port: parse error` {
		t.Errorf("got %v", err)
	}
}

func TestUsageIsLong(t *testing.T) {
	var text bytes.Buffer
	Usage(&text, Server)
	if lines := strings.Count(text.String(), "\n"); lines < 200 {
		t.Errorf("%d lines", lines)
	}
}
