package imagestore

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sort"
	"syscall"
)

// Records is the list of names, a file that the node and the commands `ctr` and `crictl` share.
type Records struct{ path string }

// Open gives the list of a data directory.
func Open(dataDirectory string) *Records {
	return &Records{filepath.Join(dataDirectory, "agent", "containerd", "images.json")}
}

// List gives the images in order of their names.
func (r *Records) List() ([]Image, error) {
	var images []Image
	err := r.Change(func(all map[string]Image) {
		for _, image := range all {
			images = append(images, image)
		}
	})
	sort.Slice(images, func(i, j int) bool { return images[i].Name < images[j].Name })
	return images, err
}

// Add stores images, over those of the same name.
func (r *Records) Add(images []Image) error {
	return r.Change(func(all map[string]Image) {
		for _, image := range images {
			all[image.Name] = image
		}
	})
}

// Has tells whether an image of this name can be used.
func (r *Records) Has(name string) bool {
	found := false
	_ = r.Change(func(all map[string]Image) { found = all[name].Complete })
	return found
}

// Change edits the list while nobody else does.
func (r *Records) Change(edit func(map[string]Image)) error {
	if err := os.MkdirAll(filepath.Dir(r.path), 0o711); err != nil {
		return err
	}
	lock, err := os.OpenFile(r.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	all := map[string]Image{}
	before, err := os.ReadFile(r.path)
	if err == nil {
		err = json.Unmarshal(before, &all)
	}
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	edit(all)
	after, err := json.Marshal(all)
	if err != nil || string(after) == string(before) {
		return err
	}
	if err := os.WriteFile(r.path+".new", after, 0o600); err != nil {
		return err
	}
	return os.Rename(r.path+".new", r.path)
}
