// Command placeholder is all that a placeholder image holds. It tells which image it stands for.
package main

import (
	"fmt"
	"os"
)

func main() {
	name, err := os.ReadFile("/etc/placeholder")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("placeholder of %s", name)
}
