package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
)

// descriptor is the OCI image specification's content descriptor.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *platform         `json:"platform,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
}

// published is one manifest of the output: the directory's own list, in the order in which a registry takes them.
type published struct {
	Repository string `json:"repository"`
	// Reference is the tag, or the digest of a manifest that has none.
	Reference string `json:"reference"`
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	// Blobs are the digests that have to be there before.
	Blobs []string `json:"blobs,omitempty"`
}

// output is a directory of blobs and the list of what is to be published from it.
type output struct {
	directory string
	manifests []published
}

func (o *output) blobPath(digest string) string {
	return filepath.Join(o.directory, "blobs", "sha256", digest[len("sha256:"):])
}

// put stores a blob.
func (o *output) put(mediaType string, data []byte) (descriptor, error) {
	sum := sha256.Sum256(data)
	d := descriptor{MediaType: mediaType, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(data))}
	path := o.blobPath(d.Digest)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return d, err
	}
	return d, os.WriteFile(path, data, 0o644)
}

// putJSON stores a document.
func (o *output) putJSON(mediaType string, document interface{}) (descriptor, error) {
	data, err := json.Marshal(document)
	if err != nil {
		return descriptor{}, err
	}
	return o.put(mediaType, data)
}

func (o *output) finish() error {
	data, err := json.MarshalIndent(o.manifests, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.directory, "manifests.json"), data, 0o644)
}
