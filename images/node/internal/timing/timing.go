// Package timing holds every duration that the stand-in imitates, in one place. Those up to Ready are shorter than the real
// ones (7–15 s for a server) so that tests are quick; the ones of the start's failures are the real ones.
package timing

import "time"

const (
	// Listening is from the start of a server to its open port, APIReady from there to a ready interface.
	Listening = 300 * time.Millisecond
	APIReady  = 1500 * time.Millisecond
	// Containerd is how long the runtime takes before archives are imported.
	Containerd = 300 * time.Millisecond
	// KubeletStart is from there to a registered node, NodeReady from there to Ready.
	KubeletStart = 700 * time.Millisecond
	NodeReady    = 1200 * time.Millisecond
	// AgentNetwork and ServerNetwork are from Ready to flannel's interface and the rules: 1 s and 10 s really.
	AgentNetwork  = 500 * time.Millisecond
	ServerNetwork = 1500 * time.Millisecond
	// KubeletFailure is from the start of the program to the exit of a kubelet that refuses its configuration.
	KubeletFailure = 4 * time.Second
	// Noise is how long the parts of a failing program go on logging.
	Noise = 400 * time.Millisecond
	// Stop is from a signal to the end.
	Stop = 700 * time.Millisecond

	// ValidateRetry is between two attempts to reach a server, UnreachableRetry is added where it does not even answer.
	ValidateRetry    = 2 * time.Second
	UnreachableRetry = 6 * time.Second
	// ConfigRetry is between two attempts to get the configuration; the real one varies from 5 to 10 s.
	ConfigRetry = 8 * time.Second
	// Request bounds every request between nodes.
	Request = 10 * time.Second

	// Heartbeat is how often a node renews its lease, Grace how old a lease may get before the node counts as lost.
	Heartbeat = 10 * time.Second
	Grace     = 50 * time.Second
	// StatusReport is how long a status that does not change is not sent again.
	StatusReport = 5 * time.Minute
	// ImageScan is how often the directory of archives is looked at.
	ImageScan = 3 * time.Second
)
