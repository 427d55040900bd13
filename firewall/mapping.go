package firewall

import (
	"math/bits"
	"net/netip"
)

// Filtering is who may send to a mapping from outside (RFC 4787 §5).
type Filtering uint8

// The kinds of filtering.
const (
	AddressDependent        Filtering = iota // whom the inside has sent something to: by address
	EndpointIndependent                      // anybody
	AddressAndPortDependent                  // whom the inside has sent something to: by address and port
	numFilterings
)

var filteringNames = [...]string{"address", "any", "port"}

// String is the filtering as rules have it: address, any or port.
func (f Filtering) String() string {
	if f < numFilterings {
		return filteringNames[f]
	}
	return "unknown"
}

// mapping is an internal endpoint with its external one.
type mapping struct {
	inside, outside tuple // as index keys: see innerKey, outerKey
	on              string
	refs            int // connections that use it
	next            uint32
	gen             uint32
	filter          Filtering
}

// innerKey is the key of a mapping from the inside: what internal endpoint, to which external address.
func innerKey(proto uint8, internal [16]byte, port uint16, external [16]byte) tuple {
	return tuple{src: internal, sport: port, dst: external, proto: proto, zone: 0xffff}
}

// outerKey is the key of a mapping from the outside.
func outerKey(proto uint8, external [16]byte, port uint16) tuple {
	return tuple{dst: external, dport: port, proto: proto, zone: 0xffff}
}

// mappings is the table of them.
type mappings struct {
	list  []mapping // list[0] is none
	free  uint32
	n     int
	index index // of both keys; the reference is as in table
	pools map[poolKey]*pool
	peers map[peerKey]uint32 // how many connections a mapping has to an address
}

type poolKey struct {
	external [16]byte
	proto    uint8
}

type peerKey struct {
	mapping uint32
	remote  [16]byte
}

// pool is the ports of an external address for one protocol: a bit is set where the port is in use.
type pool struct {
	used  [1 << 16 / 64]uint64
	ports int // in use
}

func (l *pool) has(port uint16) bool { return l.used[port/64]&(1<<(port%64)) != 0 }
func (l *pool) set(port uint16)      { l.used[port/64] |= 1 << (port % 64); l.ports++ }
func (l *pool) clear(port uint16)    { l.used[port/64] &^= 1 << (port % 64); l.ports-- }

// scan is the first free port in [from, to], or 0.
func (l *pool) scan(from, to int) uint16 {
	for from <= to {
		free := ^l.used[from/64] &^ (1<<(from%64) - 1)
		if free != 0 {
			if port := from&^63 + bits.TrailingZeros64(free); port <= to {
				return uint16(port)
			}
			return 0
		}
		from = from&^63 + 64
	}
	return 0
}

// Ports that translation gives out.
const (
	firstPort   = 1024 // RFC 4787 REQ-3: the range that ports from 1024 on stay in
	lastPort    = 1<<16 - 1
	maxRefusals = 128 // how many ports that the host itself uses are passed over before giving up, for one packet
)

// lookup is the mapping with that key, or 0.
func (f *Firewall) lookup(t *tuple, outer bool) uint32 {
	m, h := &f.mappings, f.key.hash(t)
	for i := m.index.next(h, int(h)); i >= 0; i = m.index.next(h, i+1) {
		r := m.index.slots[i].ref
		e := &m.list[r>>1]
		if outer == (r&1 == 1) && (outer && e.outside == *t || !outer && e.inside == *t) {
			return r >> 1
		}
	}
	return 0
}

// allocate is the mapping of an internal endpoint on the external address, an old one or a new one; 0 if no port is left.
// The caller owns a reference to it, for a connection: so there are no more mappings than connections.
func (f *Firewall) allocate(proto uint8, internal [16]byte, port uint16, external [16]byte, on string, filter Filtering) (uint32, Reason) {
	inner := innerKey(proto, internal, port, external)
	m := &f.mappings
	if ref := f.lookup(&inner, false); ref != 0 {
		m.list[ref].refs++
		return ref, 0
	}
	l := f.pool(external, proto)
	out := f.pick(l, proto, external, port, f.key.hash(&inner))
	if out == 0 {
		return 0, PortsExhausted
	}
	l.set(out)
	ref := m.free
	if ref != 0 {
		m.free = m.list[ref].next
	} else {
		ref = uint32(len(m.list))
		m.list = append(m.list, mapping{})
	}
	m.n++
	e := &m.list[ref]
	*e = mapping{inside: inner, outside: outerKey(proto, external, out), on: on, refs: 1, gen: e.gen, filter: filter}
	m.index.add(f.key.hash(&e.inside), ref<<1)
	m.index.add(f.key.hash(&e.outside), ref<<1|1)
	return ref, 0
}

func (f *Firewall) pool(external [16]byte, proto uint8) *pool {
	k := poolKey{external, proto}
	l := f.mappings.pools[k]
	if l == nil {
		l = &pool{}
		l.used[0] = 1 // port 0 is none
		f.mappings.pools[k] = l
	}
	return l
}

// pick is a free port, want if possible, or 0. A port that is not to be had is replaced by one from where the secret says,
// so that it cannot be guessed and yet is the same each time (RFC 4787 REQ-11).
func (f *Firewall) pick(l *pool, proto uint8, external [16]byte, want uint16, seed uint32) uint16 {
	taken := func(port uint16) bool {
		at := netip.AddrPortFrom(address(&external), port)
		return f.rules.forwards(proto, at) || f.config.Taken != nil && f.config.Taken(proto, at)
	}
	if want != 0 && !l.has(want) && !taken(want) {
		return want
	}
	refusals := maxRefusals
	for _, r := range [...]struct {
		low, high int
		in        bool
	}{
		// RFC 4787 REQ-3a: "If the host's source port was in the range 0-1023, it is RECOMMENDED the NAT's source port be in
		// the same range."
		{1, firstPort - 1, want < firstPort}, {firstPort, lastPort, true},
	} {
		if !r.in {
			continue
		}
		start := r.low + int(seed)%(r.high-r.low+1)
		for _, part := range [...][2]int{{start, r.high}, {r.low, start - 1}} {
			for port := l.scan(part[0], part[1]); port != 0; port = l.scan(int(port)+1, part[1]) {
				if !taken(port) {
					return port
				}
				if refusals--; refusals == 0 {
					return 0
				}
			}
		}
	}
	return 0
}

// unmap gives back a reference to a mapping. 0 is none.
func (f *Firewall) unmap(ref uint32) {
	if ref == 0 {
		return
	}
	m := &f.mappings
	e := &m.list[ref]
	if e.refs--; e.refs > 0 {
		return
	}
	m.index.remove(f.key.hash(&e.inside), ref<<1)
	m.index.remove(f.key.hash(&e.outside), ref<<1|1)
	f.pool(e.outside.dst, e.outside.proto).clear(e.outside.dport)
	*e = mapping{gen: e.gen + 1, next: m.free}
	m.free = ref
	m.n--
}

// peer notes that a connection of the mapping goes to that address, and unpeer that it does not any more.
func (f *Firewall) peer(ref uint32, remote [16]byte) { f.mappings.peers[peerKey{ref, remote}]++ }

func (f *Firewall) unpeer(ref uint32, remote [16]byte) {
	k := peerKey{ref, remote}
	if n := f.mappings.peers[k]; n > 1 {
		f.mappings.peers[k] = n - 1
	} else {
		delete(f.mappings.peers, k)
	}
}

// admits reports whether the mapping lets a packet from that address in, which belongs to no connection.
func (f *Firewall) admits(ref uint32, remote [16]byte) bool {
	switch f.mappings.list[ref].filter {
	case EndpointIndependent:
		return true
	case AddressDependent:
		return f.mappings.peers[peerKey{ref, remote}] > 0
	default: // who was sent something by address and port has a connection
		return false
	}
}
