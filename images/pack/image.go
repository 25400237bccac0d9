package main

// The media types of the two families of images.
const (
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"

	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"

	inToto = "application/vnd.in-toto+json"
)

// family is how an image is written down. Registries hold both, and what reads them has to know both.
type family struct {
	index, manifest, config, layer string
	// attested says whether an index has an attestation for each platform beside it, as buildx makes them.
	attested bool
}

var (
	oci    = family{ociIndex, ociManifest, ociConfig, ociLayer, true}
	docker = family{dockerList, dockerManifest, dockerConfig, dockerLayer, false}
)

// build is one platform's part of an image.
type build struct {
	platform platform
	layers   []layer
	config   object
}

type object = map[string]interface{}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

// add writes an image of several platforms.
func (o *output) add(repository, tag string, f family, builds []build) error {
	list := index{SchemaVersion: 2, MediaType: f.index}
	var attestations []descriptor
	for _, b := range builds {
		d, err := o.addPlatform(repository, f, b)
		if err != nil {
			return err
		}
		list.Manifests = append(list.Manifests, d)
		if f.attested {
			a, err := o.addAttestation(repository, d)
			if err != nil {
				return err
			}
			attestations = append(attestations, a)
		}
	}
	list.Manifests = append(list.Manifests, attestations...)
	d, err := o.putJSON(f.index, list)
	if err != nil {
		return err
	}
	o.manifests = append(o.manifests, published{Repository: repository, Reference: tag, MediaType: f.index, Digest: d.Digest})
	return nil
}

func (o *output) addPlatform(repository string, f family, b build) (descriptor, error) {
	m := manifest{SchemaVersion: 2, MediaType: f.manifest}
	diffIDs, history := []string{}, []object{}
	for _, l := range b.layers {
		d, err := o.put(f.layer, l.data)
		if err != nil {
			return d, err
		}
		m.Layers = append(m.Layers, d)
		diffIDs = append(diffIDs, l.diffID)
		history = append(history, object{"created": epoch, "created_by": "COPY / /"})
	}
	config := object{
		"created": epoch, "architecture": b.platform.Architecture, "os": b.platform.OS, "config": b.config,
		"rootfs": object{"type": "layers", "diff_ids": diffIDs}, "history": history,
	}
	if b.platform.Variant != "" {
		config["variant"] = b.platform.Variant
	}
	var err error
	if m.Config, err = o.putJSON(f.config, config); err != nil {
		return descriptor{}, err
	}
	d, err := o.addManifest(repository, m)
	p := b.platform
	d.Platform = &p
	return d, err
}

func (o *output) addManifest(repository string, m manifest) (descriptor, error) {
	d, err := o.putJSON(m.MediaType, m)
	if err != nil {
		return d, err
	}
	p := published{Repository: repository, Reference: d.Digest, MediaType: m.MediaType, Digest: d.Digest, Blobs: []string{m.Config.Digest}}
	for _, l := range m.Layers {
		p.Blobs = append(p.Blobs, l.Digest)
	}
	o.manifests = append(o.manifests, p)
	return d, nil
}

// addAttestation writes the manifest that stands beside a platform's own in the index. It is for no platform, and whoever
// looks for one has to pass over it.
func (o *output) addAttestation(repository string, subject descriptor) (descriptor, error) {
	statement := object{
		"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://slsa.dev/provenance/v0.2", "predicate": object{},
		"subject": []object{{"name": repository, "digest": object{"sha256": subject.Digest[len("sha256:"):]}}},
	}
	l, err := o.putJSON(inToto, statement)
	if err != nil {
		return l, err
	}
	l.Annotations = map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
	m := manifest{SchemaVersion: 2, MediaType: ociManifest, Layers: []descriptor{l}}
	m.Config, err = o.putJSON(ociConfig, object{
		"architecture": "unknown", "os": "unknown", "config": object{}, "rootfs": object{"type": "layers", "diff_ids": []string{l.Digest}},
	})
	if err != nil {
		return l, err
	}
	d, err := o.addManifest(repository, m)
	d.Platform = &platform{Architecture: "unknown", OS: "unknown"}
	d.Annotations = map[string]string{
		"vnd.docker.reference.digest": subject.Digest,
		"vnd.docker.reference.type":   "attestation-manifest",
	}
	return d, err
}
