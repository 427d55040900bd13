package host

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// The addresses of the two hosts in memory, from the ranges for documentation (RFC 5737, RFC 3849).
func memoryClient() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("2001:db8:51::1/64")}
}

func memoryServer() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("198.51.100.2/24"), netip.MustParsePrefix("2001:db8:51::2/64")}
}

// openMemory makes a network of two hosts inside of this process, and listens at this machine's ports, without accepting
// yet. It needs no rights and no device.
func (h *Host) openMemory() error {
	n := h.network
	if err := h.forwarder.listen(n); err != nil {
		return err
	}
	near, far := link.Pipe(link.PipeConfig{Ethernet: true, MTU: 1500})
	far, err := n.capture(far)
	if err != nil {
		return err
	}
	h.Client, h.Stack = stack.New(n.Client), stack.New(n.Server)
	if _, err := h.Client.Attach(near, memoryClient()...); err != nil {
		return err
	}
	_, err = h.Attach(far, memoryServer()...)
	return err
}

// forwardAll begins to forward, and prints from where.
func (h *Host) forwardAll() {
	server := memoryServer()[0].Addr()
	var at []string
	var try strings.Builder
	for _, f := range h.forwarder.ports {
		to := netip.AddrPortFrom(server, f.port)
		dial := func() (net.Conn, error) { return h.Client.Dial(f.network, to.String()) }
		h.forwarder.busy.Go(func() { f.run(dial) })
		slog.Info("serving", "network", f.network, "at", f.addr, "port", f.port)
		if f.first {
			at = append(at, f.shown().String())
		}
		if f.try != nil {
			fmt.Fprintf(&try, "  %s\n", f.try(f.shown()))
		}
	}
	fmt.Printf("serving at %s, through both hosts", strings.Join(at, ", "))
	if try.Len() > 0 {
		fmt.Print("; try, in another terminal:\n", &try)
	} else {
		fmt.Println()
	}
}

// listen opens this machine's ports that are to be forwarded.
func (f *forwarder) listen(n *Network) error {
	chosen := map[string]string{} // by flag
	for _, p := range n.ports {
		kernel := p.Kernel
		if p.Flag != "" {
			kernel = *n.kernel[p.Flag]
			if c, ok := chosen[p.Flag]; ok {
				kernel = c
			}
		}
		name, port, err := net.SplitHostPort(kernel)
		if err != nil {
			return listenError(err, p.Flag)
		}
		for i := range max(p.Count, 1) {
			if i > 0 {
				at, err := strconv.ParseUint(port, 10, 16)
				if err != nil {
					return listenError(err, p.Flag)
				}
				if at != 0 { // else any that is free
					at += uint64(i)
				}
				kernel = net.JoinHostPort(name, strconv.FormatUint(at, 10))
			}
			one := &forwarded{network: p.Network, port: p.Port + uint16(i), first: i == 0}
			if i == 0 {
				one.try = p.Try
			}
			if one.network == "" {
				one.network = "tcp"
			}
			if err := one.listen(kernel); err != nil {
				return listenError(err, p.Flag)
			}
			f.ports = append(f.ports, one)
			if _, ok := chosen[p.Flag]; !ok {
				chosen[p.Flag] = one.addr.String() // its port is known now
			}
		}
	}
	return nil
}

func listenError(err error, flag string) error {
	if flag == "" {
		return err
	}
	return fmt.Errorf("%w (-%s chooses another address)", err, flag)
}
