package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"k3arm.dev/images/node/internal/pki"
	"k3arm.dev/images/node/internal/timing"
)

// maxAnswer bounds what a server may answer.
const maxAnswer = 16 << 20

// answerError is an answer that is not a success.
type answerError struct {
	code    int
	message string
}

func (e answerError) Error() string { return e.message }

// httpClient trusts one authority, or anyone if there is none, and may show a certificate.
func httpClient(bundle []byte, certificate *tls.Certificate) *http.Client {
	settings := &tls.Config{InsecureSkipVerify: bundle == nil, MinVersion: tls.VersionTLS12}
	if bundle != nil {
		settings.RootCAs = x509.NewCertPool()
		settings.RootCAs.AppendCertsFromPEM(bundle)
	}
	if certificate != nil {
		settings.Certificates = []tls.Certificate{*certificate}
	}
	return &http.Client{Timeout: timing.Request, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: settings}}
}

// request is one request to a server.
type request struct {
	method, url, user, password string
	header                      map[string]string
	body                        []byte
}

func (r request) send(ctx context.Context, client *http.Client) ([]byte, error) {
	query, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	if r.user != "" {
		query.SetBasicAuth(r.user, r.password)
	}
	for name, value := range r.header {
		query.Header.Set(name, value)
	}
	response, err := client.Do(query)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 != 2 {
		return nil, answerError{response.StatusCode, statusMessage(r.url, response.Status, body)}
	}
	return body, nil
}

// statusMessage prefers what a Status object says.
func statusMessage(url, status string, body []byte) string {
	var object struct{ Message string }
	if json.Unmarshal(body, &object) == nil && object.Message != "" {
		return object.Message
	}
	return url + ": " + status
}

// fetchAuthority gets the server's authority and checks it: against the certificate that the server shows, and against the
// hash of the token if that has one.
func fetchAuthority(ctx context.Context, server, hash string) ([]byte, error) {
	get := request{method: http.MethodGet, url: server + "/cacerts"}
	bundle, err := get.send(ctx, httpClient(nil, nil))
	if err != nil {
		return nil, unreachableError{err}
	}
	if _, err := get.send(ctx, httpClient(bundle, nil)); err != nil {
		return nil, fmt.Errorf("CA cert validation failed: %w", err)
	}
	actual, err := pki.Hash(bundle)
	if err != nil {
		return nil, err
	}
	if hash != "" && hash != actual {
		return nil, fmt.Errorf("token CA hash does not match the Cluster CA certificate hash: %s != %s", hash, actual)
	}
	return bundle, nil
}

// unreachableError is a server that gives no answer at all. The real agent asks through its own load balancer on port 6444,
// which closes the connection when it finds no server, so that is what its message tells.
type unreachableError struct{ err error }

func (e unreachableError) Unwrap() error { return e.err }

func (e unreachableError) Error() string {
	cause := "EOF"
	if strings.Contains(e.err.Error(), "Timeout") || errors.Is(e.err, context.DeadlineExceeded) {
		cause = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
	}
	return "failed to get CA certs: Get \"https://127.0.0.1:6444/cacerts\": " + cause
}

// loadCertificate reads a key pair that may not be there yet.
func loadCertificate(certFile, keyFile string) *tls.Certificate {
	if _, err := os.Stat(certFile); err != nil {
		return nil
	}
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil
	}
	return &certificate
}
