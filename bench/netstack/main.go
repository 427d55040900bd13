// Netstack is gVisor's netstack behind a TUN or TAP device, with the ports and the flags of the server beside it.
//
// -mode tap and -mode tun are what its users get: netstack's own link endpoint for a descriptor, one packet for each
// system call. -mode vnet is netstack at its best: a link endpoint that speaks the virtio header, so that netstack
// hands over and takes super-segments of 64 KB and sums none.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/seed87e66d9f/waybill/bench/internal/netstack"
	"github.com/seed87e66d9f/waybill/bench/internal/service"
	"github.com/seed87e66d9f/waybill/bench/internal/tuntap"
)

// mtu is what "ip tuntap add" gives a device.
const mtu = 1500

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "netstack:", err)
		os.Exit(1)
	}
}

func run() error {
	dev := flag.String("dev", "tun0", "`name` of the interface")
	mode := flag.String("mode", "tap", "tun or tap: netstack's endpoint, one packet a system call; vnet: offloads")
	poll := flag.Bool("poll", false, "with -mode vnet: wait in the runtime's poller instead of in read(2)")
	var profile service.Profile
	profile.Flags()
	flag.Parse()

	fd, err := tuntap.Open(*dev, tuntap.Mode(*mode))
	if err != nil {
		return err
	}
	ep, err := endpoint(fd, tuntap.Mode(*mode), *poll)
	if err != nil {
		return err
	}
	s, err := netstack.New(ep, 0, service.Addr4, service.Addr6)
	if err != nil {
		return err
	}
	err = service.Serve(func(port uint16) (net.Listener, error) { return netstack.Listen(s, netip.Addr{}, port) })
	if err != nil {
		return err
	}
	return profile.Run()
}

func endpoint(fd int, mode tuntap.Mode, poll bool) (stack.LinkEndpoint, error) {
	if mode == tuntap.Vnet {
		return newVnet(fd, poll)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	return fdbased.New(&fdbased.Options{
		FDs: []int{fd}, MTU: mtu, EthernetHeader: mode == tuntap.TAP,
		Address:            tcpip.LinkAddress("\x02\x00\x00\x00\x00\x02"), // locally administered
		PacketDispatchMode: fdbased.Readv,
	})
}
