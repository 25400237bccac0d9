package supervisor

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"k3arm.dev/images/node/internal/api"
	"k3arm.dev/images/node/internal/pki"
	"k3arm.dev/images/node/internal/store"
	"k3arm.dev/images/node/internal/token"
)

// maxRequest bounds a certificate request.
const maxRequest = 64 << 10

func (s *Supervisor) join(w http.ResponseWriter, r *http.Request, user api.User) {
	switch path := strings.TrimPrefix(r.URL.Path, "/v1-k3s/"); path {
	case "config":
		sendJSON(w, s.Config)
	case "readyz":
		s.readyz(w, r)
	case "server-ca.crt":
		_, _ = w.Write(s.ServerCA.Bundle)
	case "client-ca.crt":
		_, _ = w.Write(s.ClientCA.Bundle)
	case "serving-kubelet.crt":
		s.sign(w, r, user, s.ServerCA, func(name string) pki.Leaf {
			return pki.Leaf{CommonName: name, Names: []string{name, "localhost"}, Addresses: nodeAddresses(r), Usage: x509.ExtKeyUsageServerAuth}
		})
	case "client-kubelet.crt":
		s.sign(w, r, user, s.ClientCA, func(name string) pki.Leaf {
			return pki.Leaf{CommonName: "system:node:" + name, Organizations: []string{api.Nodes}, Usage: x509.ExtKeyUsageClientAuth}
		})
	default:
		api.SendFailure(w, api.Failure{Code: http.StatusNotFound, Reason: "NotFound", Message: "the server could not find the requested resource"})
	}
}

func (s *Supervisor) readyz(w http.ResponseWriter, r *http.Request) {
	if !s.API.Ready() {
		refuse(w, r, api.Failure{Code: http.StatusInternalServerError, Reason: "InternalError", Message: "Internal error occurred: runtime core not ready"})
		return
	}
	_, _ = w.Write([]byte("ok"))
}

func nodeAddresses(r *http.Request) []net.IP {
	addresses := []net.IP{net.ParseIP("127.0.0.1")}
	for _, text := range strings.Split(r.Header.Get("k3s-Node-IP"), ",") {
		if address := net.ParseIP(text); address != nil {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// sign answers a certificate request of a node that has shown that its name belongs to it.
func (s *Supervisor) sign(w http.ResponseWriter, r *http.Request, user api.User, authority *pki.Authority, leaf func(string) pki.Leaf) {
	name := strings.ToLower(r.Header.Get("k3s-Node-Name"))
	password := r.Header.Get("k3s-Node-Password")
	if name == "" || password == "" {
		refuse(w, r, api.BadRequest("node name or node password not set"))
		return
	}
	if failure, refused := s.checkNode(name, password, user); refused {
		refuse(w, r, failure)
		return
	}
	request, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err == nil {
		var certificate []byte
		if certificate, err = authority.SignRequest(leaf(name), request); err == nil {
			_, _ = w.Write(append(certificate, authority.Bundle...))
			return
		}
	}
	refuse(w, r, api.BadRequest(err.Error()))
}

func (s *Supervisor) checkNode(name, password string, user api.User) (api.Failure, bool) {
	if user.In(api.Nodes) {
		if user.Name != "system:node:"+name {
			return api.BadRequest("header node name does not match auth node name"), true
		}
		// A certificate outlives the node it was made for; the token has to be shown again then.
		if _, err := s.Store.Get(store.Key{Resource: "nodes", Name: name}); err != nil {
			return api.Unauthorized(fmt.Sprintf("unable to verify node identity: nodes %q not found", name)), true
		}
	}
	if !s.API.Ready() && name != s.NodeName {
		return api.Unavailable("runtime core not ready"), true
	}
	if err := s.checkPassword(name, password); err != nil {
		return api.Forbidden(fmt.Sprintf("unable to verify password for node %s: %v", name, err)), true
	}
	return api.Failure{}, false
}

// PasswordKey is the secret in which a node's password is remembered, until the node is deleted.
func PasswordKey(node string) store.Key {
	return store.Key{Resource: "secrets", Namespace: "kube-system", Name: node + ".node-password.k3s"}
}

// checkPassword ties a node's name to the first password that comes with it.
func (s *Supervisor) checkPassword(name, password string) error {
	secret, err := s.Store.Get(PasswordKey(name))
	if errors.Is(err, store.ErrNotFound) {
		salt := token.Random()
		hash := base64.StdEncoding.EncodeToString([]byte(salt + ":" + digest(salt, password)))
		_, err = s.Store.Create(PasswordKey(name), store.Object{
			"type": "k3s.cattle.io/node-password", "immutable": true, "data": store.Object{"hash": hash},
		})
		return err
	}
	if err != nil {
		return err
	}
	stored, err := base64.StdEncoding.DecodeString(store.Text(secret, "data", "hash"))
	parts := strings.SplitN(string(stored), ":", 2)
	if err != nil || len(parts) != 2 {
		return errors.New("password hash not found in node secret")
	}
	if !same(parts[1], digest(parts[0], password)) {
		return errors.New("hash does not match")
	}
	return nil
}

func digest(salt, password string) string {
	sum := sha256.Sum256([]byte(salt + ":" + password))
	return hex.EncodeToString(sum[:])
}
