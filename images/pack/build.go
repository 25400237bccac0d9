package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v2"
)

// The three platforms that k3s is released for, with the names of their directories.
var platforms = map[string]platform{
	"amd64": {Architecture: "amd64", OS: "linux"},
	"arm64": {Architecture: "arm64", OS: "linux"},
	"arm":   {Architecture: "arm", OS: "linux", Variant: "v7"},
}

var order = []string{"amd64", "arm64", "arm"}

// releases are the node images, each in one of the forms that are found in the wild. The program of each says its own version.
var releases = []struct {
	tag    string
	family family
}{
	{"v1.36.3-k3s1", oci},
	{"v1.36.2-k3s1", oci},
	{"v1.35.8-k3s1", docker},
}

// The sizes of what does not compress. A real node image has some 80 MB; these make a quarter of it.
const (
	baseBallast    = 5 << 20
	releaseBallast = 4 << 20
	systemBallast  = 256 << 10
)

// buildAll makes everything. The work directory holds, for each platform, root/ with the tools of a node, k3s-<tag> and placeholder.
func buildAll(catalogue, work, directory string) error {
	o := &output{directory: directory}
	bases := map[string]layer{}
	for _, name := range order {
		entries, err := tree(filepath.Join(work, name, "root"))
		if err != nil {
			return err
		}
		entries = append(entries, ballast("usr/share/ballast-"+name, baseBallast))
		if bases[name], err = pack(entries); err != nil {
			return err
		}
	}
	for _, release := range releases {
		var builds []build
		for _, name := range order {
			b, err := node(work, name, release.tag, bases[name])
			if err != nil {
				return err
			}
			builds = append(builds, b.in(release.family))
		}
		if err := o.add("rancher/k3s", release.tag, release.family, builds); err != nil {
			return err
		}
	}
	if err := system(o, catalogue, work); err != nil {
		return err
	}
	return o.finish()
}

// in gives arm64 its variant where Docker's lists have it; OCI indexes leave it out.
func (b build) in(f family) build {
	if f.index == dockerList && b.platform.Architecture == "arm64" {
		b.platform.Variant = "v8"
	}
	return b
}

// node puts a platform's node image together: tools, program, and what belongs to this release alone.
func node(work, name, tag string, base layer) (build, error) {
	program, err := os.ReadFile(filepath.Join(work, name, "k3s-"+tag))
	if err != nil {
		return build{}, err
	}
	entries := []entry{file("bin/k3s", 0o755, program)}
	for _, link := range []string{"containerd", "crictl", "ctr", "k3s-agent", "k3s-server", "kubectl"} {
		entries = append(entries, symlink("bin/"+link, "k3s"))
	}
	entries = append(entries, ballast("usr/share/ballast-"+name+"-"+tag, releaseBallast))
	middle, err := pack(entries)
	if err != nil {
		return build{}, err
	}
	top, err := pack([]entry{file("etc/os-release", 0o644, []byte("PRETTY_NAME=\"K3s "+strings.Replace(tag, "-", "+", 1)+"\"\n"))})
	if err != nil {
		return build{}, err
	}
	nothing := object{}
	return build{platform: platforms[name], layers: []layer{base, middle, top}, config: object{
		"Env": []string{
			"PATH=/var/lib/rancher/k3s/data/cni:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/bin/aux",
			"CRI_CONFIG_FILE=/var/lib/rancher/k3s/agent/etc/crictl.yaml",
		},
		"Entrypoint": []string{"/bin/k3s"}, "Cmd": []string{"agent"}, "WorkingDir": "/",
		"Volumes": object{"/var/lib/kubelet": nothing, "/var/lib/rancher/k3s": nothing, "/var/lib/cni": nothing, "/var/log": nothing},
		"Labels":  object{"org.opencontainers.image.title": "stand-in for k3s", "org.opencontainers.image.version": tag},
	}}, nil
}

// system makes a placeholder of every image that the catalogue names for the lines of the node images.
func system(o *output, catalogue, work string) error {
	data, err := os.ReadFile(catalogue)
	if err != nil {
		return err
	}
	names, err := systemImages(data)
	if err != nil {
		return err
	}
	for i, name := range names {
		f := []family{oci, docker}[i%2]
		if err := placeholder(o, name, work, f); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// systemImages gives the images of those lines, sorted.
func systemImages(catalogue []byte) ([]string, error) {
	var content struct {
		Releases map[string]struct{ Images map[string]string }
	}
	if err := yaml.Unmarshal(catalogue, &content); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, release := range releases {
		version := strings.SplitN(strings.TrimPrefix(release.tag, "v"), ".", 3)
		line, known := content.Releases[version[0]+"."+version[1]]
		if !known {
			return nil, fmt.Errorf("the catalogue has no line of %s", release.tag)
		}
		for _, image := range line.Images {
			names[image] = true
		}
	}
	return sorted(names), nil
}

func placeholder(o *output, name, work string, f family) error {
	at := strings.LastIndex(name, ":")
	repository, tag := strings.TrimPrefix(name[:at], "docker.io/"), name[at+1:]
	var builds []build
	for _, p := range order {
		program, err := os.ReadFile(filepath.Join(work, p, "placeholder"))
		if err != nil {
			return err
		}
		bottom, err := pack([]entry{file("placeholder", 0o755, program)})
		if err != nil {
			return err
		}
		top, err := pack([]entry{directory("etc", 0o755), file("etc/placeholder", 0o644, []byte(name+"\n")), ballast("etc/ballast-"+p+"-"+name, systemBallast)})
		if err != nil {
			return err
		}
		b := build{platform: platforms[p], layers: []layer{bottom, top}, config: object{"Entrypoint": []string{"/placeholder"}, "WorkingDir": "/"}}
		builds = append(builds, b.in(f))
	}
	return o.add(repository, tag, f, builds)
}
