// Package agent is the part that every node runs: it joins a server, and then plays containerd, the kubelet, flannel and
// kube-proxy as far as others can see them.
package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k3arm.dev/images/node/internal/config"
	"k3arm.dev/images/node/internal/logging"
	"k3arm.dev/images/node/internal/network"
	"k3arm.dev/images/node/internal/process"
	"k3arm.dev/images/node/internal/timing"
	"k3arm.dev/images/node/internal/token"
	"k3arm.dev/images/node/internal/version"
)

// Join says which cluster a node belongs to.
type Join struct {
	Settings *config.Settings
	Server   string
	Token    token.Token
	// Ready tells a server's own agent that the interface is ready; an agent elsewhere has nil.
	Ready func() bool
}

// node is a running agent.
type node struct {
	Join
	name      string
	address   net.IP
	directory string // the agent's, below the data directory
	authority []byte
	cluster   clusterConfig
	started   time.Time
	reported  time.Time // when the status was last sent
	shutdown  *process.Shutdown
}

// RunRole runs an agent that has no server beside it.
func RunRole(settings *config.Settings, shutdown *process.Shutdown) error {
	text := settings.Text("token")
	if path := settings.Text("token-file"); path != "" {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text = strings.TrimSpace(string(content))
	}
	joined := loadCertificate(clientFiles(settings)) != nil
	switch {
	case text == "" && !joined:
		return errors.New("--token is required")
	case settings.Text("server") == "":
		return errors.New("--server is required")
	}
	logging.Info("Starting k3s agent %s (%s)", version.K3s, version.Commit)
	parsed, err := token.Parse(text)
	if err != nil && !joined {
		return waitForEver(shutdown, settings.Text("server"), err)
	}
	parsed.User = "node"
	Occupy(shutdown.Context, fmt.Sprintf("127.0.0.1:%d", settings.Number("lb-server-port")))
	return Run(Join{Settings: settings, Server: strings.TrimRight(settings.Text("server"), "/"), Token: parsed}, shutdown)
}

func clientFiles(settings *config.Settings) (certFile, keyFile string) {
	directory := filepath.Join(settings.Text("data-dir"), "agent")
	return filepath.Join(directory, "client-kubelet.crt"), filepath.Join(directory, "client-kubelet.key")
}

// waitForEver is what k3s does about a token that cannot be read: it complains and tries again.
func waitForEver(shutdown *process.Shutdown, server string, err error) error {
	for {
		logging.Error("Failed to validate connection to cluster at %s: %v", server, err)
		if !sleep(shutdown.Context, timing.ValidateRetry) {
			return nil
		}
	}
}

// Run joins and then runs the node until the shutdown.
func Run(join Join, shutdown *process.Shutdown) error {
	n := &node{Join: join, started: time.Now(), shutdown: shutdown, directory: filepath.Join(join.Settings.Text("data-dir"), "agent")}
	if err := checkCgroups(); err != nil {
		return err
	}
	var err error
	if n.name, err = NodeName(join.Settings); err != nil {
		return fmt.Errorf("failed to get node name and addresses: %w", err)
	}
	if n.address, err = network.NodeAddress(join.Settings); err != nil {
		return fmt.Errorf("failed to get node name and addresses: %w", err)
	}
	if err := os.MkdirAll(n.directory, 0o700); err != nil {
		return err
	}
	if n.connect() && n.configure() {
		n.run()
	}
	return nil
}

// NodeName is the name that a node registers with.
func NodeName(settings *config.Settings) (string, error) {
	name := settings.Text("node-name")
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", err
		}
		name = host
	}
	name = strings.ToLower(name)
	if settings.On("with-node-id") {
		id, err := nodeID()
		if err != nil {
			return "", err
		}
		name += "-" + id
	}
	return name, nil
}

func nodeID() (string, error) {
	path := filepath.Join(nodeDirectory, "id")
	if content, err := os.ReadFile(path); err == nil {
		return strings.TrimSpace(string(content)), nil
	}
	if err := os.MkdirAll(nodeDirectory, 0o755); err != nil {
		return "", err
	}
	id := token.Random()[:8]
	return id, os.WriteFile(path, []byte(id+"\n"), 0o644)
}

// connect waits until the server shows the authority that the token promises.
func (n *node) connect() bool {
	for {
		asked := time.Now()
		bundle, err := fetchAuthority(n.shutdown.Context, n.Server, n.Token.Hash)
		if err == nil {
			n.authority = bundle
			if n.Token.Hash == "" && n.Ready == nil {
				logging.Warn("Cluster CA certificate is not trusted by the host CA bundle, but the token does not include a CA hash. Use the full token from the server's node-token file to enable Cluster CA validation.")
			}
			return true
		}
		var unreachable unreachableError
		// A refused connection is tried again at once, one that nobody answers has used up its time.
		if errors.As(err, &unreachable) && !errors.Is(err, syscall.ECONNREFUSED) && !sleep(n.shutdown.Context, timing.UnreachableRetry-time.Since(asked)) {
			return false
		}
		logging.Error("Failed to validate connection to cluster at %s: %v", n.Server, err)
		if !sleep(n.shutdown.Context, timing.ValidateRetry) {
			return false
		}
	}
}

// configure waits until the server accepts the node.
func (n *node) configure() bool {
	for {
		err := n.retrieve()
		if err == nil {
			return true
		}
		if n.shutdown.Context.Err() != nil {
			return false
		}
		logging.Info("Waiting to retrieve agent configuration; server is not ready: %v", err)
		if !sleep(n.shutdown.Context, timing.ConfigRetry) {
			return false
		}
	}
}

// sleep tells whether the time passed without a shutdown.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
