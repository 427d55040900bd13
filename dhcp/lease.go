package dhcp

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Lease is what a server grants a client: an address for a time, and what it says of the network.
type Lease struct {
	Addr   netip.Prefix // the address, with the length of its network
	Server netip.Addr   // who granted it
	Routes []Route      // routers, and other ways
	DNS    []netip.Addr // name servers, the first to ask first
	Search []string     // domains of names without a dot
	MTU    int          // octets; 0: the server says nothing of it

	Renew, Rebind, Expires time.Time // when to ask the server for more time, when anybody, and when it is over: T1, T2 (RFC 2131 §4.4.5)
}

// Route is a way to a network.
type Route struct {
	Dst netip.Prefix
	Via netip.Addr // the router; invalid: Dst is on the link
}

// RFC 2131 §4.1, and RFC 768's protocol beneath.
const (
	serverPort = 67
	clientPort = 68
)

// leastMTU is the least that is believed: what RFC 1122 §3.3.2 has every host receive. RFC 2132 §5.1 allows 68, which serves
// nobody but who wants many small packets.
const leastMTU = 576

var errLease = errors.New("dhcp: the server's answer lacks an address, its network, its time or the server's name")

// readLease is what an offer or an acknowledgement says, of which the time begins at from.
func readLease(m *dhcpv4.DHCPv4, from time.Time) (*Lease, error) {
	addr, server := toAddr(m.YourIPAddr), toAddr(m.ServerIdentifier())
	bits, total := m.SubnetMask().Size()
	span := m.IPAddressLeaseTime(0)
	if !addr.IsValid() || addr.IsUnspecified() || !server.IsValid() || span <= 0 {
		return nil, errLease
	}
	if total == 0 || bits == 0 { // RFC 2132 §3.3 has it as an option only; a host without one knows itself alone
		bits = 32
	}
	l := &Lease{Addr: netip.PrefixFrom(addr, bits), Server: server, Routes: readRoutes(m), DNS: toAddrs(m.DNS())}
	if s := m.DomainSearch(); s != nil && len(s.Labels) > 0 {
		l.Search = slices.Clone(s.Labels)
	} else {
		l.Search = strings.Fields(m.DomainName())
	}
	if b := m.Options.Get(dhcpv4.OptionInterfaceMTU); len(b) == 2 {
		if n := int(binary.BigEndian.Uint16(b)); n >= leastMTU {
			l.MTU = n
		}
	}
	// RFC 2131 §4.4.5: "T1 defaults to (0.5 * duration_of_lease). T2 defaults to (0.875 * duration_of_lease)."
	t1, t2 := m.IPAddressRenewalTime(span/2), m.IPAddressRebindingTime(span/8*7)
	if t1 <= 0 || t1 >= t2 || t2 >= span {
		t1, t2 = span/2, span/8*7
	}
	l.Renew, l.Rebind, l.Expires = from.Add(t1), from.Add(t2), from.Add(span)
	return l, nil
}

// readRoutes lists the ways that a server tells of. RFC 3442: "If the DHCP server returns both a Classless Static Routes option
// and a Router option, the DHCP client MUST ignore the Router option."
func readRoutes(m *dhcpv4.DHCPv4) (all []Route) {
	for _, r := range m.ClasslessStaticRoute() {
		ip, via := toAddr(r.Dest.IP), toAddr(r.Router)
		bits, _ := r.Dest.Mask.Size()
		if via.IsUnspecified() { // RFC 3442, "Local Subnet Routes"
			via = netip.Addr{}
		}
		if dst := netip.PrefixFrom(ip, bits); dst.IsValid() && !slices.ContainsFunc(all, func(o Route) bool { return o.Dst == dst.Masked() }) {
			all = append(all, Route{dst.Masked(), via})
		}
	}
	if routers := toAddrs(m.Router()); len(all) == 0 && len(routers) > 0 {
		all = append(all, Route{defaultRoute, routers[0]}) // RFC 2132 §3.5: "Routers SHOULD be listed in order of preference."
	}
	return all
}

var defaultRoute = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

// toAddr is an address of a message; invalid where there is none.
func toAddr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip.To4())
	return a
}

// toAddrs leaves out what can be nobody's address.
func toAddrs(ips []net.IP) (all []netip.Addr) {
	for _, ip := range ips {
		if a := toAddr(ip); a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

func toIP(a netip.Addr) net.IP {
	if !a.IsValid() {
		return net.IPv4zero.To4()
	}
	return a.AsSlice()
}

func toIPs(addrs []netip.Addr) (all []net.IP) {
	for _, a := range addrs {
		all = append(all, toIP(a))
	}
	return all
}
