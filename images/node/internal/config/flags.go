// Package config turns config.yaml, its drop-ins and the command line into the settings of a node, as k3s does: the file
// becomes arguments that stand in front of the real ones. It knows the names of all flags, most of which have no effect here.
package config

import (
	"fmt"
	"strings"
)

// Kind is the type of a flag's value.
type Kind string

// The types of values that k3s' flags have.
const (
	Text     Kind = "string"
	Number   Kind = "int"
	Switch   Kind = "bool"
	Duration Kind = "duration"
	List     Kind = "list"
)

// Flag is one flag of `k3s server` or `k3s agent`.
type Flag struct {
	Category string
	Names    []string // the first is the name, the others are aliases
	Kind     Kind
	Default  string
	Env      string
	Hidden   bool
}

// Role is the subcommand that a node runs.
type Role string

// The two roles of a node.
const (
	Server Role = "server"
	Agent  Role = "agent"
)

// FlagsOf gives the flags that a role knows.
func FlagsOf(role Role) []Flag {
	if role == Server {
		return append(mustTable(serverFlags), mustTable(nodeFlags)...)
	}
	return append(mustTable(agentFlags), mustTable(nodeFlags)...)
}

func mustTable(table string) []Flag {
	var flags []Flag
	category := ""
	for _, line := range strings.Split(table, "\n") {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case strings.HasPrefix(fields[0], "["):
			category = strings.Trim(line, "[] \t")
		default:
			flags = append(flags, mustFlag(category, fields))
		}
	}
	return flags
}

// mustFlag reads `name,alias kind [=default] [$ENV] [hidden]`.
func mustFlag(category string, fields []string) Flag {
	if len(fields) < 2 {
		panic(fmt.Sprintf("flag without a kind: %v", fields))
	}
	flag := Flag{Category: category, Names: strings.Split(fields[0], ","), Kind: Kind(fields[1])}
	for _, extra := range fields[2:] {
		switch {
		case extra == "hidden":
			flag.Hidden = true
		case strings.HasPrefix(extra, "="):
			flag.Default = strings.ReplaceAll(extra[1:], "_", " ")
		case strings.HasPrefix(extra, "$"):
			flag.Env = extra[1:]
		default:
			panic(fmt.Sprintf("unknown field %q of flag %s", extra, fields[0]))
		}
	}
	return flag
}
