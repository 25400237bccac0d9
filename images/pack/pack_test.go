package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

func testImage(t *testing.T, f family) *output {
	t.Helper()
	o := &output{directory: t.TempDir()}
	l, err := pack([]entry{directory("etc", 0o755), file("etc/x", 0o644, []byte("x")), symlink("bin", "etc"), ballast("b", 1000)})
	if err != nil {
		t.Fatal(err)
	}
	var builds []build
	for _, name := range order {
		b := build{platform: platforms[name], layers: []layer{l}, config: object{}}
		builds = append(builds, b.in(f))
	}
	if err := o.add("rancher/k3s", "v1", f, builds); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestTheSameInputGivesTheSameDigests(t *testing.T) {
	a, b := testImage(t, oci), testImage(t, oci)
	last := len(a.manifests) - 1
	if a.manifests[last].Digest != b.manifests[last].Digest {
		t.Errorf("%s and %s", a.manifests[last].Digest, b.manifests[last].Digest)
	}
}

func TestFormsOfIndexes(t *testing.T) {
	for kind, want := range map[string]struct {
		f       family
		entries int
		variant string
	}{"OCI with attestations": {oci, 6, ""}, "Docker's list": {docker, 3, "v8"}} {
		o := testImage(t, want.f)
		data, err := os.ReadFile(o.blobPath(o.manifests[len(o.manifests)-1].Digest))
		if err != nil {
			t.Fatal(err)
		}
		var list index
		if err := json.Unmarshal(data, &list); err != nil {
			t.Fatal(err)
		}
		if list.MediaType != want.f.index || len(list.Manifests) != want.entries || list.Manifests[1].Platform.Variant != want.variant {
			t.Errorf("%s: %s", kind, data)
		}
		last := list.Manifests[len(list.Manifests)-1]
		if attested := last.Annotations["vnd.docker.reference.type"] == "attestation-manifest"; attested != want.f.attested {
			t.Errorf("%s: %+v", kind, last)
		}
	}
}

func TestSystemImagesAreThoseOfTheNodeImages(t *testing.T) {
	data, err := os.ReadFile("../catalogue.yaml")
	if err != nil {
		t.Fatal(err)
	}
	names, err := systemImages(data)
	if err != nil || len(names) != 8 || names[3] != "docker.io/rancher/mirrored-coredns-coredns:1.14.6" {
		t.Errorf("%v, %v", names, err)
	}
	if _, err := systemImages([]byte("releases: {}")); err == nil {
		t.Error("a line that is not there is not missed")
	}
}

// fakeRegistry takes what is pushed and counts uploads.
type fakeRegistry struct {
	blobs   map[string]bool
	uploads int
	order   []string
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	digest := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	switch {
	case r.Method == http.MethodHead && !f.blobs[digest]:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodPost:
		w.Header().Set("Location", "/upload?state=1")
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPut && r.URL.Path == "/upload":
		f.blobs[r.URL.Query().Get("digest")] = true
		f.uploads += len(body) / max(len(body), 1)
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPut:
		f.order = append(f.order, digest)
		w.WriteHeader(http.StatusCreated)
	}
}

func max(a, b int) int {
	if a > b {
		return a
	}
	return b
}

func TestPublish(t *testing.T) {
	o := testImage(t, oci)
	if err := o.finish(); err != nil {
		t.Fatal(err)
	}
	registry := &fakeRegistry{blobs: map[string]bool{}}
	web := httptest.NewServer(registry)
	defer web.Close()
	if err := publish(o.directory, web.URL); err != nil {
		t.Fatal(err)
	}
	if last := registry.order[len(registry.order)-1]; last != "v1" {
		t.Errorf("the index has to come after what it lists: %v", registry.order)
	}
	first := registry.uploads
	if err := publish(o.directory, web.URL); err != nil || registry.uploads != first {
		t.Errorf("blobs were sent again: %d, then %d, %v", first, registry.uploads, err)
	}
}
