package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/stack"
)

// answer is what has come of a probe; without from, nothing has.
type answer struct {
	from netip.Addr
	rtt  time.Duration
	mark string // where it is an error of its own
	last bool   // nobody is behind
}

// prober asks hops on the way to a host.
type prober struct {
	stack *stack.Stack
	to    netip.Addr
	data  []byte
	echo  bool
	n     int            // probes so far
	port  int            // of the first datagram
	udp   *stack.UDPConn // sends datagrams
	icmp  net.PacketConn // hears what routers say of them
}

func newProber(s *stack.Stack, to netip.Addr, o *options) (*prober, error) {
	p := &prober{stack: s, to: to, data: make([]byte, o.size), echo: o.echo, port: o.port}
	for i := range p.data {
		p.data[i] = byte('@' + i%64)
	}
	if o.echo {
		return p, nil
	}
	network := "ip4:icmp"
	if to.Is6() {
		network = "ip6:ipv6-icmp"
	}
	var err error
	if p.icmp, err = s.ListenPacket(network, ""); err != nil {
		return nil, err
	}
	if p.udp, err = s.ListenUDP("udp", netip.AddrPort{}); err != nil {
		p.icmp.Close()
		return nil, err
	}
	return p, nil
}

func (p *prober) Close() {
	if p.udp != nil {
		p.udp.Close()
		p.icmp.Close()
	}
}

// probe sends one packet that ends at a hop, and waits for an answer.
func (p *prober) probe(ctx context.Context, hop uint8, wait time.Duration) (answer, error) {
	p.n++
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if p.echo {
		return p.ping(ctx, hop)
	}
	return p.datagram(ctx, hop)
}

// ping asks by an echo request.
func (p *prober) ping(ctx context.Context, hop uint8) (answer, error) {
	r, err := p.stack.Ping(ctx, p.to, stack.PingConfig{Seq: uint16(p.n), Data: p.data, HopLimit: hop})
	var e *stack.ICMPError
	switch {
	case err == nil:
		return answer{from: r.From, rtt: r.RTT, last: true}, nil
	case errors.As(err, &e) && e.Expired():
		return answer{from: e.From, rtt: e.RTT}, nil
	case errors.As(err, &e):
		return answer{from: e.From, rtt: e.RTT, mark: mark(e.Errno), last: true}, nil
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, syscall.EHOSTUNREACH):
		return answer{}, nil
	}
	return answer{}, err
}

// datagram asks by a datagram to a port of its own, by which its answer is known.
func (p *prober) datagram(ctx context.Context, hop uint8) (answer, error) {
	to := netip.AddrPortFrom(p.to, uint16(p.port+p.n-1))
	p.udp.SetHopLimit(hop)
	began := time.Now()
	if _, err := p.udp.WriteToUDPAddrPort(p.data, to); errors.Is(err, syscall.EHOSTUNREACH) {
		return answer{}, nil
	} else if err != nil {
		return answer{}, err
	}
	p.icmp.SetReadDeadline(time.Time{})
	defer context.AfterFunc(ctx, func() { p.icmp.SetReadDeadline(time.Now()) })()
	b := make([]byte, 2048)
	for {
		n, from, err := p.icmp.ReadFrom(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return answer{}, nil
		}
		if err != nil {
			return answer{}, err
		}
		if port, ok := quotedPort(b[:n], p.to); !ok || port != to.Port() {
			continue
		}
		a := answer{rtt: time.Since(began)}
		ip := from.(*net.IPAddr)
		a.from, _ = netip.AddrFromSlice(ip.IP)
		a.from = a.from.WithZone(ip.Zone)
		if p.to.Is4() {
			a.judge4(b[0], b[1])
		} else {
			a.judge6(b[0], b[1])
		}
		return a, nil
	}
}

// quotedPort is the destination port of the datagram to a host that an ICMP message is about.
func quotedPort(b []byte, to netip.Addr) (port uint16, ok bool) {
	b = b[ipv4.ICMPLen:] // as long as ICMPv6's
	if to.Is4() {
		var h ipv4.Header
		n, err := h.DecodeQuoted(b)
		if err != nil || h.Protocol != ipv4.ProtoUDP || h.Dst != to || len(b) < n+4 {
			return 0, false
		}
		return binary.BigEndian.Uint16(b[n+2:]), true
	}
	var h ipv6.Header
	if h.DecodeQuoted(b) != nil || h.NextHeader != ipv6.ProtoUDP || h.Dst != to.WithZone("") || len(b) < ipv6.HeaderLen+4 {
		return 0, false
	}
	return binary.BigEndian.Uint16(b[ipv6.HeaderLen+2:]), true
}

// judge4 reads an ICMP message: the hop limit was used up, or the host has no such port, or something is wrong.
func (a *answer) judge4(typ, code uint8) {
	switch {
	case typ == ipv4.TimeExceeded:
	case typ == ipv4.Unreachable && code == ipv4.CodePort:
		a.last = true
	case typ == ipv4.Unreachable:
		a.last = true
		a.mark = map[uint8]string{ipv4.CodeNet: " !N", ipv4.CodeHost: " !H", ipv4.CodeProtocol: " !P", ipv4.CodeFragNeeded: " !F",
			ipv4.CodeSourceRoute: " !S", ipv4.CodeProhibited: " !X"}[code]
		if a.mark == "" {
			a.mark = fmt.Sprintf(" !<%d>", code)
		}
	}
}

// judge6 is the same of ICMPv6.
func (a *answer) judge6(typ, code uint8) {
	switch {
	case typ == ipv6.TimeExceeded:
	case typ == ipv6.Unreachable && code == ipv6.CodePort:
		a.last = true
	case typ == ipv6.Unreachable:
		a.last = true
		a.mark = map[uint8]string{ipv6.CodeNoRoute: " !N", ipv6.CodeProhibited: " !X", ipv6.CodeAddress: " !H"}[code]
		if a.mark == "" {
			a.mark = fmt.Sprintf(" !<%d>", code)
		}
	}
}
