package dhcp_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"time"

	"github.com/seed87e66d9f/waybill/dhcp"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// A host on a TAP device that takes its configuration from the network, and goes on where that is silent.
func ExampleClient() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	device, err := link.OpenTUN(link.TUNConfig{Name: "tap0", TAP: true})
	if err != nil {
		slog.Error("no device", "err", err)
		return
	}
	s := stack.New(stack.Config{})
	defer s.Close()
	i, err := s.Attach(device)
	if err != nil {
		slog.Error("not attached", "err", err)
		return
	}
	c := dhcp.Client{Stack: s, Interface: i, Hostname: "example", LinkLocal: true, Log: slog.Default()}
	slog.Info("done", "err", c.Run(ctx))
}

// The server of a network between the hosts of one program.
func ExampleServer() {
	lan := link.NewSwitch(link.SwitchConfig{})
	defer lan.Close()
	port, err := lan.Port(link.PipeConfig{Ethernet: true, MTU: 1400}, link.PortConfig{Name: "server"})
	if err != nil {
		slog.Error("no port", "err", err)
		return
	}
	s := stack.New(stack.Config{})
	defer s.Close()
	here := netip.MustParsePrefix("198.51.100.1/24")
	i, err := s.Attach(port, here)
	if err != nil {
		slog.Error("not attached", "err", err)
		return
	}
	server := dhcp.Server{Interface: i, First: netip.MustParseAddr("198.51.100.100"), Last: netip.MustParseAddr("198.51.100.199"),
		Lease: 12 * time.Hour, Routers: []netip.Addr{here.Addr()}, DNS: []netip.Addr{here.Addr()}, Search: []string{"lan.example"}}
	slog.Info("done", "err", server.Serve(context.Background()))
}
