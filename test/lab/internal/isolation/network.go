//go:build linux

package isolation

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
)

const (
	// uplink is the end of a node's veth pair inside the node; it is a port of lan.
	uplink = "uplink"
	// lan is the bridge that holds a node's address. The first node's also joins the machine and the other nodes.
	lan = "lan"
)

// Attach makes a veth pair named link whose other end is in the network namespace of process pid, and gives this end
// the address. The kernel takes the pair away when that namespace ends.
func Attach(link string, address netip.Prefix, pid int) error {
	l, err := addPair(link, pid)
	if err != nil {
		return err
	}
	return setAddress(l, address)
}

// AttachNode joins the node that runs as process pid to the bridge of the node that this process is.
func AttachNode(link string, pid int) error {
	bridge, err := netlink.LinkByName(lan)
	if err != nil {
		return fmt.Errorf("find the link %s: %w", lan, err)
	}
	l, err := addPair(link, pid)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(l, bridge); err != nil {
		return fmt.Errorf("make %s a port of %s: %w", link, lan, err)
	}
	return setUp(l)
}

func addPair(link string, pid int) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = link
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: uplink, PeerNamespace: netlink.NsPid(pid)})
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("the link %s exists already: another lab has this index, set LAB_INDEX", link)
	}
	if err != nil {
		return nil, fmt.Errorf("make the veth pair %s: %w", link, err)
	}
	l, err := netlink.LinkByName(link)
	if err != nil {
		return nil, fmt.Errorf("find the link %s: %w", link, err)
	}
	return l, nil
}

// Detach removes a link that Attach made; one that is gone is no error.
func Detach(link string) error {
	l, err := netlink.LinkByName(link)
	var notFound netlink.LinkNotFoundError
	if errors.As(err, &notFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the link %s: %w", link, err)
	}
	if err := netlink.LinkDel(l); err != nil && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("remove the link %s: %w", link, err)
	}
	return nil
}

// LinkExists says whether the machine has a link of that name.
func LinkExists(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}

// NodeNetwork is what a node's network namespace is set up with.
type NodeNetwork struct {
	Address netip.Prefix
	// Local are ranges that the node itself must be able to send to though no link has them: the Services, which
	// kube-proxy turns into pods' addresses on the way out.
	Local netip.Prefix
	// Routes are the other nodes' pods, by node address.
	Routes map[netip.Prefix]netip.Addr
}

// SetUpNode configures the network namespace of this process as a node. There is no default route: nothing in the
// lab reaches further than the lab and the machine.
func SetUpNode(n NodeNetwork) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the link lo: %w", err)
	}
	if err := setUp(lo); err != nil {
		return err
	}
	if err := bridgeUplink(n.Address); err != nil {
		return err
	}
	if err := addRoute(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: ipNet(n.Local), Src: n.Address.Addr().AsSlice()}); err != nil {
		return err
	}
	for dst, via := range n.Routes {
		if err := addRoute(&netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice()}); err != nil {
			return err
		}
	}
	return setSysctls()
}

func bridgeUplink(address netip.Prefix) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = lan
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("make the bridge %s: %w", lan, err)
	}
	bridge, err := netlink.LinkByName(lan)
	if err != nil {
		return fmt.Errorf("find the link %s: %w", lan, err)
	}
	port, err := netlink.LinkByName(uplink)
	if err != nil {
		return fmt.Errorf("find the link %s: %w", uplink, err)
	}
	if err := netlink.LinkSetMaster(port, bridge); err != nil {
		return fmt.Errorf("make %s a port of %s: %w", uplink, lan, err)
	}
	if err := setUp(port); err != nil {
		return err
	}
	return setAddress(bridge, address)
}

// setSysctls changes this network namespace only; all of them are kept per namespace.
func setSysctls() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("switch forwarding on: %w", err)
	}
	// Answers between two pods of a node pass the bridge only; they must meet the rules that changed the Service's
	// address on the way there.
	err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1"), 0o644)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("switch bridge filtering on: %w", err)
	}
	return nil
}

func setAddress(l netlink.Link, address netip.Prefix) error {
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), 32)}}); err != nil {
		return fmt.Errorf("give %s the address %s: %w", l.Attrs().Name, address, err)
	}
	return setUp(l)
}

func setUp(l netlink.Link) error {
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set the link %s up: %w", l.Attrs().Name, err)
	}
	return nil
}

func addRoute(r *netlink.Route) error {
	if err := netlink.RouteAdd(r); err != nil {
		return fmt.Errorf("add the route to %s: %w", r.Dst, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Masked().Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}
