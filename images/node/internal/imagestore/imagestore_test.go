package imagestore

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"k3arm.dev/images/node/internal/logging"
)

const pause = "docker.io/rancher/mirrored-pause:3.10.2"

// layout builds the files of an archive that is an OCI layout and one of `docker save` at once, as k3arm's are.
type layout struct{ files map[string][]byte }

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (l *layout) blob(data []byte) map[string]interface{} {
	l.files[blobPath(digestOf(data))] = data
	return map[string]interface{}{"digest": digestOf(data), "size": len(data)}
}

func (l *layout) document(value interface{}) map[string]interface{} {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return l.blob(data)
}

func zipped(data []byte) []byte {
	var buffer bytes.Buffer
	writer := gzip.NewWriter(&buffer)
	_, _ = writer.Write(data)
	_ = writer.Close()
	return buffer.Bytes()
}

func newLayout(architecture string) *layout {
	l := &layout{map[string][]byte{}}
	plain := bytes.Repeat([]byte("layer "), 1000)
	layer := l.blob(zipped(plain))
	config := l.document(map[string]interface{}{
		"os": "linux", "architecture": architecture, "rootfs": map[string]interface{}{"diff_ids": []string{digestOf(plain)}},
	})
	manifest := l.document(map[string]interface{}{"config": config, "layers": []interface{}{layer}})
	manifest["platform"] = map[string]string{"os": "linux", "architecture": architecture}
	index := l.document(map[string]interface{}{"manifests": []interface{}{manifest}})
	index["annotations"] = map[string]string{"io.containerd.image.name": pause}
	l.files["index.json"], _ = json.Marshal(map[string]interface{}{"manifests": []interface{}{index}})
	l.files["oci-layout"] = []byte(`{"imageLayoutVersion":"1.0.0"}`)
	l.files["manifest.json"], _ = json.Marshal([]map[string]interface{}{{
		"Config": blobPath(config["digest"].(string)), "RepoTags": []string{"rancher/mirrored-pause:3.10.2"},
		"Layers": []string{blobPath(layer["digest"].(string))},
	}})
	return l
}

func (l *layout) tar() []byte {
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	var names []string
	for name := range l.files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		data := l.files[name]
		_ = writer.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg})
		_, _ = writer.Write(data)
	}
	_ = writer.Close()
	return buffer.Bytes()
}

func zstandard(t *testing.T, data []byte) []byte {
	t.Helper()
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return encoder.EncodeAll(data, nil)
}

func TestImport(t *testing.T) {
	data := newLayout(runtime.GOARCH).tar()
	for name, archive := range map[string][]byte{"tar": data, "gzip": zipped(data), "zstd": zstandard(t, data)} {
		images, err := Import(bytes.NewReader(archive))
		if err != nil || len(images) != 1 || images[0].Name != pause || !images[0].Complete {
			t.Errorf("%s: %+v, %v", name, images, err)
		}
	}
	images, err := Import(bytes.NewReader(newLayout("s390x").tar()))
	if err != nil || len(images) != 1 || images[0].Complete {
		t.Errorf("a foreign platform: %+v, %v", images, err)
	}
	saved := newLayout(runtime.GOARCH)
	delete(saved.files, "index.json")
	images, err = Import(bytes.NewReader(saved.tar()))
	if err != nil || len(images) != 1 || images[0].Name != pause {
		t.Errorf("docker save: %+v, %v", images, err)
	}
}

func TestEveryByteIsChecked(t *testing.T) {
	good := newLayout(runtime.GOARCH)
	for name, data := range good.files {
		if !strings.HasPrefix(name, "blobs/") {
			continue
		}
		bad := newLayout(runtime.GOARCH)
		changed := append([]byte(nil), data...)
		changed[len(changed)-1] ^= 1
		bad.files[name] = changed
		if _, err := Import(bytes.NewReader(bad.tar())); err == nil {
			t.Errorf("%s was changed and nobody noticed", name)
		}
	}
}

// import log of one start over a data directory
func start(t *testing.T, data string) string {
	t.Helper()
	var log bytes.Buffer
	logging.SetOutput(&log)
	defer logging.SetOutput(os.Stderr)
	NewPreload(data, Open(data)).All()
	return log.String()
}

func TestCache(t *testing.T) {
	data := t.TempDir()
	images := filepath.Join(data, "agent", "images")
	if err := os.MkdirAll(images, 0o755); err != nil {
		t.Fatal(err)
	}
	archive, cache := filepath.Join(images, "a.tar.zst"), filepath.Join(images, ".cache.json")
	write := func(path string, content []byte, at time.Time) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	whole := time.Now().Truncate(time.Second)
	write(archive, zstandard(t, newLayout(runtime.GOARCH).tar()), whole)
	for i := 0; i < 2; i++ {
		if log := start(t, data); !strings.Contains(log, "Importing images from "+archive) {
			t.Errorf("without a cache every start imports: %s", log)
		}
	}
	if _, err := os.Stat(cache); err == nil {
		t.Error("the cache has to be put there by somebody")
	}
	write(cache, nil, whole)
	if log := start(t, data); !strings.Contains(log, "Imported "+pause) {
		t.Errorf("the start that fills the cache imports: %s", log)
	}
	if log := start(t, data); strings.Contains(log, "Importing") {
		t.Errorf("the next does not: %s", log)
	}
	if all, err := Open(data).List(); err != nil || len(all) != 1 || !all[0].Pinned {
		t.Errorf("names stay, and stay pinned: %+v, %v", all, err)
	}
	write(archive, zstandard(t, newLayout(runtime.GOARCH).tar()), whole.Add(10*time.Second+time.Millisecond))
	for i := 0; i < 2; i++ {
		if log := start(t, data); !strings.Contains(log, "Importing") {
			t.Errorf("a fraction of a second is always newer: %s", log)
		}
	}
}

func TestPins(t *testing.T) {
	data := t.TempDir()
	path := filepath.Join(data, "agent", "images", "a.tar")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	marks := func() string {
		t.Helper()
		all, err := Open(data).List()
		if err != nil || len(all) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		return labels(all[0])
	}
	for _, mine := range []bool{false, true} {
		if err := os.WriteFile(path, newLayout(runtime.GOARCH).tar(), 0o644); err != nil {
			t.Fatal(err)
		}
		start(t, data)
		if got := marks(); got != byK3s+"=pinned,"+pinned+"=pinned" {
			t.Errorf("an imported image: %s", got)
		}
		want := "-"
		if mine {
			want = pinned + "=pinned"
			if err := label(Open(data), pause, []string{byK3s + "=", want}); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if start(t, data); marks() != want {
			t.Errorf("without the archive: %s, not %s", marks(), want)
		}
	}
	if err := label(Open(data), "nobody/knows:it", []string{pinned + "=pinned"}); err == nil {
		t.Error("an image that is not there has no labels")
	}
}

func TestBrokenArchive(t *testing.T) {
	data := t.TempDir()
	path := filepath.Join(data, "agent", "images", "a.tar")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	archive := newLayout(runtime.GOARCH).tar()
	// In the middle of a header: between two files it would be a whole archive without an end.
	if err := os.WriteFile(path, archive[:len(archive)/2+100], 0o644); err != nil {
		t.Fatal(err)
	}
	if log := start(t, data); !strings.Contains(log, "level=error") {
		t.Errorf("%s", log)
	}
}

func TestNormalize(t *testing.T) {
	for name, want := range map[string]string{
		"busybox:1": "docker.io/library/busybox:1", "rancher/x:1": "docker.io/rancher/x:1", "ghcr.io/x:1": "ghcr.io/x:1",
		"localhost/x:1": "localhost/x:1", "host:5000/x:1": "host:5000/x:1",
	} {
		if got := Normalize(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestFlagsOfTheCommands(t *testing.T) {
	rest := withoutGlobalFlags([]string{"-n", "k8s.io", "--address=/run/x", "images", "ls", "-q"})
	if !reflect.DeepEqual(rest, []string{"images", "ls", "-q"}) {
		t.Errorf("%v", rest)
	}
	records := Open(t.TempDir())
	if err := records.Add([]Image{{Name: pause, Complete: true}}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := list(records, io.Writer(&out), true); err != nil || out.String() != pause+"\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}
