package host

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// openDevice makes a host behind a TAP or TUN device: the kernel's end is an interface like any other, and ours is a Stack.
func (h *Host) openDevice() error {
	n := h.network
	var err error
	if h.ours, h.theirs, err = n.prefixes(); err != nil {
		return err
	}
	device, err := n.open()
	if err != nil {
		return explain(err)
	}
	h.name = device.Caps().Name
	if device, err = n.capture(device); err != nil {
		return err
	}
	h.Stack = stack.New(n.Server)
	i, err := h.Attach(device, h.ours...)
	if err != nil {
		return err
	}
	// The kernel is our way to everybody else, if it forwards.
	for _, p := range h.theirs {
		def := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		if p.Addr().Is4() {
			def = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		err := h.AddRoute(def, p.Addr(), i)
		// The second gateway of a family is not needed, and none that is on no link of ours is of use.
		if err != nil && !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.ENETUNREACH) {
			return err
		}
	}
	return nil
}

// open opens the device that the flags ask for.
func (n *Network) open() (link.Device, error) {
	c := link.TUNConfig{Name: n.tun, FD: n.fd}
	if n.tap != "" {
		c.Name, c.TAP = n.tap, true
	}
	if n.water {
		return link.OpenWater(c)
	}
	return link.OpenTUN(c)
}

// configure gives the kernel's side of the device its addresses, unless who handed it over has. From then on the kernel may
// send, so we listen already.
func (h *Host) configure() error {
	if h.network.fd == 0 {
		err := link.ConfigureHost(h.name, h.theirs, 0)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			fmt.Printf("give this system's side of %s the addresses %s, for waybill cannot do it here\n", h.name, h.network.host)
		case err != nil:
			return explain(err)
		}
	}
	if h.network.Quiet {
		return nil
	}
	slog.Info("serving", "device", h.name, "addr", h.network.addr)
	fmt.Printf("serving on %s; try, in another terminal:\n", h.name)
	for _, p := range h.ours {
		h.hints(p.Addr())
	}
	return nil
}

// hints prints the commands that reach an address of ours, if it is on a link with one of the kernel's.
func (h *Host) hints(a netip.Addr) {
	reachable := false
	for _, p := range h.theirs {
		reachable = reachable || p.Masked().Contains(a)
	}
	if !reachable {
		fmt.Printf("  (%v is on no network of the kernel's side; see -host)\n", a)
		return
	}
	for _, p := range h.network.ports {
		if p.Try != nil {
			fmt.Println(" ", p.Try(netip.AddrPortFrom(a, p.Port)))
		}
	}
	if a.Is4() {
		fmt.Println("  ping -c 3", a)
	} else {
		fmt.Println("  ping -6 -c 3", a)
	}
}

// prefixes are the addresses of both ends of the device.
func (n *Network) prefixes() (ours, theirs []netip.Prefix, err error) {
	if ours, err = parsePrefixes("-addr", n.addr); err == nil {
		theirs, err = parsePrefixes("-host", n.host)
	}
	return ours, theirs, err
}

// parsePrefixes reads a flag: addresses with the length of the network on the link, such as 198.51.100.2/24.
func parsePrefixes(flag, list string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for s := range strings.SplitSeq(list, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("%s: %q is not an address and a length, such as 198.51.100.2/24 or 2001:db8:51::2/64", flag, s)
		}
		all = append(all, p)
	}
	return all, nil
}

// explain says what to do about an error of the device, where we know.
func explain(err error) error {
	const tun = "/dev/net/tun"
	if !errors.Is(err, fs.ErrPermission) {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: this system has no %s; without -tap and -tun, the example needs none", err, tun)
		}
		return err
	}
	f, openErr := os.OpenFile(tun, os.O_RDWR, 0)
	if errors.Is(openErr, fs.ErrPermission) {
		return fmt.Errorf("%w\n  %s is for root alone on this system: run this with sudo. A namespace (unshare -Urn) does not help here,\n"+
			"  as the device has to be readable and writable for you. Without -tap and -tun, the example needs no rights", err, tun)
	}
	if openErr == nil {
		f.Close()
	}
	return fmt.Errorf("%w\n  making a device and configuring it takes CAP_NET_ADMIN: run this with sudo,\n"+
		"  or in a network namespace of your own: unshare -Urn", err)
}
