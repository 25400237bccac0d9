// Command pack makes container images without an engine: it turns directories into layers, layers into manifests for several
// platforms, manifests into indexes, and pushes all of it to a registry byte by byte. The same input gives the same digests.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 4 && arguments[0] == "build":
		return buildAll(arguments[1], arguments[2], arguments[3])
	case len(arguments) == 3 && arguments[0] == "publish":
		return publish(arguments[1], arguments[2])
	}
	return fmt.Errorf("usage: pack build CATALOGUE WORK OUTPUT | pack publish DIRECTORY URL")
}
