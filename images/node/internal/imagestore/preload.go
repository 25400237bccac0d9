package imagestore

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"k3arm.dev/images/node/internal/logging"
	"k3arm.dev/images/node/internal/timing"
)

// extensions are the archives that k3s imports.
var extensions = []string{".tar", ".tar.lz4", ".tar.bz2", ".tbz", ".tar.gz", ".tgz", ".tar.zst", ".tzst"}

// known is what the cache remembers of an archive. The file is k3s' own, so its fields are k3s' too.
type known struct {
	Size    int64    `json:"size"`
	ModTime modTime  `json:"modTime"`
	Images  []string `json:"images"`
	seen    bool
}

// modTime loses the fraction of a second in the file, as k3s' does: an archive whose time has one is therefore newer than what
// the cache says, and imported at every start.
type modTime struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (t modTime) MarshalJSON() ([]byte, error) { return json.Marshal(t.UTC().Format(time.RFC3339)) }

// Preload imports the archives of a directory, now and whenever one is added.
type Preload struct {
	directory string
	records   *Records
	files     map[string]*known
	pending   map[string]time.Time // seen by a scan, but perhaps still being written
	failed    map[string]time.Time // not to be tried again until they change
}

// NewPreload reads the cache, which counts only if somebody has put the file there before.
func NewPreload(dataDirectory string, records *Records) *Preload {
	p := &Preload{
		directory: filepath.Join(dataDirectory, "agent", "images"), records: records,
		files: map[string]*known{}, pending: map[string]time.Time{}, failed: map[string]time.Time{},
	}
	data, err := os.ReadFile(p.cachePath())
	if err == nil && len(data) > 0 {
		if err := json.Unmarshal(data, &p.files); err != nil {
			logging.Error("Failed to unmarshal image import fileinfo cache: %v", err)
			p.files = map[string]*known{}
		}
	}
	return p
}

func (p *Preload) cachePath() string { return filepath.Join(p.directory, ".cache.json") }

// All imports what is there at the start. k3s' own pins of an earlier start do not count any more; those of others stay.
func (p *Preload) All() {
	_ = p.records.Change(func(all map[string]Image) {
		for name, image := range all {
			if image.PinnedByK3s {
				image.Pinned, image.PinnedByK3s = false, false
				all[name] = image
			}
		}
	})
	for _, path := range p.archives() {
		p.process(path)
	}
	for path, file := range p.files {
		if !file.seen {
			delete(p.files, path)
		}
	}
	p.writeCache()
}

// Watch imports archives that come later, once they have stopped changing.
func (p *Preload) Watch(ctx context.Context) {
	ticker := time.NewTicker(timing.ImageScan)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			p.scan()
		}
	}
}

func (p *Preload) scan() {
	present := map[string]bool{}
	for _, path := range p.archives() {
		present[path] = true
		info, err := os.Stat(path)
		if err != nil || !p.changed(path, info) || p.failed[path].Equal(info.ModTime()) {
			continue
		}
		if p.pending[path] == info.ModTime() {
			delete(p.pending, path)
			p.process(path)
		} else {
			p.pending[path] = info.ModTime()
		}
	}
	for path := range p.files {
		if !present[path] {
			delete(p.files, path)
			p.writeCache()
		}
	}
}

func (p *Preload) archives() []string {
	var paths []string
	_ = filepath.Walk(p.directory, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			for _, extension := range extensions {
				if strings.HasSuffix(path, extension) {
					paths = append(paths, path)
					break
				}
			}
		}
		return nil
	})
	sort.Strings(paths)
	return paths
}

func (p *Preload) changed(path string, info os.FileInfo) bool {
	before := p.files[path]
	return before == nil || before.Images == nil || info.Size() != before.Size || info.ModTime().After(before.ModTime.Time)
}

func (p *Preload) process(path string) {
	info, err := os.Stat(path)
	if err != nil {
		logging.Error("Failed to process image event: failed to get fileinfo for image event %s: %v", path, err)
		return
	}
	if !p.changed(path, info) {
		p.files[path].seen = true
		p.pin(p.files[path].Images)
		return
	}
	start := time.Now()
	logging.Info("Importing images from %s", path)
	images, err := importFile(path)
	if err == nil {
		err = p.records.Add(images)
	}
	if err != nil {
		logging.Error("Failed to process image event: failed to import %s: failed to import images from %s: %v", path, path, err)
		p.failed[path] = info.ModTime()
		return
	}
	names := []string{}
	for _, image := range images {
		names = append(names, image.Name)
		logging.Info("Imported %s", image.Name)
	}
	p.pin(names)
	logging.Info("Imported %d images from %s in %s", len(images), path, time.Since(start))
	p.files[path] = &known{Size: info.Size(), ModTime: modTime{info.ModTime()}, Images: names, seen: true}
	p.writeCache()
}

func importFile(path string) ([]Image, error) {
	source, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	return Import(source)
}

func (p *Preload) pin(names []string) {
	_ = p.records.Change(func(all map[string]Image) {
		for _, name := range names {
			if image, ok := all[name]; ok {
				image.Pinned, image.PinnedByK3s = true, true
				all[name] = image
			}
		}
	})
}

// writeCache replaces the content of the cache if the file is there; k3s never makes it.
func (p *Preload) writeCache() {
	if _, err := os.Stat(p.cachePath()); err != nil {
		return
	}
	data, err := json.Marshal(p.files)
	if err == nil {
		err = os.WriteFile(p.cachePath(), data, 0o644)
	}
	if err != nil {
		logging.Error("Failed to write image import fileinfo cache: %v", err)
	}
}
