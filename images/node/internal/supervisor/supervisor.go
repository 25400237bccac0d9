// Package supervisor is the front of a server's port: it tells who asks, answers what joining nodes ask before they belong to
// the cluster, and leaves the rest to the Kubernetes interface.
package supervisor

import (
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"k3arm.dev/images/node/internal/api"
	"k3arm.dev/images/node/internal/logging"
	"k3arm.dev/images/node/internal/network"
	"k3arm.dev/images/node/internal/pki"
	"k3arm.dev/images/node/internal/store"
)

// The groups of those who show a token.
const (
	agentGroup  = "k3s:agent"
	serverGroup = "k3s:server"
)

// ClusterConfig is what a joining node has to know about the cluster.
type ClusterConfig struct {
	FlannelBackend   string
	ClusterDomain    string
	Ranges           network.Ranges
	DisableKubeProxy bool
	DisableNetPolicy bool
	HTTPSPort        int
}

// Supervisor answers on a server's port.
type Supervisor struct {
	ServerCA, ClientCA            *pki.Authority
	ServerPassword, AgentPassword string
	Store                         *store.Store
	API                           *api.Handler
	Config                        ClusterConfig
	// NodeName is the server's own node, which may join before the interface is ready.
	NodeName string
}

var errNotAuthorized = errors.New("not authorized")

// ServeHTTP implements http.Handler.
func (s *Supervisor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ping":
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte("pong"))
		return
	case "/cacerts":
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(s.ServerCA.Bundle)
		return
	}
	joining := strings.HasPrefix(r.URL.Path, "/v1-k3s/")
	user, known, err := s.identify(r)
	switch {
	case err != nil:
		refuse(w, r, api.Unauthorized("not authorized"))
	case joining && !known, joining && !mayJoin(user):
		refuse(w, r, api.Forbidden("forbidden"))
	case joining:
		s.join(w, r, user)
	case !known:
		api.SendFailure(w, api.Unauthorized("Unauthorized"))
	default:
		s.API.Serve(w, r, user)
	}
}

func mayJoin(user api.User) bool {
	return user.In(agentGroup) || user.In(serverGroup) || user.In(api.Nodes)
}

// refuse answers with a failure and says so in the log, as k3s does for its own paths.
func refuse(w http.ResponseWriter, r *http.Request, failure api.Failure) {
	logging.Error("Sending %s %d response to %s: %s", r.Proto, failure.Code, r.RemoteAddr, failure.Message)
	api.SendFailure(w, failure)
}

// identify reads a client certificate or the credentials of a token.
func (s *Supervisor) identify(r *http.Request) (api.User, bool, error) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		certificate := r.TLS.PeerCertificates[0]
		if err := s.ClientCA.Verify(certificate); err != nil {
			return api.User{}, false, err
		}
		return api.User{Name: certificate.Subject.CommonName, Groups: certificate.Subject.Organization}, true, nil
	}
	name, password, ok := r.BasicAuth()
	if !ok {
		if r.Header.Get("Authorization") != "" {
			return api.User{}, false, errNotAuthorized
		}
		return api.User{}, false, nil
	}
	switch {
	case name == "node" && same(password, s.AgentPassword):
		return api.User{Name: name, Groups: []string{agentGroup}}, true, nil
	case name == "server" && same(password, s.ServerPassword):
		return api.User{Name: name, Groups: []string{serverGroup}}, true, nil
	}
	return api.User{}, false, errNotAuthorized
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// TLS gives the settings of the listener: client certificates are asked for and checked by the requests.
func (s *Supervisor) TLS(certificate tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.RequestClientCert,
		MinVersion:   tls.VersionTLS12,
	}
}

func sendJSON(w http.ResponseWriter, value interface{}) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}
