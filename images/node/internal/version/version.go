// Package version says which k3s this stand-in claims to be. The build sets it for each image.
package version

// Set with -ldflags -X.
var (
	// K3s is the release, such as v1.36.3+k3s1.
	K3s = "v1.36.3+k3s1"
	// Containerd is the runtime that its nodes report.
	Containerd = "2.3.2-k3s2"
	// Commit stands where k3s names the commit it was built from.
	Commit = "standin0"
)
