// Package logging writes the two kinds of lines that k3s mixes on its standard error: logrus' text format and klog's.
// Programs that search the log of a node for a cause have to find it among both, so both have to be here.
package logging

import (
	"fmt"
	"io"
	"log"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

var (
	mutex  sync.Mutex
	output io.Writer = os.Stderr
	// plain is what logrus' text formatter leaves unquoted.
	plain = regexp.MustCompile(`^[A-Za-z0-9\-._/@^+]+$`)
)

// SetOutput sends all further lines to w.
func SetOutput(w io.Writer) {
	mutex.Lock()
	defer mutex.Unlock()
	output = w
}

func write(line string) {
	mutex.Lock()
	defer mutex.Unlock()
	_, _ = io.WriteString(output, line+"\n")
}

// Plain writes a line that has no format at all, as some parts of k3s do.
func Plain(format string, arguments ...interface{}) {
	write(fmt.Sprintf(format, arguments...))
}

// Info writes a logrus line of level info.
func Info(format string, arguments ...interface{}) { logrus("info", format, arguments) }

// Warn writes a logrus line of level warning.
func Warn(format string, arguments ...interface{}) { logrus("warning", format, arguments) }

// Error writes a logrus line of level error.
func Error(format string, arguments ...interface{}) { logrus("error", format, arguments) }

// Fatal writes a logrus line of level fatal and ends the program with exit code 1.
func Fatal(format string, arguments ...interface{}) {
	logrus("fatal", format, arguments)
	os.Exit(1)
}

func logrus(level, format string, arguments []interface{}) {
	message := fmt.Sprintf(format, arguments...)
	if !plain.MatchString(message) {
		message = fmt.Sprintf("%q", message)
	}
	write(fmt.Sprintf("time=%q level=%s msg=%s", time.Now().UTC().Format(time.RFC3339), level, message))
}

// Klog writes a line as Kubernetes' own components do; severity is one of I, W, E, source is file.go:line.
func Klog(severity byte, source, format string, arguments ...interface{}) {
	stamp := time.Now().UTC().Format("0102 15:04:05.000000")
	message := strings.TrimRight(fmt.Sprintf(format, arguments...), "\n")
	write(fmt.Sprintf("%c%s %7d %s] %s", severity, stamp, os.Getpid(), source, message))
}

// Discard takes what Go's own HTTP server would log.
var Discard = log.New(io.Discard, "", 0)
