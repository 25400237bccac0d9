package process

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// marker keeps the second process from starting a third.
const marker = "_K3S_LOG_REEXEC_"

// ForkIfFirst makes a second process do the work if this one is the first of its namespace, as k3s does: the first one then
// only collects orphans, passes signals on and ends with the other's exit code. It returns in the process that is to work.
func ForkIfFirst() {
	if os.Getpid() != 1 || os.Getenv(marker) != "" {
		return
	}
	command := exec.Command("/proc/self/exe")
	command.Args = os.Args
	command.Env = append(os.Environ(), marker+"=true")
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	if err := command.Start(); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	for s := range signals {
		if s != syscall.SIGCHLD {
			_ = command.Process.Signal(s)
			continue
		}
		collect(command.Process.Pid)
	}
}

// collect waits for every process that has ended, and ends this one together with the working one.
func collect(worker int) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if pid == worker {
			if status.Signaled() {
				os.Exit(128 + int(status.Signal()))
			}
			os.Exit(status.ExitStatus())
		}
	}
}
