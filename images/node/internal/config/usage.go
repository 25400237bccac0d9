package config

import (
	"fmt"
	"io"
	"strings"
)

// Usage prints what a role accepts. k3s prints it, hundreds of lines, before the one line that tells what was wrong.
func Usage(w io.Writer, role Role) {
	title := map[Role]string{Server: "run a server node", Agent: "run an agent node"}[role]
	fmt.Fprintf(w, "NAME:\n   k3s %s - %s\n\nUSAGE:\n   k3s %s [OPTIONS]\n\nOPTIONS:\n", role, title, role)
	for _, flag := range FlagsOf(role) {
		if !flag.Hidden {
			fmt.Fprintln(w, "   "+usageLine(flag))
			fmt.Fprintln(w)
		}
	}
	fmt.Fprintln(w, "   --help, -h  show help")
}

func usageLine(flag Flag) string {
	value := " value"
	if flag.Kind == Switch {
		value = ""
	}
	var names []string
	for _, name := range flag.Names {
		dashes := "--"
		if len(name) == 1 {
			dashes = "-"
		}
		names = append(names, dashes+name+value)
	}
	line := fmt.Sprintf("%-48s (%s) %s", strings.Join(names, ", "), flag.Category, strings.ReplaceAll(flag.Names[0], "-", " "))
	if flag.Default != "" {
		line += fmt.Sprintf(" (default: %q)", flag.Default)
	}
	if flag.Kind == List {
		line += ", may be repeated"
	}
	if flag.Env != "" {
		line += " [$" + flag.Env + "]"
	}
	return line
}
