package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"time"
)

// epoch is the time of everything in the images, so that they do not change from build to build.
var epoch = time.Date(2026, 7, 29, 0, 0, 0, 0, time.UTC)

// layer is a compressed layer and the digest of its uncompressed form.
type layer struct {
	data   []byte
	diffID string
}

// entry is one file of a layer.
type entry struct {
	header tar.Header
	data   []byte
}

// pack writes entries as a layer, in the order given.
func pack(entries []entry) (layer, error) {
	var plain, compressed bytes.Buffer
	writer := tar.NewWriter(&plain)
	for _, e := range entries {
		e.header.ModTime = epoch
		e.header.Size = int64(len(e.data))
		e.header.Format = tar.FormatPAX
		if err := writer.WriteHeader(&e.header); err != nil {
			return layer{}, err
		}
		if _, err := writer.Write(e.data); err != nil {
			return layer{}, err
		}
	}
	if err := writer.Close(); err != nil {
		return layer{}, err
	}
	sum := sha256.Sum256(plain.Bytes())
	zipper, err := gzip.NewWriterLevel(&compressed, gzip.DefaultCompression)
	if err != nil {
		return layer{}, err
	}
	if _, err := zipper.Write(plain.Bytes()); err != nil {
		return layer{}, err
	}
	if err := zipper.Close(); err != nil {
		return layer{}, err
	}
	return layer{compressed.Bytes(), "sha256:" + hex.EncodeToString(sum[:])}, nil
}

// tree gives the files below a directory. Everything belongs to root.
func tree(root string) ([]entry, error) {
	var entries []entry
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		e, err := read(path, name, d)
		entries = append(entries, e)
		return err
	})
	return entries, err
}

func read(path, name string, d fs.DirEntry) (entry, error) {
	info, err := d.Info()
	if err != nil {
		return entry{}, err
	}
	mode := int64(info.Mode().Perm())
	if info.Mode()&fs.ModeSticky != 0 {
		mode |= 0o1000
	}
	switch {
	case info.IsDir():
		return directory(name, mode), nil
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		return symlink(name, target), err
	}
	data, err := os.ReadFile(path)
	return file(name, mode, data), err
}

func directory(name string, mode int64) entry {
	return entry{header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}}
}

func symlink(name, target string) entry {
	return entry{header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

func file(name string, mode int64, data []byte) entry {
	return entry{header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, data: data}
}

// ballast is a file that does not compress: it gives an image a weight worth shaping a link for. The seed makes it the same
// every time.
func ballast(name string, size int) entry {
	seed := int64(0)
	for _, c := range name {
		seed = seed*31 + int64(c)
	}
	data := make([]byte, size)
	_, _ = rand.New(rand.NewSource(seed)).Read(data)
	return file(name, 0o644, data)
}
