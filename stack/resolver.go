package stack

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// Resolver looks names up over the stack, at one of the servers of Config.DNS until it fails to answer, and then at the
// next. Without a server every look-up fails with a *net.DNSError.
func (s *Stack) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		servers := s.config.DNS
		if len(servers) == 0 {
			return nil, errNoDNS
		}
		at := s.asked.Load()
		failed := func() { s.asked.CompareAndSwap(at, (at+1)%uint32(len(servers))) }
		conn, err := s.DialContext(ctx, network, servers[at].String())
		switch c := conn.(type) {
		case *UDPConn:
			return udpQuery{c, failed}, nil
		case *TCPConn:
			return tcpQuery{c, failed}, nil
		}
		failed()
		return nil, err
	}}
}

// A udpQuery is a socket of the resolver's, which tells when the server does not answer, or not as one should.
type udpQuery struct {
	*UDPConn
	failed func()
}

// RCODEs that are an answer (RFC 1035 §4.1.1).
const (
	noError   = 0
	nameError = 3
)

func (q udpQuery) Read(b []byte) (int, error) {
	n, err := q.UDPConn.Read(b)
	if err != nil || n > 3 && b[3]&0xf != noError && b[3]&0xf != nameError {
		q.failed()
	}
	return n, err
}

// A tcpQuery is the same over TCP. It is not a net.PacketConn, from which the resolver knows which it is.
type tcpQuery struct {
	*TCPConn
	failed func()
}

func (q tcpQuery) Read(b []byte) (int, error) {
	n, err := q.TCPConn.Read(b)
	if err != nil {
		q.failed()
	}
	return n, err
}

var errNoDNS = errors.New("no DNS server is configured")

// lookupHost turns a host into addresses: itself where it is one, this host where it is empty or "localhost"
// (RFC 6761 §6.3), and what DNS says else.
func (s *Stack) lookupHost(ctx context.Context, host string, f family) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		if a == netip.IPv6Unspecified() { // as in package net: all addresses, or ourselves, in whatever family there is
			return []netip.Addr{a, netip.IPv4Unspecified()}, nil
		}
		return []netip.Addr{a}, nil
	}
	if host == "" || host == "localhost" {
		return []netip.Addr{loopbackOf(broadcast4), netip.IPv6Loopback()}, nil
	}
	if len(s.config.DNS) == 0 {
		return nil, &net.DNSError{Err: errNoDNS.Error(), Name: host}
	}
	network := "ip"
	switch {
	case !f.v6:
		network = "ip4"
	case !f.v4:
		network = "ip6"
	}
	addrs, err := s.Resolver().LookupNetIP(ctx, network, host)
	var dns *net.DNSError
	if errors.As(err, &dns) {
		dns.Server = s.config.DNS[s.asked.Load()].String() // not the one that the machine's own configuration names
	}
	return addrs, err
}
