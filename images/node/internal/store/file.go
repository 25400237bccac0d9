package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"

	"k3arm.dev/images/node/internal/token"
)

// Bootstrap is what k3s keeps in its datastore encrypted with the token: here the files themselves, and a salted hash that
// only the same token gives again.
type Bootstrap struct {
	Salt  string            `json:"salt"`
	Hash  string            `json:"hash"`
	Files map[string][]byte `json:"files"`
}

// ErrOtherToken says that the data belong to another token.
var ErrOtherToken = errors.New("bootstrap data already found and encrypted with different token")

type file struct {
	Bootstrap Bootstrap `json:"bootstrap"`
	Version   uint64    `json:"version"`
	Objects   []entry   `json:"objects"`
}

type entry struct {
	Key    Key    `json:"key"`
	Object Object `json:"object"`
}

// Open reads the store from a file; one that does not exist yet is an empty store.
func Open(path string) (*Store, error) {
	s := &Store{objects: map[Key]Object{}, changed: make(chan struct{}), dirty: make(chan struct{}, 1), path: path}
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	var content file
	if err := json.Unmarshal(data, &content); err != nil {
		return nil, err
	}
	for _, entry := range content.Objects {
		s.objects[entry.Key] = entry.Object
	}
	s.secrets = content.Bootstrap
	// Heartbeats counted after the last write; a jump keeps versions from being given twice.
	s.version = content.Version + history
	return s, nil
}

// Unlock checks the token against that of the stored data, or ties new data to it.
func (s *Store) Unlock(password string) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.secrets.Salt == "" {
		s.secrets.Salt = token.Random()
		s.secrets.Hash = hashed(s.secrets.Salt, password)
	}
	if s.secrets.Hash != hashed(s.secrets.Salt, password) {
		return ErrOtherToken
	}
	return nil
}

// File gives a file that was kept with the data.
func (s *Store) File(name string) []byte { return s.secrets.Files[name] }

// Keep stores a file with the data.
func (s *Store) Keep(name string, content []byte) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.secrets.Files == nil {
		s.secrets.Files = map[string][]byte{}
	}
	s.secrets.Files[name] = content
}

func hashed(salt, password string) string {
	sum := sha256.Sum256([]byte(salt + password))
	return hex.EncodeToString(sum[:])
}

// Run writes the file after changes, bundling those that come together, until the context ends.
func (s *Store) Run(ctx context.Context, failed func(error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.dirty:
		}
		time.Sleep(50 * time.Millisecond)
		if err := s.Save(); err != nil {
			failed(err)
		}
	}
}

// Save writes the file now.
func (s *Store) Save() error {
	s.mutex.Lock()
	content := file{Bootstrap: s.secrets, Version: s.version}
	for key, object := range s.objects {
		content.Objects = append(content.Objects, entry{key, object})
	}
	data, err := json.Marshal(content)
	s.mutex.Unlock()
	if err != nil {
		return err
	}
	return replace(s.path, data)
}

func replace(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".state-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	if _, err := temporary.Write(data); err != nil {
		return err
	}
	if err := temporary.Sync(); err != nil {
		return err
	}
	if err := temporary.Close(); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
