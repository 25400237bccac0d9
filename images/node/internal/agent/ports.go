package agent

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"path/filepath"

	"k3arm.dev/images/node/internal/logging"
	"k3arm.dev/images/node/internal/timing"
)

// Occupy listens where k3s' parts listen, so that whoever looks for taken ports finds them. Nothing useful is answered.
func Occupy(ctx context.Context, addresses ...string) {
	for _, address := range addresses {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			logging.Error("Failed to listen on %s: %v", address, err)
			continue
		}
		serve(ctx, listener)
	}
}

func serve(ctx context.Context, listener net.Listener) {
	web := &http.Server{Handler: http.HandlerFunc(answer), ReadHeaderTimeout: timing.Request, ErrorLog: logging.Discard}
	go func() { _ = web.Serve(listener) }()
	go func() {
		<-ctx.Done()
		_ = web.Close()
	}()
}

func answer(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		_, _ = w.Write([]byte("ok"))
		return
	}
	http.Error(w, "Unauthorized", http.StatusUnauthorized)
}

// occupyKubelet listens on the ports of the kubelet and of kube-proxy.
func (n *node) occupyKubelet(ctx context.Context) {
	Occupy(ctx, "127.0.0.1:10248", "127.0.0.1:10249", "127.0.0.1:10256")
	certificate := loadCertificate(filepath.Join(n.directory, "serving-kubelet.crt"), filepath.Join(n.directory, "serving-kubelet.key"))
	if certificate == nil {
		return
	}
	listener, err := tls.Listen("tcp", "0.0.0.0:10250", &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12})
	if err != nil {
		logging.Error("Failed to listen on 0.0.0.0:10250: %v", err)
		return
	}
	serve(ctx, listener)
}
