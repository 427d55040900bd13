// Server is waybill behind a TUN or TAP device: it discards at port 9000, sends for ever at 9001 and echoes at 9002 of
// 198.51.100.2 and 2001:db8:51::2.
//
//	server -dev t0 -mode vnet
//
// The device may exist already, as "ip tuntap add" makes it; the flags of the last one to attach are those that hold. With
// -mode kernel there is no device and no waybill: the sockets are the kernel's, at every address of it, with cubic.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"

	"github.com/seed87e66d9f/waybill/bench/internal/service"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func run() error {
	dev := flag.String("dev", "tun0", "`name` of the interface")
	mode := flag.String("mode", "vnet", "tun or tap: one packet a system call; vnet: a TUN with offloads; kernel: the kernel's sockets")
	offload := flag.Bool("offload", false, "with -mode tun or tap: use the offloads")
	water := flag.Bool("water", false, "with -mode tun or tap: open the device through water")
	queues := flag.Int("queues", 1, "queues of the device; more than one needs a device made with multi_queue")
	buffer := flag.Int("buffer", 0, "octets that wait in either direction of a connection; 0: the stack's default")
	stats := flag.Bool("stats", false, "print the stack's counters in the end")
	var profile service.Profile
	profile.Flags()
	flag.Parse()

	if *mode == "kernel" {
		if err := serveKernel(); err != nil {
			return err
		}
		return profile.Run()
	}
	d, err := open(link.TUNConfig{Name: *dev, Queues: *queues}, *mode, *offload, *water)
	if err != nil {
		return err
	}
	s := stack.New(stack.Config{ReadBuffer: *buffer, WriteBuffer: *buffer})
	defer s.Close()
	if _, err := s.Attach(d, service.Addr4, service.Addr6); err != nil {
		return err
	}
	err = service.Serve(func(port uint16) (net.Listener, error) { return s.Listen("tcp", fmt.Sprintf(":%d", port)) })
	if err != nil {
		return err
	}
	err = profile.Run()
	if *stats {
		fmt.Fprintf(os.Stderr, "%+v\n", s.Stats())
	}
	return err
}

// serveKernel serves with the kernel's sockets.
func serveKernel() error {
	c := net.ListenConfig{Control: service.Congestion("cubic")}
	return service.Serve(func(port uint16) (net.Listener, error) {
		return c.Listen(context.Background(), "tcp", fmt.Sprintf(":%d", port))
	})
}

// open opens the device that mode and the flags name.
func open(c link.TUNConfig, mode string, offload, water bool) (link.Device, error) {
	switch mode {
	case "tun":
	case "tap":
		c.TAP = true
	case "vnet":
		offload = true
	default:
		return nil, fmt.Errorf("mode %q is none of tun, tap, vnet and kernel", mode)
	}
	if water {
		if offload {
			return nil, fmt.Errorf("water has no offloads")
		}
		return link.OpenWater(c)
	}
	c.NoOffload = !offload
	return link.OpenTUN(c)
}
