// Package host is the network that an example runs on: a host of its own, in memory or on a device of the kernel's.
//
//	func main() {
//		network := host.Register(flag.CommandLine, host.Port{Port: 80, Kernel: "127.0.0.1:8080", Flag: "listen"})
//		flag.Parse()
//		network.Main(serve)
//	}
//
//	func serve(ctx context.Context, h *host.Host) error {
//		l, err := h.Listen("tcp", ":80")
//		if err != nil {
//			return err
//		}
//		if err := h.Ready(); err != nil {
//			return err
//		}
//		// accept from l until ctx ends, then let what is under way finish until h.Grace ends
//	}
//
// Without flags it is a network of two hosts in the program's memory, which takes no rights: the one serves, and what
// comes to a port of this machine is forwarded to it through the other (memory.go, forward.go). With -tap, -tun or -fd the
// host is behind a device, and the kernel is its neighbour (device.go). A service manager learns how far the program is
// (notify.go), and may keep the device for it (store_linux.go).
package host

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
	"github.com/seed87e66d9f/waybill/tcp"
)

// A Port is one that an example serves at.
type Port struct {
	Network string // "tcp", which is also what "" means, or "udp"
	Port    uint16 // of the example's host
	Count   int    // how many, from Port on; 0 means 1
	// Kernel is the address of this machine that is forwarded to Port by the network in memory; several Ports are several
	// in a row there too. Port 0 is a free one.
	Kernel string
	// Flag names the command line's flag that changes Kernel, and may be the same for several Ports: then for all of them.
	// Without a name there is no such flag.
	Flag string
	// Try is a command that uses the port at an address, to be shown to who started the example; nil: none.
	Try func(at netip.AddrPort) string
}

// Network is the command line of an example: which network it is to run on. Client and Server may be set before Run.
type Network struct {
	Server stack.Config // of the host that serves
	Client stack.Config // of the other host in memory
	Quiet  bool         // of a program that only asks: nobody is told that it serves

	flags      *flag.FlagSet
	ports      []Port
	kernel     map[string]*string // values of the Ports' flags
	tap, tun   string
	fd         int
	water      bool
	addr, host string
	pcap       string
	grace      time.Duration
	level      slog.Level
	store      bool
}

// Register defines the flags that choose the network of an example which serves at ports.
func Register(flags *flag.FlagSet, ports ...Port) *Network {
	n := &Network{flags: flags, ports: ports, kernel: map[string]*string{}}
	for _, p := range ports {
		if p.Flag != "" && n.kernel[p.Flag] == nil {
			n.kernel[p.Flag] = flags.String(p.Flag, p.Kernel, "`address` of this machine to forward into the network in memory")
		}
	}
	flags.StringVar(&n.tap, "tap", "", "serve on the TAP device of this `name` instead, made if need be")
	flags.StringVar(&n.tun, "tun", "", "serve on the TUN device of this `name` instead, made if need be")
	flags.IntVar(&n.fd, "fd", 0, "serve on the TAP or TUN device that was opened, set up and handed over as this `descriptor`")
	flags.BoolVar(&n.water, "water", false, "open the device through github.com/songgao/water")
	flags.StringVar(&n.addr, "addr", "198.51.100.2/24,2001:db8:51::2/64", "our `prefixes` on the device")
	flags.StringVar(&n.host, "host", "198.51.100.1/24,2001:db8:51::1/64", "the kernel's `prefixes` on the device, which are our gateways")
	flags.StringVar(&n.pcap, "pcap", "", "write what passes the server's device to this `file`, as pcapng")
	flags.DurationVar(&n.grace, "grace", 3*time.Second, "how long what is under way may take once we are told to end") // a person at a terminal waits that long
	flags.TextVar(&n.level, "log", slog.LevelWarn, "log what is of this `level` or above: debug, info, warn or error")
	flags.BoolVar(&n.store, "store", false, "only open the -tap or -tun, set it up and hand it to the service manager to keep")
	return n
}

// InMemory reports whether the flags, which have been parsed, choose the network in memory.
func (n *Network) InMemory() bool { return n.tap == "" && n.tun == "" && n.fd == 0 }

// Main runs serve until the program is interrupted or terminated, and exits: with status 1 and a message where that or
// the network failed.
func (n *Network) Main(serve func(ctx context.Context, h *Host) error) {
	// Notify also takes up an interrupt that was ignored when we started, as it is in the background of a script.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // whoever asks twice is not to wait
	if err := n.Run(ctx, serve); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe"), err)
		os.Exit(1)
	}
}

// Run runs serve, which listens, calls Ready, and serves until its context ends; then it has until Grace to finish what is
// under way. The flags have been parsed. What serve has written when it returns still reaches its peers, until Grace ends.
func (n *Network) Run(ctx context.Context, serve func(ctx context.Context, h *Host) error) error {
	device, err := n.check()
	if err != nil {
		return err
	}
	if n.store {
		return explain(n.handOver())
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: n.level})))
	if n.Server.Log == nil {
		n.Server.Log = slog.Default()
	}
	h := &Host{network: n}
	defer h.close()
	if device {
		err = h.openDevice()
	} else {
		err = h.openMemory()
	}
	if err != nil {
		return err
	}

	grace, over := context.WithCancel(context.WithoutCancel(ctx))
	defer over()
	h.Grace = grace
	closing := sync.OnceFunc(func() { h.closing(over) })
	defer context.AfterFunc(ctx, closing)()
	err = serve(ctx, h)
	if err == nil && ctx.Err() != nil {
		closing() // first, or wait until it has returned
		h.drain()
		slog.Info("closed", "late", grace.Err() != nil)
	}
	return err
}

// closing says that the program was told to end, and calls over when that is to have happened.
func (h *Host) closing(over func()) {
	fmt.Println("closing")
	slog.Info("closing", "grace", h.network.grace)
	if err := notify("STOPPING=1"); err != nil {
		slog.Warn("service manager", "err", err)
	}
	time.AfterFunc(h.network.grace, over)
}

// check sees whether the flags make sense together, and whether they are about a device.
func (n *Network) check() (device bool, err error) {
	set := map[string]bool{}
	n.flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	devices := 0
	for _, name := range []string{"tap", "tun", "fd"} {
		if set[name] {
			devices++
		}
	}
	if n.flags.NArg() > 0 {
		return false, fmt.Errorf("%q is not a flag; see -help", n.flags.Arg(0))
	}
	for name := range n.kernel {
		if devices > 0 && set[name] {
			return false, fmt.Errorf("-%s is for the network in memory; a device is reached at -addr", name)
		}
	}
	switch {
	case devices > 1:
		return false, errors.New("-tap, -tun and -fd: one device, please")
	case devices == 0 && (n.water || set["addr"] || set["host"]):
		return false, errors.New("-water, -addr and -host go with -tap, -tun or -fd")
	case n.store && (devices == 0 || set["fd"] || n.water):
		return false, errors.New("-store goes with -tap or -tun, and without -water")
	case set["fd"] && n.fd < 3:
		return false, fmt.Errorf("-fd %d: what is handed over begins at 3", n.fd) // 0 to 2 are standard input, output and error
	case set["fd"] && n.water:
		return false, errors.New("-fd: the device is open already, and not through water")
	}
	return devices > 0, nil
}

// A Host is the host that an example serves on.
type Host struct {
	*stack.Stack
	// Client is the other host of the network in memory; nil on a device.
	Client *stack.Stack
	// Grace ends when there is no more time to finish what is under way: -grace after the end of Run's context.
	Grace context.Context

	network   *Network
	name      string         // the device's
	ours      []netip.Prefix // on the device
	theirs    []netip.Prefix // the kernel's
	forwarder forwarder
}

// Ready says that the example listens: from here on it is reached from outside. It prints how to.
func (h *Host) Ready() error {
	var err error
	if h.Client != nil {
		h.forwardAll()
	} else {
		err = h.configure()
	}
	if err == nil {
		err = notify("READY=1")
	}
	return err
}

// DialContext connects to somebody else: from a device through the stack, where the kernel is the gateway; from the network
// in memory, which is connected to no other, to the client's addresses through the stack, and to all others by the kernel.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if h.Client == nil {
		return h.Stack.DialContext(ctx, network, address)
	}
	name, _, _ := net.SplitHostPort(address)
	a, err := netip.ParseAddr(name)
	for _, p := range append(memoryClient(), memoryServer()...) {
		if err == nil && p.Contains(a.Unmap()) {
			return h.Stack.DialContext(ctx, network, address)
		}
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// drain waits until the peers have all that a host had to say, and what is forwarded has ended. A kernel sends what a
// program leaves behind; our stack ends with us.
func (h *Host) drain() {
	h.forwarder.stop()
	for unsent(h.Stack) && h.Grace.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	h.forwarder.wait(h.Grace)
}

// unsent reports whether a peer has not yet acknowledged all that a host had to say, up to its FIN.
func unsent(s *stack.Stack) bool {
	for c := range s.Conns() {
		switch c.State {
		case tcp.Established, tcp.CloseWait, tcp.FinWait1, tcp.Closing, tcp.LastAck:
			return true
		}
	}
	return false
}

func (h *Host) close() {
	h.forwarder.stop()
	if h.Client != nil {
		h.Client.Close()
	}
	if h.Stack != nil {
		h.Stack.Close() // and with it the device
	}
}

// capture has what passes d written to the file of -pcap, if there is one. The file is closed with the device.
func (n *Network) capture(d link.Device) (link.Device, error) {
	if n.pcap == "" {
		return d, nil
	}
	f, err := os.Create(n.pcap)
	if err != nil {
		d.Close()
		return nil, err
	}
	return recorded{link.Capture(d, f), f}, nil
}

type recorded struct {
	link.Device
	file *os.File
}

func (r recorded) Changed() <-chan struct{} { return link.Changed(r.Device) }

func (r recorded) Close() error { return errors.Join(r.Device.Close(), r.file.Close()) }
