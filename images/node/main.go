// Command k3s stands in for the real k3s in tests: it joins, registers, answers and fails like it, and runs no pods.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"k3arm.dev/images/node/internal/agent"
	"k3arm.dev/images/node/internal/config"
	"k3arm.dev/images/node/internal/imagestore"
	"k3arm.dev/images/node/internal/logging"
	"k3arm.dev/images/node/internal/process"
	"k3arm.dev/images/node/internal/server"
	"k3arm.dev/images/node/internal/timing"
	"k3arm.dev/images/node/internal/version"
)

const help = `NAME:
   k3s - Kubernetes, but small and simple (a stand-in for tests)

COMMANDS:
   server  run a server node
   agent   run an agent node
   ctr     images of this node
   crictl  images of this node
`

func main() {
	arguments := os.Args[1:]
	// The image has links to this program under the names of its subcommands.
	if name := filepath.Base(os.Args[0]); name == "ctr" || name == "crictl" {
		arguments = append([]string{name}, arguments...)
	}
	if len(arguments) == 0 {
		fmt.Print(help)
		return
	}
	switch command, rest := arguments[0], arguments[1:]; command {
	case "server":
		runNode(config.Server, rest)
	case "agent":
		runNode(config.Agent, rest)
	case "ctr":
		exitWith(imagestore.Ctr(rest))
	case "crictl":
		exitWith(imagestore.Crictl(rest))
	case "--version", "-v", "version":
		fmt.Printf("k3s version %s (%s)\ngo version %s\n", version.K3s, version.Commit, runtime.Version())
	case "--help", "-h", "help":
		fmt.Print(help)
	default:
		fmt.Printf("No help topic for '%s'\n", command)
		os.Exit(3)
	}
}

func exitWith(err error) {
	if err != nil {
		logging.Fatal("%v", err)
	}
}

func runNode(role config.Role, arguments []string) {
	if len(arguments) > 0 && (arguments[0] == "--help" || arguments[0] == "-h") {
		config.Usage(os.Stdout, role)
		return
	}
	settings := load(role, arguments)
	if path := settings.Text("log"); path != "" {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		exitWith(err)
		logging.SetOutput(file)
	}
	process.ForkIfFirst()
	shutdown := process.OnSignals()
	run := server.Run
	if role == config.Agent {
		run = agent.RunRole
	}
	if err := run(settings, shutdown); err != nil && shutdown.Context.Err() == nil {
		logging.Fatal("Error: %v", err)
	}
	select {
	case <-shutdown.Failed: // its noise took long enough
	default:
		logging.Info("Shutting down")
		time.Sleep(timing.Stop)
	}
}

// load reads the settings, and ends the program the way k3s does where they are wrong.
func load(role config.Role, arguments []string) *config.Settings {
	settings, err := config.Load(role, arguments)
	var inFile config.FileError
	var usage config.UsageError
	switch {
	case errors.As(err, &inFile):
		logging.Fatal("%v", err)
	case errors.As(err, &usage):
		fmt.Printf("Incorrect Usage: %v\n\n", err)
		config.Usage(os.Stdout, role)
		logging.Fatal("Error: %v", err)
	}
	return settings
}
