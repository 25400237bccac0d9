package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/vishvananda/netlink"

	"k3arm.dev/images/node/internal/config"
	"k3arm.dev/images/node/internal/logging"
)

// The numbers of flannel's vxlan backend.
const (
	vxlanID       = 1
	vxlanPort     = 8472
	vxlanOverhead = 50
	vxlanName     = "flannel.1"
	wireguardName = "flannel-wg"
	bridgeName    = "cni0"
	subnetFile    = "/run/flannel/subnet.env"
)

// Flannel is a node's part of the pods' network.
type Flannel struct {
	Backend  string
	Address  net.IP
	PodCIDR  string
	Ranges   Ranges
	Settings *config.Settings
}

// Up makes the interface of the backend.
func (f Flannel) Up() error {
	logging.Info("Starting flannel with backend %s", f.Backend)
	parent, err := interfaceOf(f.Settings, f.Address)
	if err != nil {
		return fmt.Errorf("failed to find the interface: %w", err)
	}
	logging.Info("The interface %s with ipv4 address %s will be used by flannel", parent.Attrs().Name, f.Address)
	first, _, err := net.ParseCIDR(f.PodCIDR)
	if err != nil {
		return err
	}
	mtu := parent.Attrs().MTU
	switch f.Backend {
	case "vxlan":
		mtu -= vxlanOverhead
		err = f.vxlan(parent, first, mtu)
	case "wireguard-native":
		mtu -= 80
		err = replaceLink(&netlink.Wireguard{LinkAttrs: attributes(wireguardName, mtu)}, first)
	case "host-gw": // only routes, which need the other nodes
	default:
		return fmt.Errorf("unknown backend %q", f.Backend)
	}
	if err != nil {
		return err
	}
	logging.Info("Running flannel backend")
	return f.writeSubnet(mtu)
}

func attributes(name string, mtu int) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU = name, mtu
	return a
}

func (f Flannel) vxlan(parent netlink.Link, first net.IP, mtu int) error {
	if old, err := netlink.LinkByName(vxlanName); err == nil {
		if same, ok := old.(*netlink.Vxlan); ok && same.VxlanId == vxlanID && same.VtepDevIndex == parent.Attrs().Index && same.SrcAddr.Equal(f.Address) {
			return address(old, first)
		}
	}
	return replaceLink(&netlink.Vxlan{
		LinkAttrs: attributes(vxlanName, mtu), VxlanId: vxlanID, VtepDevIndex: parent.Attrs().Index,
		SrcAddr: f.Address, Port: vxlanPort, Learning: false,
	}, first)
}

func replaceLink(link netlink.Link, first net.IP) error {
	name := link.Attrs().Name
	if old, err := netlink.LinkByName(name); err == nil {
		if err := netlink.LinkDel(old); err != nil {
			return fmt.Errorf("failed to delete interface: %w", err)
		}
	}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("failed to create %s interface: %w", link.Type(), err)
	}
	return address(link, first)
}

// address gives an interface a /32 and sets it up.
func address(link netlink.Link, first net.IP) error {
	own := &netlink.Addr{IPNet: &net.IPNet{IP: first, Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrAdd(link, own); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("failed to add an address to %s: %w", link.Attrs().Name, err)
	}
	return netlink.LinkSetUp(link)
}

func (f Flannel) writeSubnet(mtu int) error {
	_, subnet, err := net.ParseCIDR(f.PodCIDR)
	if err != nil {
		return err
	}
	subnet.IP[len(subnet.IP)-1]++
	if err := os.MkdirAll(filepath.Dir(subnetFile), 0o755); err != nil {
		return err
	}
	content := fmt.Sprintf("FLANNEL_NETWORK=%s\nFLANNEL_SUBNET=%s\nFLANNEL_MTU=%d\nFLANNEL_IPMASQ=true\n", f.Ranges.Cluster, subnet, mtu)
	logging.Info("Wrote flannel subnet file to %s", subnetFile)
	return os.WriteFile(subnetFile, []byte(content), 0o644)
}

// Bridge makes cni0. The real one comes with the first pod of a node; here, where no pod ever runs, with the image that the
// first pod would need.
func (f Flannel) Bridge() error {
	if _, err := netlink.LinkByName(bridgeName); err == nil {
		return nil
	}
	_, subnet, err := net.ParseCIDR(f.PodCIDR)
	if err != nil {
		return err
	}
	subnet.IP[len(subnet.IP)-1]++
	bridge := &netlink.Bridge{LinkAttrs: attributes(bridgeName, 1450)}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("failed to create bridge %s: %w", bridgeName, err)
	}
	if err := netlink.AddrAdd(bridge, &netlink.Addr{IPNet: subnet}); err != nil {
		return err
	}
	return netlink.LinkSetUp(bridge)
}

// Peer is another node of the network.
type Peer struct {
	Address net.IP
	PodCIDR string
}

// Route leads to another node's pods. With host-gw the routes stay on the host's own interface after the end.
func (f Flannel) Route(peer Peer) error {
	first, subnet, err := net.ParseCIDR(peer.PodCIDR)
	if err != nil {
		return err
	}
	route := netlink.Route{Dst: subnet, Gw: first, Flags: int(netlink.FLAG_ONLINK)}
	switch f.Backend {
	case "vxlan":
		link, err := netlink.LinkByName(vxlanName)
		if err != nil {
			return err
		}
		route.LinkIndex = link.Attrs().Index
	case "host-gw":
		link, err := interfaceOf(f.Settings, f.Address)
		if err != nil {
			return err
		}
		route.LinkIndex, route.Gw, route.Flags = link.Attrs().Index, peer.Address, 0
	default:
		return nil
	}
	return netlink.RouteReplace(&route)
}
