package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"k3arm.dev/images/node/internal/agent"
	"k3arm.dev/images/node/internal/logging"
	"k3arm.dev/images/node/internal/pki"
	"k3arm.dev/images/node/internal/store"
	"k3arm.dev/images/node/internal/timing"
	"k3arm.dev/images/node/internal/version"
)

// portTaken tells whether another k3s answers on the port already. The real program shares the port with it, which leaves
// both half broken; here the second one keeps off, and only its log is the same.
func portTaken(port int) bool {
	client := &http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}
	response, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d/ping", port))
	if err != nil {
		return false
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 16))
	return string(body) == "pong"
}

// waitBehindAnother is what a second server on the same network does until it is stopped.
func (s *server) waitBehindAnother() error {
	url := fmt.Sprintf("https://127.0.0.1:%d", s.port())
	for {
		logging.Error("Failed to validate connection to cluster at %s: CA cert validation failed: Get \"%s/cacerts\": tls: failed to verify certificate: x509: certificate signed by unknown authority", url, url)
		select {
		case <-s.shutdown.Context.Done():
			return nil
		case <-time.After(timing.ValidateRetry):
		}
	}
}

// listen opens the port. /ping and /cacerts answer at once, the Kubernetes interface when it is ready.
func (s *server) listen() error {
	time.Sleep(timing.Listening)
	certificate, err := s.servingCertificate()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(s.settings.Text("bind-address"), strconv.Itoa(s.port())))
	if err != nil {
		return fmt.Errorf("init cluster datastore and https: %w", err)
	}
	front := s.newSupervisor()
	web := &http.Server{
		Handler:           front,
		TLSConfig:         front.TLS(certificate),
		ReadHeaderTimeout: timing.Request,
		// Handshakes that fail are the clients' business and would only fill the log.
		ErrorLog: logging.Discard,
	}
	go func() { _ = web.ServeTLS(listener, "", "") }()
	go func() {
		<-s.shutdown.Context.Done()
		_ = web.Close()
	}()
	go s.becomeReady()
	agent.Occupy(s.shutdown.Context, "127.0.0.1:6444", "127.0.0.1:10257", "127.0.0.1:10258", "127.0.0.1:10259")
	if err := s.writeTokens(); err != nil {
		return err
	}
	return s.writeKubeconfig()
}

func (s *server) servingCertificate() (tls.Certificate, error) {
	directory := filepath.Join(s.directory, "tls")
	keyFile := filepath.Join(directory, "serving-kube-apiserver.key")
	key, err := pki.LoadOrCreateKey(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf := pki.Leaf{CommonName: "k3s", Organizations: []string{"k3s"}, Usage: x509.ExtKeyUsageServerAuth}
	leaf.Names, leaf.Addresses = s.alternativeNames()
	certificate, err := s.serverCA.Sign(leaf, key.Public())
	if err != nil {
		return tls.Certificate{}, err
	}
	certFile := filepath.Join(directory, "serving-kube-apiserver.crt")
	if err := os.WriteFile(certFile, certificate, 0o600); err != nil {
		return tls.Certificate{}, err
	}
	return tls.LoadX509KeyPair(certFile, keyFile)
}

func (s *server) alternativeNames() ([]string, []net.IP) {
	domain := s.settings.Text("cluster-domain")
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain, "localhost", s.nodeName}
	if host, err := os.Hostname(); err == nil && host != s.nodeName {
		names = append(names, host)
	}
	addresses := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, s.ranges.APIAddress(), s.address}
	extra := append(s.settings.Fields("tls-san"), s.settings.Fields("node-ip")...)
	extra = append(extra, s.settings.Fields("node-external-ip")...)
	extra = append(extra, s.settings.Fields("advertise-address")...)
	for _, name := range extra {
		if address := net.ParseIP(name); address != nil {
			addresses = append(addresses, address)
		} else {
			names = append(names, name)
		}
	}
	return names, addresses
}

func versionObject() store.Object {
	numbers := strings.SplitN(strings.TrimPrefix(version.K3s, "v"), ".", 3)
	return store.Object{
		"major": numbers[0], "minor": numbers[1], "gitVersion": version.K3s, "gitCommit": version.Commit,
		"gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": runtime.Version(), "compiler": "gc",
		"platform": runtime.GOOS + "/" + runtime.GOARCH,
	}
}
