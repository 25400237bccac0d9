// Package server brings up a control-plane node: authorities, tokens, store, port, kubeconfig; and then runs the node's agent
// against its own port, as every other node does.
package server

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"k3arm.dev/images/node/internal/agent"
	"k3arm.dev/images/node/internal/api"
	"k3arm.dev/images/node/internal/config"
	"k3arm.dev/images/node/internal/logging"
	"k3arm.dev/images/node/internal/network"
	"k3arm.dev/images/node/internal/pki"
	"k3arm.dev/images/node/internal/process"
	"k3arm.dev/images/node/internal/store"
	"k3arm.dev/images/node/internal/supervisor"
	"k3arm.dev/images/node/internal/timing"
	"k3arm.dev/images/node/internal/token"
	"k3arm.dev/images/node/internal/version"
)

type server struct {
	settings *config.Settings
	shutdown *process.Shutdown
	// directory is where a server keeps its things, below the data directory.
	directory          string
	store              *store.Store
	serverCA, clientCA *pki.Authority
	password           string
	agentPassword      string
	nodeName           string
	address            net.IP
	ranges             network.Ranges
	ready              atomic.Bool
	handler            *api.Handler
}

// Run runs a server until the shutdown; an error is one of the start.
func Run(settings *config.Settings, shutdown *process.Shutdown) error {
	if settings.Text("server") != "" {
		return errors.New("this stand-in for k3s does not join a second server")
	}
	logging.Info("Starting k3s %s (%s)", version.K3s, version.Commit)
	s := &server{settings: settings, shutdown: shutdown, directory: filepath.Join(settings.Text("data-dir"), "server")}
	if err := s.prepare(); err != nil {
		return fmt.Errorf("preparing server: %w", err)
	}
	go s.store.Run(shutdown.Context, func(err error) { logging.Error("Failed to write the datastore: %v", err) })
	defer func() { _ = s.store.Save() }()
	if portTaken(s.port()) {
		return s.waitBehindAnother()
	}
	if err := s.listen(); err != nil {
		return fmt.Errorf("starting kubernetes: %w", err)
	}
	go s.control()
	if settings.On("disable-agent") {
		<-shutdown.Context.Done()
		return nil
	}
	return agent.Run(agent.Join{
		Settings: settings,
		Server:   fmt.Sprintf("https://127.0.0.1:%d", s.port()),
		Token:    token.Token{User: "node", Password: s.agentPassword},
		Ready:    s.ready.Load,
	}, shutdown)
}

func (s *server) port() int { return s.settings.Number("https-listen-port") }

// prepare makes or reads everything that does not depend on the network.
func (s *server) prepare() error {
	tls := filepath.Join(s.directory, "tls")
	if err := os.MkdirAll(tls, 0o700); err != nil {
		return err
	}
	var err error
	if s.nodeName, err = agent.NodeName(s.settings); err != nil {
		return err
	}
	if s.address, err = network.NodeAddress(s.settings); err != nil {
		return err
	}
	if s.ranges, err = network.RangesOf(s.settings); err != nil {
		return err
	}
	if s.store, err = store.Open(s.database()); err != nil {
		return fmt.Errorf("failed to bootstrap cluster data: %w", err)
	}
	if err := s.choosePasswords(); err != nil {
		return err
	}
	if err := s.store.Unlock(s.password); err != nil {
		return fmt.Errorf("failed to bootstrap cluster data: %w", err)
	}
	if err := s.reconcileAuthorities(tls); err != nil {
		return err
	}
	if s.serverCA, err = pki.LoadOrCreate(tls, "server-ca"); err != nil {
		return err
	}
	if s.clientCA, err = pki.LoadOrCreate(tls, "client-ca"); err != nil {
		return err
	}
	if err := s.keepAuthorities(tls); err != nil {
		return err
	}
	return s.store.Save()
}

// database is the file of the datastore, at the place where SQLite or etcd have theirs.
func (s *server) database() string {
	etcd := filepath.Join(s.directory, "db", "etcd", "member", "snap", "db")
	if _, err := os.Stat(etcd); err == nil || s.settings.On("cluster-init") {
		return etcd
	}
	return filepath.Join(s.directory, "db", "state.db")
}

func (s *server) usesEtcd() bool { return strings.Contains(s.database(), "/etcd/") }

var authorityFiles = []string{"server-ca.crt", "server-ca.key", "client-ca.crt", "client-ca.key"}

// reconcileAuthorities brings back files that are missing on disk but known to the datastore, and refuses to go on with others.
func (s *server) reconcileAuthorities(directory string) error {
	var foreign []string
	for _, name := range authorityFiles {
		path := filepath.Join(directory, name)
		kept := s.store.File(name)
		if kept == nil {
			continue
		}
		content, err := os.ReadFile(path)
		switch {
		case os.IsNotExist(err):
			logging.Warn("%s doesn't exist. continuing...", path)
			err = os.WriteFile(path, kept, 0o600)
		case err == nil && !bytes.Equal(content, kept):
			foreign = append(foreign, path)
		}
		if err != nil {
			return err
		}
	}
	if len(foreign) > 0 {
		logging.Fatal("%s newer than datastore and could cause a cluster outage. Remove the file(s) from disk and restart to be recreated from datastore.", strings.Join(foreign, ", "))
	}
	return nil
}

func (s *server) keepAuthorities(directory string) error {
	for _, name := range authorityFiles {
		content, err := os.ReadFile(filepath.Join(directory, name))
		if err != nil {
			return err
		}
		s.store.Keep(name, content)
	}
	return nil
}

func (s *server) roleLabels() map[string]string {
	labels := map[string]string{"node-role.kubernetes.io/control-plane": "true"}
	if s.usesEtcd() {
		labels["node-role.kubernetes.io/etcd"] = "true"
	}
	return labels
}

func (s *server) newSupervisor() *supervisor.Supervisor {
	s.handler = &api.Handler{Store: s.store, Version: versionObject(), Ready: s.ready.Load, Deleted: s.deleted}
	return &supervisor.Supervisor{
		ServerCA: s.serverCA, ClientCA: s.clientCA,
		ServerPassword: s.password, AgentPassword: s.agentPassword,
		Store: s.store, API: s.handler, NodeName: s.nodeName,
		Config: supervisor.ClusterConfig{
			FlannelBackend:   s.settings.Text("flannel-backend"),
			ClusterDomain:    s.settings.Text("cluster-domain"),
			Ranges:           s.ranges,
			DisableKubeProxy: s.settings.On("disable-kube-proxy"),
			DisableNetPolicy: s.settings.On("disable-network-policy"),
			HTTPSPort:        s.port(),
		},
	}
}

// becomeReady goes through the start of the components.
func (s *server) becomeReady() {
	for _, component := range []string{"kube-apiserver", "kube-scheduler", "kube-controller-manager", "cloud-controller-manager"} {
		logging.Info("Running %s --profiling=false", component)
	}
	// A good start has lines of level error too; this one comes several times.
	logging.Error("Sending HTTP/1.1 503 response to 127.0.0.1:59720: runtime core not ready")
	logging.Info("Polling for API server readiness: GET /readyz failed: the server is currently unable to handle the request")
	select {
	case <-s.shutdown.Context.Done():
		return
	case <-time.After(timing.APIReady):
	}
	s.populate()
	s.deploy()
	s.ready.Store(true)
	logging.Info("Kube API server is now running")
	logging.Info("k3s is up and running")
}
