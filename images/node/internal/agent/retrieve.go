package agent

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"k3arm.dev/images/node/internal/logging"
	"k3arm.dev/images/node/internal/network"
	"k3arm.dev/images/node/internal/pki"
	"k3arm.dev/images/node/internal/token"
)

// nodeDirectory holds what has to outlive a node's container: without it the server refuses the node's name.
const nodeDirectory = "/etc/rancher/node"

// clusterConfig is what the server says about the cluster.
type clusterConfig struct {
	FlannelBackend   string
	ClusterDomain    string
	Ranges           network.Ranges
	DisableKubeProxy bool
	DisableNetPolicy bool
	HTTPSPort        int
}

// retrieve gets everything that a node needs from its server, in k3s' order, so that the first thing that fails is the same.
func (n *node) retrieve() error {
	data, err := n.ask("config", nil)
	if err != nil {
		return fmt.Errorf("failed to retrieve configuration from server: %w", err)
	}
	if err := json.Unmarshal(data, &n.cluster); err != nil {
		return err
	}
	for _, name := range []string{"client-ca.crt", "server-ca.crt"} {
		bundle, err := n.ask(name, nil)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(n.directory, name), bundle, 0o600); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(nodeDirectory, 0o755); err != nil {
		return err
	}
	if err := checkSnapshotter(n.Settings); err != nil {
		return err
	}
	for _, name := range []string{"serving-kubelet", "client-kubelet"} {
		path := filepath.Join(n.directory, name+".crt")
		if err := n.certificate(name); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// ask sends a request to the supervisor, with the node's certificate if it has one from an earlier start, and the token.
func (n *node) ask(path string, body []byte) ([]byte, error) {
	r := request{method: http.MethodGet, url: n.Server + "/v1-k3s/" + path, body: body}
	if n.Token.Password != "" {
		r.user, r.password = n.Token.User, n.Token.Password
	}
	if body != nil {
		password, err := nodePassword()
		if err != nil {
			return nil, err
		}
		r.method = http.MethodPost
		r.header = map[string]string{"k3s-Node-Name": n.name, "k3s-Node-Password": password, "k3s-Node-IP": n.address.String()}
	}
	certificate := loadCertificate(clientFiles(n.Settings))
	answer, err := r.send(n.shutdown.Context, httpClient(n.authority, certificate))
	var refused answerError
	if errors.As(err, &refused) && refused.code == http.StatusUnauthorized && certificate != nil {
		// The node was deleted from the cluster: the token lets it in again.
		logging.Info("Node authorization rejected, retrying without client certificate authentication")
		return r.send(n.shutdown.Context, httpClient(n.authority, nil))
	}
	return answer, err
}

// certificate has the server sign a key of the node.
func (n *node) certificate(name string) error {
	key, err := pki.LoadOrCreateKey(filepath.Join(n.directory, name+".key"))
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return err
	}
	answer, err := n.ask(name+".crt", csr)
	var refused answerError
	if errors.As(err, &refused) && refused.code == http.StatusForbidden {
		return fmt.Errorf("Node password rejected, duplicate hostname or contents of '%s/password' may not match server node-passwd entry, try enabling a unique node name with the --with-node-id flag", nodeDirectory)
	}
	if errors.As(err, &refused) {
		return fmt.Errorf("https://127.0.0.1:6444/v1-k3s/%s.crt: %d %s", name, refused.code, http.StatusText(refused.code))
	}
	if err != nil {
		return err
	}
	if block, _ := pem.Decode(answer); block == nil {
		return errors.New("the server's answer is no certificate")
	}
	return os.WriteFile(filepath.Join(n.directory, name+".crt"), answer, 0o600)
}

// nodePassword reads the secret that ties this machine to its node's name, or makes it: 32 digits and a line break.
func nodePassword() (string, error) {
	path := filepath.Join(nodeDirectory, "password")
	content, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(content)), nil
	}
	if !os.IsNotExist(err) {
		return "", err
	}
	password := token.Random()
	return password, os.WriteFile(path, []byte(password+"\n"), 0o600)
}

// api sends a request to the Kubernetes interface as the node.
func (n *node) api(ctx context.Context, method, path string, object interface{}, mediaType string) (map[string]interface{}, error) {
	r := request{method: method, url: n.Server + path, header: map[string]string{"Accept": "application/json"}}
	if object != nil {
		body, err := json.Marshal(object)
		if err != nil {
			return nil, err
		}
		r.body, r.header["Content-Type"] = body, mediaType
	}
	answer, err := r.send(ctx, n.client())
	if err != nil {
		return nil, err
	}
	var result map[string]interface{}
	return result, json.Unmarshal(answer, &result)
}

func (n *node) client() *http.Client {
	return httpClient(n.authority, loadCertificate(clientFiles(n.Settings)))
}
