package imagestore

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

const dataDirectory = "/var/lib/rancher/k3s"

// The marks of images that must stay: containerd's, and k3s' own beside it.
const (
	pinned = "io.cri-containerd.pinned"
	byK3s  = "io.cattle.k3s.pinned"
)

// Ctr runs the few subcommands of containerd's client that make sense here: images ls, import, rm, tag, label.
func Ctr(arguments []string) error {
	arguments = withoutGlobalFlags(arguments)
	if len(arguments) < 2 || !isOneOf(arguments[0], "images", "image", "i") {
		return fmt.Errorf("this stand-in for ctr knows only: images ls|import|rm|tag|label")
	}
	quiet, rest := splitFlags(arguments[2:])
	records := Open(dataDirectory)
	switch command := arguments[1]; {
	case isOneOf(command, "ls", "list"):
		return list(records, os.Stdout, quiet)
	case command == "import" && len(rest) == 1:
		return importTo(records, rest[0])
	case isOneOf(command, "rm", "remove", "delete", "del"):
		return records.Change(func(all map[string]Image) {
			for _, name := range rest {
				delete(all, name)
			}
		})
	case command == "tag" && len(rest) == 2:
		return tag(records, rest[0], rest[1])
	case command == "label" && len(rest) >= 1:
		return label(records, rest[0], rest[1:])
	}
	return fmt.Errorf("incorrect usage of ctr images %s", arguments[1])
}

// withoutGlobalFlags drops what stands in front of the command, such as -n k8s.io.
func withoutGlobalFlags(arguments []string) []string {
	for len(arguments) > 0 && strings.HasPrefix(arguments[0], "-") {
		if !strings.Contains(arguments[0], "=") && len(arguments) > 1 {
			arguments = arguments[1:]
		}
		arguments = arguments[1:]
	}
	return arguments
}

func splitFlags(arguments []string) (quiet bool, rest []string) {
	for i := 0; i < len(arguments); i++ {
		switch argument := arguments[i]; {
		case argument == "-q" || argument == "--quiet":
			quiet = true
		case argument == "--platform" || argument == "--base-name" || argument == "--snapshotter":
			i++
		case argument == "-" || !strings.HasPrefix(argument, "-"):
			rest = append(rest, argument)
		}
	}
	return quiet, rest
}

func isOneOf(text string, all ...string) bool {
	for _, one := range all {
		if text == one {
			return true
		}
	}
	return false
}

func list(records *Records, w io.Writer, quiet bool) error {
	images, err := records.List()
	if err != nil {
		return err
	}
	if !quiet {
		fmt.Fprintf(w, "%-70s %-73s %-10s %s\n", "REF", "DIGEST", "SIZE", "LABELS")
	}
	for _, image := range images {
		if quiet {
			fmt.Fprintln(w, image.Name)
			continue
		}
		fmt.Fprintf(w, "%-70s %-73s %-10d %s\n", image.Name, image.Target, image.Size, labels(image))
	}
	return nil
}

func labels(image Image) string {
	var labels []string
	if image.PinnedByK3s {
		labels = append(labels, byK3s+"=pinned")
	}
	if image.Pinned {
		labels = append(labels, pinned+"=pinned")
	}
	if len(labels) == 0 {
		return "-"
	}
	return strings.Join(labels, ",")
}

func importTo(records *Records, path string) error {
	source := os.Stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		source = file
	}
	images, err := Import(source)
	if err != nil {
		return err
	}
	for _, image := range images {
		fmt.Printf("%s\tsaved\n", image.Name)
	}
	return records.Add(images)
}

func tag(records *Records, from, to string) error {
	var err error
	failed := records.Change(func(all map[string]Image) {
		image, ok := all[from]
		if !ok {
			err = fmt.Errorf("image %q: not found", from)
			return
		}
		image.Name = to
		all[to] = image
	})
	if err == nil {
		err = failed
	}
	return err
}

// label sets marks; one without a value is taken away.
func label(records *Records, name string, labels []string) error {
	err := fmt.Errorf("image %q: not found", name)
	failed := records.Change(func(all map[string]Image) {
		image, ok := all[name]
		if !ok {
			return
		}
		for _, label := range labels {
			switch key, value, _ := strings.Cut(label, "="); key {
			case pinned:
				image.Pinned = value == "pinned"
			case byK3s:
				image.PinnedByK3s = value == "pinned"
			}
		}
		all[name] = image
		err = nil
	})
	if err == nil {
		err = failed
	}
	return err
}

// Crictl runs `images`, with -q or -o json.
func Crictl(arguments []string) error {
	arguments = withoutGlobalFlags(arguments)
	if len(arguments) == 0 || !isOneOf(arguments[0], "images", "image", "img") {
		return fmt.Errorf("this stand-in for crictl knows only: images [-q] [-o json]")
	}
	images, err := Open(dataDirectory).List()
	if err != nil {
		return err
	}
	if strings.Contains(strings.Join(arguments, " "), "json") {
		return crictlJSON(images)
	}
	quiet, _ := splitFlags(arguments[1:])
	if !quiet {
		fmt.Printf("%-60s %-40s %-20s %s\n", "IMAGE", "TAG", "IMAGE ID", "SIZE")
	}
	for _, image := range images {
		name, tag := image.Name, "<none>"
		if at := strings.LastIndex(name, ":"); at > strings.LastIndex(name, "/") {
			name, tag = name[:at], name[at+1:]
		}
		switch {
		case !image.Complete:
		case quiet:
			fmt.Println(image.Target)
		default:
			fmt.Printf("%-60s %-40s %-20.13s %d\n", name, tag, strings.TrimPrefix(image.Target, "sha256:"), image.Size)
		}
	}
	return nil
}

func crictlJSON(images []Image) error {
	entries := []interface{}{}
	for _, image := range images {
		if image.Complete {
			entries = append(entries, map[string]interface{}{
				"id": image.Target, "repoTags": []string{image.Name}, "repoDigests": []string{}, "size": fmt.Sprint(image.Size), "pinned": image.Pinned,
			})
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(map[string]interface{}{"images": entries})
}
