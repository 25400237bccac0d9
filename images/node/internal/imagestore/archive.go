// Package imagestore stands for containerd's images: it reads archives as containerd does, checks every byte against its digest,
// and remembers names. It keeps no content, so nothing can run from it.
package imagestore

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxDocument bounds the JSON documents that are kept in memory while an archive is read.
	maxDocument = 4 << 20
	// maxWindow is the largest zstd window that k3s reads.
	maxWindow = 32 << 20
)

// archive is what one pass over a tar file has found.
type archive struct {
	files     map[string]file   // by path in the archive
	documents map[string][]byte // small JSON files, by path
}

type file struct {
	digest string // of the bytes as they are in the archive
	diffID string // of the uncompressed bytes
	size   int64
}

// decompress recognises the compression by the first bytes, as containerd does.
func decompress(source io.Reader) (io.Reader, error) {
	buffered := bufio.NewReaderSize(source, 64<<10)
	magic, _ := buffered.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(buffered)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		decoder, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return decoder.IOReadCloser(), nil
	case bytes.HasPrefix(magic, []byte("BZh")):
		return bzip2.NewReader(buffered), nil
	case bytes.HasPrefix(magic, []byte{0x04, 0x22, 0x4d, 0x18}):
		return nil, fmt.Errorf("lz4 is not among the compressions of this stand-in")
	}
	return buffered, nil
}

// read goes through an archive once.
func read(source io.Reader) (*archive, error) {
	plain, err := decompress(source)
	if err != nil {
		return nil, err
	}
	if closer, ok := plain.(io.Closer); ok {
		defer closer.Close()
	}
	a := &archive{files: map[string]file{}, documents: map[string][]byte{}}
	links := map[string]string{}
	reader := tar.NewReader(plain)
	for {
		header, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean(header.Name)
		switch header.Typeflag {
		case tar.TypeSymlink:
			links[name] = path.Join(path.Dir(name), header.Linkname)
		case tar.TypeLink:
			links[name] = path.Clean(header.Linkname)
		case tar.TypeReg:
			if err := a.add(name, header.Size, reader); err != nil {
				return nil, err
			}
		}
	}
	for name, target := range links {
		if f, ok := a.files[target]; ok {
			a.files[name] = f
		}
	}
	return a, nil
}

// add reads one file, keeps it if it is a document, and checks the digest that its name promises.
func (a *archive) add(name string, size int64, content io.Reader) error {
	raw := sha256.New()
	tee := io.TeeReader(content, raw)
	first := make([]byte, 1)
	n, err := io.ReadFull(tee, first)
	if err != nil && err != io.EOF {
		return err
	}
	f := file{size: size}
	rest := io.MultiReader(bytes.NewReader(first[:n]), tee)
	if n == 1 && (first[0] == '{' || first[0] == '[') && size <= maxDocument {
		document, err := io.ReadAll(rest)
		if err != nil {
			return err
		}
		a.documents[name] = document
	} else if f.diffID, err = uncompressedDigest(rest); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return err
	}
	f.digest = "sha256:" + hex.EncodeToString(raw.Sum(nil))
	if promised := strings.TrimPrefix(name, "blobs/sha256/"); promised != name && "sha256:"+promised != f.digest {
		return fmt.Errorf("failed commit on ref %q: unexpected commit digest %s, expected sha256:%s: failed precondition", "blob-"+promised, f.digest, promised)
	}
	a.files[name] = f
	return nil
}

func uncompressedDigest(source io.Reader) (string, error) {
	plain, err := decompress(source)
	if err != nil {
		return "", err
	}
	if closer, ok := plain.(io.Closer); ok {
		defer closer.Close()
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, plain); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// document decodes a JSON file of the archive.
func (a *archive) document(name string, into interface{}) error {
	data, ok := a.documents[name]
	if !ok {
		return fmt.Errorf("%s: not found", name)
	}
	return json.Unmarshal(data, into)
}
