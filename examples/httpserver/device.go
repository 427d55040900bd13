package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// runDevice is a host behind a TAP or TUN device: the kernel's end is an interface like any other, and ours is a Stack.
func runDevice(ctx context.Context, o *options) error {
	ours, err := prefixes("-addr", o.addr)
	if err != nil {
		return err
	}
	theirs, err := prefixes("-host", o.host)
	if err != nil {
		return err
	}
	device, err := open(o)
	if err != nil {
		return explain(err)
	}
	name := device.Caps().Name
	if device, err = o.capture(device); err != nil {
		return err
	}

	host := stack.New(stack.Config{})
	defer host.Close() // and with it the device
	if _, err := host.Attach(device, ours...); err != nil {
		return err
	}
	return serve(ctx, host, page(host), func() error {
		// From here on the kernel may send, so we listen already.
		err := link.ConfigureHost(name, theirs, 0)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			fmt.Printf("give this system's side of %s the addresses %s, for waybill cannot do it here\n", name, o.host)
		case err != nil:
			return explain(err)
		}
		fmt.Printf("serving on %s; try, in another terminal:\n%s", name, hints(ours, theirs))
		return nil
	})
}

// open opens the device that the flags ask for.
func open(o *options) (link.Device, error) {
	c := link.TUNConfig{Name: o.tun}
	if o.tap != "" {
		c = link.TUNConfig{Name: o.tap, TAP: true}
	}
	if o.water {
		return link.OpenWater(c)
	}
	return link.OpenTUN(c)
}

// prefixes reads a flag: addresses with the length of the network on the link, such as 198.51.100.2/24.
func prefixes(flag, list string) ([]netip.Prefix, error) {
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

// hints are the commands that reach those of our addresses which are on a link with one of the kernel's.
func hints(ours, theirs []netip.Prefix) string {
	var b strings.Builder
	for _, p := range ours {
		reachable := false
		for _, h := range theirs {
			reachable = reachable || h.Masked().Contains(p.Addr())
		}
		a := p.Addr()
		switch {
		case !reachable:
			fmt.Fprintf(&b, "  (%v is on no network of the kernel's side; see -host)\n", a)
		case a.Is4():
			fmt.Fprintf(&b, "  curl http://%v/\n  ping -c 3 %[1]v\n", a)
		default:
			fmt.Fprintf(&b, "  curl -g 'http://[%v]/'\n  ping -6 -c 3 %[1]v\n", a)
		}
	}
	return b.String()
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
