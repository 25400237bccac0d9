package config

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"k3arm.dev/images/node/internal/logging"
)

// Settings are the values of a role's flags after file, environment and command line have been merged.
type Settings struct {
	Role Role
	// Arguments are what the role was started with, the file's in front: shown as an annotation of the node.
	Arguments []string
	values    map[string][]string
}

// UsageError is a command line that the role does not understand.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// FileError is a configuration file that could not be read.
type FileError struct{ Err error }

func (e FileError) Error() string { return e.Err.Error() }

// Load reads the settings of a role. Unknown keys of the file are warned of and left out for a server; for an agent k3s does
// not check them, so there they end up as unknown flags of the command line.
func Load(role Role, commandLine []string) (*Settings, error) {
	flags := FlagsOf(role)
	fromFile, err := readFile(configPath(commandLine))
	if err != nil && !os.IsNotExist(err) {
		return nil, FileError{err}
	}
	if role == Server {
		fromFile = withoutUnknown(flags, fromFile)
	}
	settings := &Settings{Role: role, Arguments: append(fromFile, commandLine...), values: map[string][]string{}}
	return settings, settings.parse(flags)
}

func configPath(commandLine []string) string {
	if path := os.Getenv("K3S_CONFIG_FILE"); path != "" {
		return path
	}
	for i, argument := range commandLine {
		for _, name := range []string{"--config", "-c"} {
			if argument == name && i+1 < len(commandLine) {
				return commandLine[i+1]
			}
			if strings.HasPrefix(argument, name+"=") {
				return argument[len(name)+1:]
			}
		}
	}
	return "/etc/rancher/k3s/config.yaml"
}

func withoutUnknown(flags []Flag, arguments []string) []string {
	known := map[string]bool{}
	for _, f := range flags {
		for _, name := range f.Names {
			known[name] = true
		}
	}
	var kept []string
	for _, argument := range arguments {
		name := strings.SplitN(argument, "=", 2)[0]
		if known[strings.TrimLeft(name, "-")] {
			kept = append(kept, argument)
			continue
		}
		// The line break is k3s' own, it shows as \n in its log.
		logging.Warn("Unknown flag %s found in config.yaml, skipping\n", name)
	}
	return kept
}

func (s *Settings) parse(flags []Flag) error {
	set := flag.NewFlagSet(string(s.Role), flag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, f := range flags {
		if fromEnv := os.Getenv(f.Env); f.Env != "" && fromEnv != "" {
			s.values[f.Names[0]] = []string{fromEnv}
		}
		value := &value{settings: s, flag: f}
		for _, name := range f.Names {
			set.Var(value, name, "")
		}
	}
	if err := set.Parse(s.Arguments); err != nil {
		return UsageError{err}
	}
	for _, f := range flags {
		if len(s.values[f.Names[0]]) == 0 && f.Default != "" {
			s.values[f.Names[0]] = []string{f.Default}
		}
	}
	return nil
}

// value makes a Flag known to Go's flag package, which is what parses for k3s' command line library too.
type value struct {
	settings *Settings
	flag     Flag
}

func (v *value) String() string   { return "" }
func (v *value) IsBoolFlag() bool { return v.flag.Kind == Switch }

func (v *value) Set(text string) error {
	var err error
	switch v.flag.Kind {
	case Number:
		_, err = strconv.ParseInt(text, 0, 64)
	case Switch:
		_, err = strconv.ParseBool(text)
	case Duration:
		_, err = time.ParseDuration(text)
	}
	if err != nil {
		return fmt.Errorf("parse error")
	}
	name := v.flag.Names[0]
	if v.flag.Kind == List {
		v.settings.values[name] = append(v.settings.values[name], text)
	} else {
		v.settings.values[name] = []string{text}
	}
	return nil
}

// Text gives the value of a flag, or nothing.
func (s *Settings) Text(name string) string {
	if values := s.values[name]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

// List gives all values of a flag that may be repeated.
func (s *Settings) List(name string) []string { return s.values[name] }

// Fields gives all values of a flag whose values may also be joined with commas.
func (s *Settings) Fields(name string) []string {
	var fields []string
	for _, value := range s.values[name] {
		for _, field := range strings.Split(value, ",") {
			if field = strings.TrimSpace(field); field != "" {
				fields = append(fields, field)
			}
		}
	}
	return fields
}

// On tells whether a switch is on.
func (s *Settings) On(name string) bool {
	on, _ := strconv.ParseBool(s.Text(name))
	return on
}

// Number gives the value of a numeric flag.
func (s *Settings) Number(name string) int {
	number, _ := strconv.ParseInt(s.Text(name), 0, 64)
	return int(number)
}
