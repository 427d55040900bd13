// Command tunproxy carries what enters a TUN device to where it wants to go, by the kernel's own sockets or a SOCKS5 proxy:
//
//	sudo go run ./examples/tunproxy -tun wb0 [-socks 127.0.0.1:1080]
//
// Then give wb0 an address and a route: "ip address add 198.51.100.1/24 dev wb0", "ip link set wb0 up" and "ip route add
// 203.0.113.0/24 dev wb0". What the program itself dials must not go there again.
//
// A connection is dialled before its SYN is answered, so whoever asks hears of a refusal as if it had asked itself. What one
// address and port sends over UDP leaves by one socket, whoever it is for (RFC 4787 REQ-1).
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/splice"
	"github.com/seed87e66d9f/waybill/stack"
)

const (
	dialTime = 20 * time.Second            // less than a SYN waits for a decision
	idleTCP  = 2*time.Hour + 4*time.Minute // RFC 5382 REQ-5: not less
	idleUDP  = 5 * time.Minute             // RFC 4787 REQ-5: recommended
)

func main() {
	name := flag.String("tun", "wb0", "`name` of the TUN device")
	proxy := flag.String("socks", "", "`address` of a SOCKS5 proxy for TCP; without one, the kernel dials, and UDP is carried too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	d, err := link.OpenTUN(link.TUNConfig{Name: *name})
	if err != nil {
		log.Fatal(err)
	}
	s, err := carry(d, *proxy)
	if err != nil {
		log.Fatal(err)
	}
	<-ctx.Done()
	s.Close()
}

// carry has a stack take all that comes by the device, for any address.
func carry(d link.Device, proxy string) (*stack.Stack, error) {
	dial := new(net.Dialer).DialContext
	h := &stack.Interceptor{UDP: carryUDP, TCP: func(r *stack.TCPRequest) { carryTCP(r, dial) }}
	if proxy != "" {
		dial, h.UDP = socks(proxy), nil
	}
	s := stack.New(stack.Config{})
	i, err := s.Attach(d)
	if err == nil {
		err = i.Intercept(h)
	}
	return s, err
}

type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// carryTCP dials first, and answers then.
func carryTCP(r *stack.TCPRequest, dial dialer) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	out, err := dial(ctx, "tcp", r.Flow().Dst.String())
	if err != nil {
		r.Reject(err)
		return
	}
	in, err := r.Accept(ctx)
	if err != nil {
		out.Close()
		return
	}
	splice.Splice(context.Background(), in, out, splice.Config{Idle: idleTCP})
}

// carryUDP stands for one source with one socket of the kernel's.
func carryUDP(r *stack.UDPRequest) {
	out, err := net.ListenUDP("udp", nil)
	if err != nil {
		r.Reject(err)
		return
	}
	in, err := r.Accept()
	if err != nil {
		out.Close()
		return
	}
	go copyUDP(in.ReadFromUDPAddrPort, out.WriteToUDPAddrPort, in, out)
	copyUDP(out.ReadFromUDPAddrPort, in.WriteToUDPAddrPort, in, out)
}

// copyUDP copies datagrams, each with its address at the far end, until neither socket has had one for a while.
func copyUDP(read func([]byte) (int, netip.AddrPort, error), write func([]byte, netip.AddrPort) (int, error), in, out net.PacketConn) {
	defer in.Close()
	defer out.Close()
	for b := make([]byte, 65535); ; {
		n, at, err := read(b)
		if err != nil {
			return
		}
		in.SetReadDeadline(time.Now().Add(idleUDP))
		out.SetReadDeadline(time.Now().Add(idleUDP))
		write(b[:n], at) // what cannot be sent is lost, as on any path
	}
}

var replies = map[byte]error{2: syscall.EACCES, 3: syscall.ENETUNREACH, 4: syscall.EHOSTUNREACH, 5: syscall.ECONNREFUSED} // RFC 1928 §6

// socks dials over a SOCKS5 proxy (RFC 1928), without authentication.
func socks(proxy string) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, proxy)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", err, syscall.EHOSTUNREACH) // nothing is known of the destination
		}
		defer context.AfterFunc(ctx, func() { c.Close() })()
		to, b := netip.MustParseAddrPort(address), make([]byte, 4+256+2)
		ask := append([]byte{5, 1, 0, byte(to.Addr().BitLen() / 32)}, to.Addr().AsSlice()...) // CONNECT; 1 for IPv4, 4 for IPv6
		for k, say := range [...][]byte{{5, 1, 0}, append(ask, byte(to.Port()>>8), byte(to.Port()))} {
			if _, err = c.Write(say); err == nil {
				_, err = io.ReadFull(c, b[:2+3*k]) // of the second answer up to where its length depends on itself
			}
			if err == nil && b[1] != 0 {
				err = fmt.Errorf("SOCKS: reply %d: %w", b[1], replies[b[1]])
			}
			if err != nil {
				c.Close()
				return nil, err
			}
		}
		rest := map[byte]int{1: 3 + 2, 3: int(b[4]) + 2, 4: 15 + 2}[b[3]] // the address that it dials from: of no use here
		if _, err = io.ReadFull(c, b[:rest]); err != nil {
			c.Close()
			return nil, err
		}
		return c, nil
	}
}
