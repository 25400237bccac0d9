package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// publish pushes a directory that build has made. Blobs that the registry has are not sent again.
func publish(directory, registry string) error {
	o := &output{directory: directory}
	data, err := os.ReadFile(filepath.Join(directory, "manifests.json"))
	if err == nil {
		err = json.Unmarshal(data, &o.manifests)
	}
	if err != nil {
		return err
	}
	registry = strings.TrimRight(registry, "/")
	sent := map[string]string{} // by digest, the repository that has it
	for _, m := range o.manifests {
		for _, digest := range m.Blobs {
			if err := o.pushBlob(registry, m.Repository, digest, sent); err != nil {
				return fmt.Errorf("%s: blob %s: %w", m.Repository, digest, err)
			}
		}
		if err := o.pushManifest(registry, m); err != nil {
			return fmt.Errorf("%s:%s: %w", m.Repository, m.Reference, err)
		}
		if m.Reference != m.Digest {
			fmt.Fprintf(os.Stderr, "published %s:%s %s\n", m.Repository, m.Reference, m.Digest)
		}
	}
	return nil
}

func (o *output) pushBlob(registry, repository, digest string, sent map[string]string) error {
	base := registry + "/v2/" + repository + "/blobs/"
	response, err := http.Head(base + digest)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode == http.StatusOK {
		sent[digest] = repository
		return nil
	}
	start := base + "uploads/"
	if from := sent[digest]; from != "" {
		start += "?mount=" + url.QueryEscape(digest) + "&from=" + url.QueryEscape(from)
	}
	response, err = send(http.MethodPost, start, "", nil, http.StatusAccepted, http.StatusCreated)
	if err != nil || response.StatusCode == http.StatusCreated {
		return err
	}
	target, err := response.Location()
	if err != nil {
		return err
	}
	query := target.Query()
	query.Set("digest", digest)
	target.RawQuery = query.Encode()
	data, err := os.ReadFile(o.blobPath(digest))
	if err != nil {
		return err
	}
	sent[digest] = repository
	_, err = send(http.MethodPut, target.String(), "application/octet-stream", data, http.StatusCreated)
	return err
}

func (o *output) pushManifest(registry string, m published) error {
	data, err := os.ReadFile(o.blobPath(m.Digest))
	if err != nil {
		return err
	}
	response, err := send(http.MethodPut, registry+"/v2/"+m.Repository+"/manifests/"+m.Reference, m.MediaType, data, http.StatusCreated)
	if err != nil {
		return err
	}
	if got := response.Header.Get("Docker-Content-Digest"); got != "" && got != m.Digest {
		return fmt.Errorf("the registry stored it as %s instead of %s", got, m.Digest)
	}
	return nil
}

// send makes a request and reads its answer to the end.
func send(method, address, mediaType string, body []byte, wanted ...int) (*http.Response, error) {
	request, err := http.NewRequest(method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if mediaType != "" {
		request.Header.Set("Content-Type", mediaType)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	for _, code := range wanted {
		if response.StatusCode == code {
			return response, nil
		}
	}
	return nil, fmt.Errorf("%s %s: %s: %s", method, address, response.Status, bytes.TrimSpace(answer))
}

func sorted(set map[string]bool) []string {
	var all []string
	for one := range set {
		all = append(all, one)
	}
	sort.Strings(all)
	return all
}
