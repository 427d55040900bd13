package ipv6

import (
	"encoding/binary"
	"iter"
	"net/netip"
)

// These are the options that Router Advertisements got after RFC 4861: routes and name servers.

// Bounds on what of a Router Advertisement is kept. The RFCs have none; a link has one or two of each, and RFC 8106 §5.3.1
// asks for room for three servers and three domains.
const (
	MaxRoutes  = 8
	MaxServers = 8
	MaxSearch  = 2
	maxNames   = 248 // octets of names of one list, in the encoding of RFC 1035 §3.1
)

// Preference is that of a router or a route among others, RFC 4191 §2.1.
type Preference int8

// The preferences.
const (
	Low    Preference = -1
	Medium Preference = 0
	High   Preference = 1
)

// String is the preference in a word.
func (p Preference) String() string {
	switch {
	case p < 0:
		return "low"
	case p > 0:
		return "high"
	}
	return "medium"
}

// preference is what the low two bits say; ok is false of the reserved value.
func preference(bits uint32) (p Preference, ok bool) {
	p = Preference(int8(bits<<6) >> 6) // RFC 4191 §2.1: "encoded as a two-bit signed integer"
	return max(p, Low), p >= Low
}

// bits is the reverse of preference.
func (p Preference) bits() uint32 { return uint32(min(max(p, Low), High)) & 3 }

// Route is the Route Information option, RFC 4191 §2.3: the router has a way to Prefix.
type Route struct {
	Prefix     netip.Prefix // masked
	Preference Preference
	Lifetime   uint32 // seconds; Infinite
}

// Server is a name server of the Recursive DNS Server option, RFC 8106 §5.1.
type Server struct {
	Addr     netip.Addr
	Lifetime uint32 // seconds; Infinite
}

// SearchList is the DNS Search List option, RFC 8106 §5.2: domains to look names up in that are not complete.
type SearchList struct {
	Lifetime uint32 // seconds; Infinite
	names    [maxNames]byte
	size     uint8
}

// All lists the domains, without the dot at the end. It allocates.
func (l *SearchList) All() iter.Seq[string] {
	return func(yield func(string) bool) {
		for at := 0; at < int(l.size); {
			var b []byte
			for l.names[at] != 0 {
				if b != nil {
					b = append(b, '.')
				}
				b = append(b, l.names[at+1:][:l.names[at]]...)
				at += 1 + int(l.names[at])
			}
			at++
			if !yield(string(b)) {
				return
			}
		}
	}
}

// Add puts a domain at the end of the list, and reports whether it is a domain and there is room for it.
func (l *SearchList) Add(domain string) bool {
	var b [maxNames]byte
	n := 0
	for len(domain) > 0 {
		end := 0
		for end < len(domain) && domain[end] != '.' {
			end++
		}
		if end > 63 || n+1+end >= len(b) {
			return false
		}
		b[n] = byte(end)
		n += 1 + copy(b[n+1:], domain[:end])
		domain = domain[min(end+1, len(domain)):]
	}
	n++ // the root
	if length, ok := nameLen(b[:n]); !ok || length != n || length == 1 || int(l.size)+n > len(l.names) {
		return false
	}
	l.size += uint8(copy(l.names[l.size:], b[:n]))
	return true
}

// nameLen is the length of the name that b begins with (RFC 1035 §3.1), not compressed; ok is false of one that is no host's.
func nameLen(b []byte) (n int, ok bool) {
	for n < len(b) && n < 255 { // RFC 1035 §2.3.4: names are no longer
		length := int(b[n])
		if n++; length == 0 {
			return n, true
		}
		if length > 63 || n+length > len(b) {
			return 0, false
		}
		for _, c := range b[n : n+length] {
			if lower := c | 0x20; (lower < 'a' || lower > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return 0, false
			}
		}
		n += length
	}
	return 0, false
}

// readLate reads the option o of a Router Advertisement.
func (n *NDP) readLate(o []byte) {
	lifetime := binary.BigEndian.Uint32(o[4:])
	switch o[0] {
	case NDPRoute:
		if n.NumRoutes < MaxRoutes {
			n.readRoute(o, lifetime)
		}
	case NDPServers:
		for o = o[dnsLen:]; len(o) > 0 && n.NumServers < MaxServers; o = o[16:] {
			n.Servers[n.NumServers] = Server{netip.AddrFrom16([16]byte(o)), lifetime}
			n.NumServers++
		}
	case NDPSearch:
		if n.NumSearch < MaxSearch {
			n.readSearch(o[dnsLen:], lifetime)
		}
	}
}

// readRoute reads a Route Information option. RFC 4191 §2.3: "The Prefix field is 0, 8, or 16 octets depending on Length", and
// one that has not enough of them says nothing.
func (n *NDP) readRoute(o []byte, lifetime uint32) {
	p, ok := preference(uint32(o[3]) >> 3)
	bits := int(o[2])
	if !ok || bits > 128 || bits > (len(o)-8)*8 {
		return // "If the Reserved (10) value is received, the Route Information Option MUST be ignored."
	}
	var a [16]byte
	copy(a[:], o[8:])
	n.Routes[n.NumRoutes] = Route{netip.PrefixFrom(netip.AddrFrom16(a), bits).Masked(), p, lifetime}
	n.NumRoutes++
}

// readSearch reads the names of a DNS Search List option. A list with anything else in it is none (RFC 8106 §5.3.1).
func (n *NDP) readSearch(b []byte, lifetime uint32) {
	l := SearchList{Lifetime: lifetime}
	for len(b) > 0 && b[0] != 0 { // zeros fill it up
		length, ok := nameLen(b)
		if !ok {
			return
		}
		if int(l.size)+length <= len(l.names) {
			l.size += uint8(copy(l.names[l.size:], b[:length]))
		}
		b = b[length:]
	}
	if l.size > 0 {
		n.Search[n.NumSearch] = l
		n.NumSearch++
	}
}

// routeLen is the length of the option that a route makes.
func routeLen(r *Route) int { return 8 * (1 + (max(r.Prefix.Bits(), 0)+63)/64) }

// run is how many of the servers at the front have one lifetime, so that one option holds them.
func run(s []Server) int {
	n := 0
	for n < len(s) && s[n].Lifetime == s[0].Lifetime {
		n++
	}
	return n
}

// searchLen is the length of the option that a list makes; an empty one makes none.
func searchLen(l *SearchList) int {
	if l.size == 0 {
		return 0
	}
	return dnsLen + (int(l.size)+7)&^7
}

// lists are the parts of the arrays that count.
func (n *NDP) lists() ([]Route, []Server, []SearchList) {
	return n.Routes[:min(max(n.NumRoutes, 0), MaxRoutes)], n.Servers[:min(max(n.NumServers, 0), MaxServers)],
		n.Search[:min(max(n.NumSearch, 0), MaxSearch)]
}

// lateLen is the length of all of these options.
func (n *NDP) lateLen() (length int) {
	routes, servers, search := n.lists()
	for i := range routes {
		length += routeLen(&routes[i])
	}
	for k := 0; len(servers) > 0; servers = servers[k:] {
		k = run(servers)
		length += dnsLen + k*16
	}
	for i := range search {
		length += searchLen(&search[i])
	}
	return length
}

// writeLate writes these options to o, which is zero and has room for them.
func (n *NDP) writeLate(o []byte) {
	routes, servers, search := n.lists()
	begin := func(kind uint8, length int, lifetime uint32) []byte {
		option := o[:length]
		o = o[length:]
		option[0], option[1] = kind, uint8(length/8)
		binary.BigEndian.PutUint32(option[4:], lifetime)
		return option
	}
	for i := range routes {
		r := &routes[i]
		option := begin(NDPRoute, routeLen(r), r.Lifetime)
		option[2], option[3] = uint8(max(r.Prefix.Bits(), 0)), uint8(r.Preference.bits()<<3)
		a := r.Prefix.Masked().Addr().As16()
		copy(option[8:], a[:])
	}
	for k := 0; len(servers) > 0; servers = servers[k:] {
		k = run(servers)
		option := begin(NDPServers, dnsLen+k*16, servers[0].Lifetime)
		for i := range servers[:k] {
			a := servers[i].Addr.As16()
			copy(option[dnsLen+i*16:], a[:])
		}
	}
	for i := range search {
		if l := &search[i]; l.size > 0 {
			copy(begin(NDPSearch, searchLen(l), l.Lifetime)[dnsLen:], l.names[:l.size])
		}
	}
}
