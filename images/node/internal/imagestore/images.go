package imagestore

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
)

// Image is a name in the store.
type Image struct {
	Name   string `json:"name"`
	Target string `json:"target"` // digest of the index or manifest
	Size   int64  `json:"size"`   // of the layers of this node's platform, compressed
	// Complete tells whether everything for this node's platform was there.
	Complete bool `json:"complete"`
	Pinned   bool `json:"pinned"`
	// PinnedByK3s tells whether k3s' own mark is beside containerd's: pins with it are taken away at the next start.
	PinnedByK3s bool `json:"pinnedByK3s"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
	Platform    *struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
		Variant      string `json:"variant"`
	} `json:"platform"`
}

// document is an index or a manifest, whichever fields it has.
type document struct {
	Manifests []descriptor `json:"manifests"`
	Config    descriptor   `json:"config"`
	Layers    []descriptor `json:"layers"`
}

type imageConfig struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Rootfs       struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// errMissing is content that the archive does not have; archives may leave platforms out.
var errMissing = errors.New("content not found")

// Import reads an archive: an OCI layout if it is one, else what `docker save` writes.
func Import(source io.Reader) ([]Image, error) {
	a, err := read(source)
	if err != nil {
		return nil, err
	}
	if _, ok := a.documents["index.json"]; ok {
		return a.layoutImages()
	}
	if _, ok := a.documents["manifest.json"]; ok {
		return a.dockerImages()
	}
	return nil, errors.New("unrecognized image format")
}

func (a *archive) layoutImages() ([]Image, error) {
	var index document
	if err := a.document("index.json", &index); err != nil {
		return nil, err
	}
	var images []Image
	for _, entry := range index.Manifests {
		name := entry.Annotations["io.containerd.image.name"]
		if name == "" {
			name = entry.Annotations["org.opencontainers.image.ref.name"]
		}
		if name == "" {
			continue
		}
		size, err := a.check(entry, 0)
		if err != nil && !errors.Is(err, errMissing) {
			return nil, err
		}
		images = append(images, Image{Name: name, Target: entry.Digest, Size: size, Complete: err == nil})
	}
	return images, nil
}

// check follows a descriptor to the manifest for this node and gives the size of its layers.
func (a *archive) check(target descriptor, depth int) (int64, error) {
	if depth > 4 {
		return 0, errors.New("indexes are nested too deep")
	}
	path := blobPath(target.Digest)
	if _, ok := a.documents[path]; !ok {
		return 0, fmt.Errorf("%s: %w", target.Digest, errMissing)
	}
	var content document
	if err := a.document(path, &content); err != nil {
		return 0, err
	}
	if len(content.Manifests) == 0 {
		return a.checkManifest(content)
	}
	for _, entry := range content.Manifests {
		p := entry.Platform
		if p == nil || p.OS == runtime.GOOS && p.Architecture == runtime.GOARCH {
			return a.check(entry, depth+1)
		}
	}
	return 0, fmt.Errorf("no manifest for %s/%s: %w", runtime.GOOS, runtime.GOARCH, errMissing)
}

func (a *archive) checkManifest(manifest document) (int64, error) {
	var config imageConfig
	if _, ok := a.documents[blobPath(manifest.Config.Digest)]; !ok {
		return 0, fmt.Errorf("%s: %w", manifest.Config.Digest, errMissing)
	}
	if err := a.document(blobPath(manifest.Config.Digest), &config); err != nil {
		return 0, err
	}
	if len(config.Rootfs.DiffIDs) != len(manifest.Layers) {
		return 0, fmt.Errorf("mismatched image rootfs and manifest layers")
	}
	size := int64(0)
	for i, layer := range manifest.Layers {
		f, ok := a.files[blobPath(layer.Digest)]
		if !ok {
			return 0, fmt.Errorf("%s: %w", layer.Digest, errMissing)
		}
		if f.size != layer.Size || f.diffID != config.Rootfs.DiffIDs[i] {
			return 0, fmt.Errorf("layer %s: wrong diff id calculated on extraction %s, expected %s", layer.Digest, f.diffID, config.Rootfs.DiffIDs[i])
		}
		size += layer.Size
	}
	return size, nil
}

func blobPath(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

func (a *archive) dockerImages() ([]Image, error) {
	var manifests []dockerManifest
	if err := a.document("manifest.json", &manifests); err != nil {
		return nil, err
	}
	var images []Image
	for _, manifest := range manifests {
		size, err := a.checkDocker(manifest)
		if err != nil {
			return nil, err
		}
		for _, name := range manifest.RepoTags {
			// The digest of a manifest made on the fly; containerd makes its own too.
			images = append(images, Image{Name: Normalize(name), Target: a.files[manifest.Config].digest, Size: size, Complete: true})
		}
	}
	return images, nil
}

func (a *archive) checkDocker(manifest dockerManifest) (int64, error) {
	var config imageConfig
	if err := a.document(manifest.Config, &config); err != nil {
		return 0, err
	}
	if len(config.Rootfs.DiffIDs) != len(manifest.Layers) {
		return 0, fmt.Errorf("mismatched image rootfs and manifest layers")
	}
	size := int64(0)
	for i, layer := range manifest.Layers {
		f, ok := a.files[layer]
		if !ok {
			return 0, fmt.Errorf("layer %q not found", layer)
		}
		if f.diffID != config.Rootfs.DiffIDs[i] {
			return 0, fmt.Errorf("layer %q: wrong diff id calculated on extraction %s, expected %s", layer, f.diffID, config.Rootfs.DiffIDs[i])
		}
		size += f.size
	}
	return size, nil
}

// Normalize gives a short name its registry, as containerd does for the names of `docker save`.
func Normalize(name string) string {
	first := strings.SplitN(name, "/", 2)[0]
	switch {
	case !strings.Contains(name, "/"):
		return "docker.io/library/" + name
	case !strings.ContainsAny(first, ".:") && first != "localhost":
		return "docker.io/" + name
	}
	return name
}
