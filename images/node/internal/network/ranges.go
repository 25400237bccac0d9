package network

import (
	"encoding/binary"
	"fmt"
	"net"

	"k3arm.dev/images/node/internal/config"
)

// Ranges are the addresses that a cluster gives to pods and services.
type Ranges struct {
	Cluster string
	Service string
}

// RangesOf reads them from a server's settings. Only IPv4 is imitated.
func RangesOf(settings *config.Settings) (Ranges, error) {
	r := Ranges{Cluster: "10.42.0.0/16", Service: "10.43.0.0/16"}
	for name, value := range map[string]*string{"cluster-cidr": &r.Cluster, "service-cidr": &r.Service} {
		fields := settings.Fields(name)
		if len(fields) == 0 {
			continue
		}
		_, network, err := net.ParseCIDR(fields[0])
		if err != nil || network.IP.To4() == nil {
			return r, fmt.Errorf("invalid %s %s: %v", name, fields[0], err)
		}
		*value = network.String()
	}
	return r, nil
}

// APIAddress is the address of the service that leads to the servers: the first of the services' range.
func (r Ranges) APIAddress() net.IP { return add(r.Service, 1) }

// NodeRange is the n-th /24 of the pods' addresses, or nothing if there are not so many.
func (r Ranges) NodeRange(n int) string {
	_, cluster, err := net.ParseCIDR(r.Cluster)
	first := add(r.Cluster, uint32(n)<<8)
	if err != nil || !cluster.Contains(first) {
		return ""
	}
	return first.String() + "/24"
}

func add(cidr string, n uint32) net.IP {
	_, network, err := net.ParseCIDR(cidr)
	if err != nil {
		return nil
	}
	sum := make(net.IP, net.IPv4len)
	binary.BigEndian.PutUint32(sum, binary.BigEndian.Uint32(network.IP.To4())+n)
	return sum
}
