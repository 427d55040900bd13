// Package service is what every server of this module does behind its device, so that only the stack below differs:
// one port takes all that it is sent, one sends for ever, one sends back what it gets.
package service

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"syscall"

	"golang.org/x/sys/unix"
)

// The ports.
const (
	Discard = 9000 // reads and forgets
	Source  = 9001 // sends until the peer goes
	Echo    = 9002 // sends back what it reads
)

// The server's addresses, with the networks on the link; the client has .1 and ::1 (RFC 5737, RFC 3849).
var (
	Addr4 = netip.MustParsePrefix("198.51.100.2/24")
	Addr6 = netip.MustParsePrefix("2001:db8:51::2/64")
)

const (
	bulkBuffer = 256 << 10 // a Read or Write of the bulk ports
	echoBuffer = 1 << 10   // the round trips are of one octet
)

// Serve accepts connections at the three ports, each of which listen opens, and returns once all three listen.
func Serve(listen func(port uint16) (net.Listener, error)) error {
	for port, serve := range map[uint16]func(net.Conn){Discard: discard, Source: source, Echo: echo} {
		l, err := listen(port)
		if err != nil {
			return fmt.Errorf("port %d: %w", port, err)
		}
		go accept(l, serve)
	}
	return nil
}

// Congestion is a Control, for a net.Dialer or a net.ListenConfig, that sets the congestion control of the kernel's sockets by
// its name. Accepted sockets have their listener's.
func Congestion(name string) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var set error
		return errors.Join(c.Control(func(fd uintptr) {
			set = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
		}), set)
	}
}

func accept(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				fmt.Fprintln(os.Stderr, "accept:", err)
			}
			return
		}
		go func() {
			defer c.Close()
			serve(c)
		}()
	}
}

func discard(c net.Conn) {
	b := make([]byte, bulkBuffer)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

func source(c net.Conn) {
	b := make([]byte, bulkBuffer)
	for {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

func echo(c net.Conn) {
	b := make([]byte, echoBuffer)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}

// Profile is where a server writes its profiles.
type Profile struct {
	cpu, mem string
	out      io.Closer
}

// Flags adds -cpuprofile and -memprofile to the command line.
func (p *Profile) Flags() {
	flag.StringVar(&p.cpu, "cpuprofile", "", "write a CPU profile to `file`")
	flag.StringVar(&p.mem, "memprofile", "", "write a heap profile to `file` in the end")
}

// Run says "serving" on standard output, waits for SIGINT or SIGTERM, and writes the profiles that were asked for.
func (p *Profile) Run() error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	if p.cpu != "" {
		f, err := os.Create(p.cpu)
		if err != nil {
			return err
		}
		p.out = f
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
	}
	fmt.Println("serving")
	<-stop
	if p.cpu != "" {
		pprof.StopCPUProfile()
		if err := p.out.Close(); err != nil {
			return err
		}
	}
	if p.mem == "" {
		return nil
	}
	f, err := os.Create(p.mem)
	if err != nil {
		return err
	}
	runtime.GC() // the profile tells what was in use after the last collection
	return errors.Join(pprof.WriteHeapProfile(f), f.Close())
}
