package stack

import (
	"context"
	"errors"
	"iter"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Resolver looks names up over the stack, at one of the servers that NameServers lists until it fails to answer, and then
// at the next. Without a server every look-up fails with a *net.DNSError.
func (s *Stack) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		servers := s.servers()
		if len(servers) == 0 {
			return nil, errNoDNS
		}
		at := s.asked.Load()
		failed := func() { s.asked.CompareAndSwap(at, at+1) }
		conn, err := s.DialContext(ctx, network, servers[int(at%uint32(len(servers)))].String())
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
	servers := s.servers()
	if len(servers) == 0 {
		return nil, &net.DNSError{Err: errNoDNS.Error(), Name: host}
	}
	network := "ip"
	switch {
	case !f.v6:
		network = "ip4"
	case !f.v4:
		network = "ip6"
	}
	var addrs []netip.Addr
	var err error
	for _, name := range s.complete(host) {
		addrs, err = s.Resolver().LookupNetIP(ctx, network, name)
		var dns *net.DNSError
		if !errors.As(err, &dns) {
			break
		}
		dns.Name, dns.Server = host, servers[int(s.asked.Load())%len(servers)].String() // not what the machine's own configuration says
		if !dns.IsNotFound {
			break
		}
	}
	return addrs, err
}

// complete is what host may stand for, the likeliest first: a name without a dot is one of a domain of the search list.
func (s *Stack) complete(host string) []string {
	if strings.HasSuffix(host, ".") {
		return []string{host}
	}
	var all []string
	if !strings.Contains(host, ".") {
		for _, n := range s.allNames() {
			for _, domain := range n.search {
				all = append(all, host+"."+domain+".")
			}
		}
	}
	return append(all, host+".") // with a dot, so that the machine's own search list is not asked
}

// names is where and how to look names up: what an interface knows of that.
type names struct {
	servers []netip.AddrPort
	search  []string
}

// SetNameServers says which servers to ask on behalf of this interface, and in which domains to look for names without a
// dot, as a DHCP client learns them. Those that were set before are forgotten. They count where Config.DNS names no server.
func (i *Interface) SetNameServers(servers []netip.AddrPort, search []string) {
	i.names[0].Store(&names{slices.Clone(servers), slices.Clone(search)})
}

// NameServers lists the servers that names are asked of: those of Config.DNS, or else for each interface those of
// SetNameServers, and then those that routers advertise (see Interface.Autoconfigure).
func (s *Stack) NameServers() iter.Seq[netip.AddrPort] { return slices.Values(s.servers()) }

func (s *Stack) servers() []netip.AddrPort {
	if len(s.config.DNS) > 0 {
		return s.config.DNS
	}
	var all []netip.AddrPort
	for _, n := range s.allNames() {
		all = append(all, n.servers...)
	}
	return all
}

// allNames is what each interface knows of names.
func (s *Stack) allNames() (all []*names) {
	for _, i := range s.view.Load().ifaces {
		for k := range i.names {
			if n := i.names[k].Load(); n != nil {
				all = append(all, n)
			}
		}
	}
	return all
}
