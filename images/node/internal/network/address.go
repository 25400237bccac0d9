// Package network makes what k3s leaves on a host's network: flannel's interface and routes, the bridge of the pods, and the
// packet filter rules of kube-proxy, flannel and the kubelet. Nothing here is undone at the end, because k3s does not either.
package network

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"k3arm.dev/images/node/internal/config"
)

// NodeAddress is the address that a node is known by: the one that was set, that of flannel's interface, or the one from which
// the default route leaves.
func NodeAddress(settings *config.Settings) (net.IP, error) {
	for _, text := range settings.Fields("node-ip") {
		address := net.ParseIP(text)
		if address == nil {
			return nil, fmt.Errorf("invalid node-ip %s", text)
		}
		return address, nil
	}
	if name := settings.Text("flannel-iface"); name != "" {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return nil, fmt.Errorf("failed to find interface %s: %w", name, err)
		}
		return firstAddress(link)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	for _, route := range routes {
		if route.Dst == nil {
			if link, err := netlink.LinkByIndex(route.LinkIndex); err == nil {
				return firstAddress(link)
			}
		}
	}
	return onlyAddress()
}

// onlyAddress is for machines without a default route.
func onlyAddress() (net.IP, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		if link.Attrs().Flags&net.FlagLoopback == 0 && link.Attrs().Flags&net.FlagUp != 0 {
			if address, err := firstAddress(link); err == nil {
				return address, nil
			}
		}
	}
	return nil, fmt.Errorf("no default routes found in \"/proc/net/route\" or \"/proc/net/ipv6_route\"")
}

func firstAddress(link netlink.Link) (net.IP, error) {
	addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	if len(addresses) == 0 {
		return nil, fmt.Errorf("no address found on interface %s", link.Attrs().Name)
	}
	return addresses[0].IP, nil
}

// interfaceOf finds the interface that flannel uses: the one that was set, or the one that has the node's address.
func interfaceOf(settings *config.Settings, address net.IP) (netlink.Link, error) {
	if name := settings.Text("flannel-iface"); name != "" {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return nil, fmt.Errorf("failed to find interface %s: %w", name, err)
		}
		return link, nil
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		addresses, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			if a.IP.Equal(address) {
				return link, nil
			}
		}
	}
	return nil, fmt.Errorf("unable to find interface with IP %s", address)
}
