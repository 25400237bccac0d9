package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v2"
)

// readFile flattens a configuration file and its drop-ins into arguments. A later file replaces a key, `key+` adds to it.
// A file that does not exist is an error unless there are drop-ins.
func readFile(path string) ([]string, error) {
	files, err := configFiles(path)
	if err != nil {
		return nil, err
	}
	values := map[string][]interface{}{}
	var order []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var entries yaml.MapSlice
		if err := yaml.Unmarshal(data, &entries); err != nil {
			return nil, err
		}
		for _, entry := range entries {
			order = merge(values, order, entry)
		}
	}
	return flatten(values, order), nil
}

func configFiles(path string) ([]string, error) {
	var dropIns []string
	entries, err := os.ReadDir(path + ".d")
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for _, entry := range entries {
		extension := strings.ToLower(filepath.Ext(entry.Name()))
		if !entry.IsDir() && (extension == ".yaml" || extension == ".yml") {
			dropIns = append(dropIns, filepath.Join(path+".d", entry.Name()))
		}
	}
	if _, err := os.Stat(path); err != nil {
		if os.IsNotExist(err) && len(dropIns) > 0 {
			return dropIns, nil
		}
		return nil, err
	}
	return append([]string{path}, dropIns...), nil
}

func merge(values map[string][]interface{}, order []string, entry yaml.MapItem) []string {
	key := scalar(entry.Key)
	name := strings.TrimSuffix(key, "+")
	added := []interface{}{entry.Value}
	if list, ok := entry.Value.([]interface{}); ok {
		added = list
	}
	before, seen := values[name]
	if seen && name != key {
		added = append(before, added...)
	}
	values[name] = added
	if !seen {
		order = append(order, name)
	}
	return order
}

func flatten(values map[string][]interface{}, order []string) []string {
	var arguments []string
	for _, name := range order {
		dashes := "--"
		if len(name) == 1 {
			dashes = "-"
		}
		for _, value := range values[name] {
			arguments = append(arguments, dashes+name+"="+scalar(value))
		}
	}
	return arguments
}

func scalar(value interface{}) string {
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}
