package stack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
)

// Resolver looks names up over the stack, at the servers of Config.DNS. Without a server every look-up fails with a
// *net.DNSError.
func (s *Stack) Resolver() *net.Resolver {
	var next atomic.Uint32 // each try asks the next server
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		if len(s.config.DNS) == 0 {
			return nil, errNoDNS
		}
		server := s.config.DNS[int(next.Add(1)-1)%len(s.config.DNS)]
		return s.DialContext(ctx, network, server.String())
	}}
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
		dns.Server = s.config.DNS[0].String() // not the one that the machine's own configuration names
	}
	return addrs, err
}
