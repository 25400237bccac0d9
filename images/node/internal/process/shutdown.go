// Package process is how the program ends and how it behaves as the first process of a container.
package process

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"k3arm.dev/images/node/internal/logging"
)

// Shutdown ends the program: by a signal, or because a part of it has failed. k3s' exit code is 0 in both cases, and only its
// log tells them apart.
type Shutdown struct {
	// Context ends with the shutdown.
	Context context.Context
	cancel  context.CancelFunc
	once    sync.Once
	// Failed is closed if a part of the program asked for the shutdown.
	Failed chan struct{}
}

// OnSignals makes a shutdown that SIGTERM and SIGINT ask for; the second signal ends the program at once.
func OnSignals() *Shutdown {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Shutdown{Context: ctx, cancel: cancel, Failed: make(chan struct{})}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		cancel()
		second := <-signals
		logging.Info("Second shutdown signal received: %s, exiting...", second)
		os.Exit(1)
	}()
	return s
}

// Request asks for the shutdown because of a failure.
func (s *Shutdown) Request(err error) {
	s.once.Do(func() {
		logging.Error("Shutdown request received: %q", err.Error())
		close(s.Failed)
		s.cancel()
	})
}
