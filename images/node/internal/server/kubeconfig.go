package server

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"k3arm.dev/images/node/internal/api"
	"k3arm.dev/images/node/internal/logging"
	"k3arm.dev/images/node/internal/pki"
)

const defaultKubeconfig = "/etc/rancher/k3s/k3s.yaml"

// writeKubeconfig makes a client certificate for the administrator and the file that holds it.
func (s *server) writeKubeconfig() error {
	keyFile := filepath.Join(s.directory, "tls", "client-admin.key")
	key, err := pki.LoadOrCreateKey(keyFile)
	if err != nil {
		return err
	}
	leaf := pki.Leaf{CommonName: "system:admin", Organizations: []string{api.Admins}, Usage: x509.ExtKeyUsageClientAuth}
	certificate, err := s.clientCA.Sign(leaf, key.Public())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.directory, "tls", "client-admin.crt"), certificate, 0o600); err != nil {
		return err
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	path := s.settings.Text("write-kubeconfig")
	if path == "" {
		path = defaultKubeconfig
	}
	if err := s.placeKubeconfig(path, certificate, keyPEM); err != nil {
		return err
	}
	logging.Info("Wrote kubeconfig %s", path)
	logging.Info("Run: k3s kubectl")
	return nil
}

func (s *server) placeKubeconfig(path string, certificate, key []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	encode := base64.StdEncoding.EncodeToString
	name := s.settings.Text("write-kubeconfig-name")
	// The real file has the client's chain: its certificate and the authority.
	chain := append(append([]byte(nil), certificate...), s.clientCA.Bundle...)
	content := fmt.Sprintf(`apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: %[2]s
    server: https://127.0.0.1:%[5]d
  name: %[1]s
contexts:
- context:
    cluster: %[1]s
    user: %[1]s
  name: %[1]s
current-context: %[1]s
kind: Config
users:
- name: %[1]s
  user:
    client-certificate-data: %[3]s
    client-key-data: %[4]s
`, name, encode(s.serverCA.Bundle), encode(chain), encode(key), s.port())
	mode := os.FileMode(0o600)
	if text := s.settings.Text("write-kubeconfig-mode"); text != "" {
		number, err := strconv.ParseUint(text, 8, 32)
		if err != nil {
			logging.Error("Failed to set %s to mode %s: %v", path, text, err)
		} else {
			mode = os.FileMode(number)
		}
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		return err
	}
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	if path != defaultKubeconfig {
		return link(path, defaultKubeconfig)
	}
	return nil
}
