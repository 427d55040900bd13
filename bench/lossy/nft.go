package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/seed87e66d9f/waybill/bench/internal/lab"
	"github.com/seed87e66d9f/waybill/bench/internal/service"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
	"github.com/seed87e66d9f/waybill/tcp"
)

// senders are what drop compares, in the order of the table's columns.
var senders = []string{"netstack", "kernel, veth", "waybill"}

// drop measures one flow to a kernel that drops packets at its input hook, where super-segments come whole: from waybill
// and from netstack over a TUN with the virtio header, from another kernel over a veth pair.
func (o *options) drop(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "waybill-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := lab.Build(ctx, dir, "netstack"); err != nil {
		return err
	}
	began := busy()
	runs := make([]map[string][]float64, len(o.losses))
	o.parallel = 1 // each takes what the cores have
	err = o.each(ctx, len(o.losses), func(ctx context.Context, i int, seed uint64) error {
		for _, s := range senders {
			v, err := o.received(ctx, s, filepath.Join(dir, "netstack"), o.losses[i])
			if err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
			fmt.Fprintf(os.Stderr, "%g %% dropped, %s, round %d: %.0f Mbit/s\n", o.losses[i]*100, s, seed, v)
			if runs[i] == nil {
				runs[i] = map[string][]float64{}
			}
			runs[i][s] = append(runs[i][s], v)
		}
		return nil
	})
	if err != nil {
		return err
	}
	o.heading(os.Stdout, began)
	printDrops(os.Stdout, o.losses, runs)
	return nil
}

// received is what a kernel that drops gets of one sender, in Mbit/s.
func (o *options) received(ctx context.Context, sender, netstack string, loss float64) (float64, error) {
	ns, err := newNamespace()
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	var stop func()
	switch sender {
	case "waybill":
		stop, err = o.serveWaybill(ns)
	case "netstack":
		stop, err = serveNetstack(ctx, ns, netstack)
	default:
		stop, err = o.serveKernel(ctx, ns)
	}
	if err != nil {
		return 0, err
	}
	defer stop()
	if loss > 0 {
		rules := fmt.Sprintf("table inet lossy { chain input { type filter hook input priority 0; iifname \"%s\" meta l4proto tcp numgen random mod 100000 < %d drop; }; }",
			deviceName, int(loss*100000))
		if err := ns.Run(ctx, "nft", rules); err != nil {
			return 0, err
		}
	}
	var c net.Conn
	err = ns.Do(func() error {
		d := net.Dialer{Timeout: dialTimeout}
		c, err = d.DialContext(ctx, "tcp4", netip.AddrPortFrom(service.Addr4.Addr(), service.Source).String())
		return err
	})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	n, err := collect(c, transferTime{length: o.length})
	return mbits(n, o.length), err
}

// hostFour is the receiver's address in each of the scenes.
var hostFour = netip.MustParsePrefix("198.51.100.1/24")

// serveWaybill puts a waybill behind a TUN of the namespace.
func (o *options) serveWaybill(ns *lab.Namespace) (stop func(), err error) {
	var d link.Device
	err = ns.Do(func() error {
		if d, err = link.OpenTUN(link.TUNConfig{Name: deviceName}); err != nil {
			return err
		}
		return link.ConfigureHost(deviceName, []netip.Prefix{hostFour}, 0)
	})
	if err != nil {
		return nil, err
	}
	s := stack.New(stack.Config{TCP: tcp.Config{Congestion: algorithms[o.algo]}})
	if _, err := s.Attach(d, service.Addr4); err != nil {
		s.Close()
		return nil, err
	}
	listen := func(port uint16) (net.Listener, error) { return s.Listen("tcp", ":"+strconv.Itoa(int(port))) }
	return func() { s.Close() }, service.Serve(listen)
}

// serveNetstack runs netstack behind a TUN of the namespace.
func serveNetstack(ctx context.Context, ns *lab.Namespace, program string) (stop func(), err error) {
	err = ns.IP(ctx, "tuntap add dev "+deviceName+" mode tun vnet_hdr",
		"address add "+hostFour.String()+" dev "+deviceName, "link set "+deviceName+" up")
	if err != nil {
		return nil, err
	}
	server, err := ns.Serve(ctx, program, "-dev", deviceName, "-mode", "vnet")
	if err != nil {
		return nil, err
	}
	return server.Stop, nil
}

// serveKernel puts another kernel at the far end of a veth pair.
func (o *options) serveKernel(ctx context.Context, ns *lab.Namespace) (stop func(), err error) {
	far, err := newNamespace()
	if err != nil {
		return nil, err
	}
	fail := func(err error) (func(), error) { far.Close(); return nil, err }
	err = ns.IP(ctx, "link add "+deviceName+" type veth peer name "+deviceName+" netns "+far.Path(),
		"address add "+hostFour.String()+" dev "+deviceName, "link set "+deviceName+" up")
	if err == nil {
		err = far.IP(ctx, "address add "+service.Addr4.String()+" dev "+deviceName, "link set "+deviceName+" up")
	}
	if err != nil {
		return fail(err)
	}
	var listeners []net.Listener
	err = far.Do(func() error {
		config := net.ListenConfig{Control: service.Congestion(o.algo)} // accepted sockets have their listener's
		return service.Serve(func(port uint16) (net.Listener, error) {
			l, err := config.Listen(ctx, "tcp4", ":"+strconv.Itoa(int(port)))
			listeners = append(listeners, l)
			return l, err
		})
	})
	if err != nil {
		return fail(err)
	}
	return func() {
		for _, l := range listeners {
			l.Close()
		}
		far.Close()
	}, nil
}
