package stack

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
)

// source picks the address that a packet to dst leaves from: RFC 6724 §5, and for IPv4 the same. RFC 6724 §4: "For
// all multicast and link-local destination addresses, the set of candidate source addresses MUST only include addresses assigned
// to interfaces belonging to the same link as the outgoing interface", and so it is here for all, in the strong model.
// It does not allocate.
func (v *view) source(dst netip.Addr, h *hop) (netip.Addr, bool) {
	if loopback4.Contains(dst) {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	}
	i := h.ifc
	if i == nil { // no way there was found, so there is no place to send from
		return netip.Addr{}, false
	}
	if i.loopback { // to ourselves: rule 1, "Prefer same address"
		return dst.WithZone(""), true
	}
	if h.src.IsValid() && i.has(h.src) {
		return h.src, true
	}
	a := pickSource(*i.addrs.Load(), dst, h.via)
	if a == nil {
		return netip.Addr{}, false
	}
	return a.Prefix.Addr(), true
}

// pickSource is RFC 6724 §5 among the addresses of the outgoing interface; nil: none is of dst's family. via is the next
// hop, invalid where that is dst.
func pickSource(addrs []Addr, dst, via netip.Addr) *Addr {
	dst = dst.WithZone("")
	var best *Addr
	for k := range addrs {
		a := &addrs[k]
		if a.Prefix.Addr().Is4() == dst.Is4() && (best == nil || preferSource(a, best, dst, via)) {
			best = a
		}
	}
	return best
}

// preferSource reports whether a is a better source than b, which came before it.
func preferSource(a, b *Addr, dst, via netip.Addr) bool {
	x, y := a.Prefix.Addr(), b.Prefix.Addr()
	if x == dst || y == dst { // rule 1, "Prefer same address"
		return x == dst
	}
	// Rule 2, "Prefer appropriate scope": "If Scope(SA) < Scope(SB): If Scope(SA) < Scope(D), then prefer SB and otherwise
	// prefer SA."
	if sx, sy, sd := scopeOf(x), scopeOf(y), scopeOf(dst); sx < sy {
		return sx >= sd
	} else if sy < sx {
		return sy < sd
	}
	// Rule 3, "Avoid deprecated addresses"; RFC 4429 §2.1 has optimistic ones treated the same. Rule 4 is of Mobile IP.
	if p, q := a.Deprecated || a.State == AddrOptimistic, b.Deprecated || b.State == AddrOptimistic; p != q {
		return q
	}
	// Rule 5, "Prefer outgoing interface", is met by all. Rule 5.5, "Prefer addresses in a prefix advertised by the
	// next-hop"; where nobody advertised, as with IPv4, in the prefix that the next hop is in, which is Linux's choice there.
	if p, q := a.nextTo(via), b.nextTo(via); p != q {
		return p
	}
	// Rule 6, "Prefer matching label".
	if label := policyOf(dst).label; (policyOf(x).label == label) != (policyOf(y).label == label) {
		return policyOf(x).label == label
	}
	// Rule 7, "Prefer temporary addresses".
	if a.Temporary != b.Temporary {
		return a.Temporary
	}
	// Rule 8, "Use longest matching prefix". RFC 6724 §2.2 has it end with the prefix of the source address.
	return min(commonBits(x, dst), a.Prefix.Bits()) > min(commonBits(y, dst), b.Prefix.Bits())
}

// nextTo reports whether a belongs to the next hop: by what it advertised, or by the network that both are in.
func (a *Addr) nextTo(via netip.Addr) bool {
	return via.IsValid() && (a.Router == via || a.Prefix.Contains(via) && !via.IsLinkLocalUnicast())
}

// Scopes of addresses, as in multicast ones (RFC 6724 §3.1, RFC 4291 §2.7).
const (
	scopeLink   = 2
	scopeSite   = 5
	scopeGlobal = 14
)

// scopeOf is how far an address means the same (RFC 6724 §3.1; §3.2 for IPv4, where private addresses are global as well).
func scopeOf(a netip.Addr) uint8 {
	switch {
	case a.Is6() && !a.Is4In6() && a.IsMulticast():
		b := a.As16()
		return b[1] & 0xf
	case a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast():
		return scopeLink
	case a.Is6() && siteLocal.Contains(a):
		return scopeSite
	}
	return scopeGlobal
}

var siteLocal = netip.MustParsePrefix("fec0::/10") // RFC 4291 §2.5.7, deprecated

// policy is a line of the policy table. Addresses of one label suit each other, and those of higher precedence are tried first.
type policy struct {
	prefix            netip.Prefix
	precedence, label uint8
}

// policies is the default policy table of RFC 6724 §2.1, longest prefixes first.
var policies = [...]policy{
	{netip.MustParsePrefix("::1/128"), 50, 0},
	{netip.MustParsePrefix("::ffff:0:0/96"), 35, 4}, // IPv4
	{netip.MustParsePrefix("::/96"), 1, 3},          // IPv4-compatible, deprecated
	{netip.MustParsePrefix("2001::/32"), 5, 5},      // Teredo
	{netip.MustParsePrefix("2002::/16"), 30, 2},     // 6to4
	{netip.MustParsePrefix("3ffe::/16"), 1, 12},     // 6bone, returned
	{netip.MustParsePrefix("fec0::/10"), 1, 11},     // site-local, deprecated
	{netip.MustParsePrefix("fc00::/7"), 3, 13},      // unique local
	{netip.MustParsePrefix("::/0"), 40, 1},
}

// policyOf is the line of the policy table for an address.
func policyOf(a netip.Addr) *policy {
	if a.Is4() {
		return &policies[1]
	}
	k := 0
	for a = a.WithZone(""); k < len(policies)-1 && !policies[k].prefix.Contains(a); k++ {
	}
	return &policies[k]
}

// commonBits is the length of the longest prefix that two addresses of one family share.
func commonBits(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	n := bits.LeadingZeros64(binary.BigEndian.Uint64(x[:8]) ^ binary.BigEndian.Uint64(y[:8]))
	if n == 64 {
		n += bits.LeadingZeros64(binary.BigEndian.Uint64(x[8:]) ^ binary.BigEndian.Uint64(y[8:]))
	}
	if a.Is4() {
		n -= 96
	}
	return n
}

// destination is an address that a name stands for, with what we would send from.
type destination struct {
	addr   netip.AddrPort
	source *Addr // nil: there is no way, or no address to send from
}

// order sorts the addresses of a name by RFC 6724 §6, the best to try first. Equal ones stay in the order that DNS gave.
func (s *Stack) order(addrs []netip.AddrPort) {
	v := s.view.Load()
	all := make([]destination, len(addrs))
	for k, a := range addrs {
		all[k] = destination{a, s.sourceOf(v, a.Addr())}
	}
	slices.SortStableFunc(all, compareDestinations)
	for k := range all {
		addrs[k] = all[k].addr
	}
}

// sourceOf is the address that we would send from, with what is known of it.
func (s *Stack) sourceOf(v *view, dst netip.Addr) *Addr {
	zone, err := s.zoneIndex(dst.Zone())
	if err != nil {
		return nil
	}
	h, ok := v.lookup(dst.WithZone(""), zone)
	if !ok {
		return nil
	}
	src, ok := v.source(dst, h)
	if !ok {
		return nil
	}
	for _, i := range v.ifaces {
		for _, a := range *i.addrs.Load() {
			if a.Prefix.Addr() == src {
				return &a
			}
		}
	}
	return &Addr{Prefix: netip.PrefixFrom(src, src.BitLen()), State: AddrValid}
}

// compareDestinations is RFC 6724 §6: negative where a is to be tried before b. Rules 4 and 7 are of Mobile IP and of
// tunnels below us.
func compareDestinations(a, b destination) int {
	if a.source == nil || b.source == nil { // rule 1, "Avoid unusable destinations"
		return before(a.source != nil, b.source != nil)
	}
	x, y := a.addr.Addr(), b.addr.Addr()
	p, q := a.source.Prefix.Addr(), b.source.Prefix.Addr()
	c := cmp.Or(
		before(scopeOf(x) == scopeOf(p), scopeOf(y) == scopeOf(q)),                             // rule 2, "Prefer matching scope"
		before(!a.source.Deprecated, !b.source.Deprecated),                                     // rule 3, "Avoid deprecated addresses"
		before(policyOf(x).label == policyOf(p).label, policyOf(y).label == policyOf(q).label), // rule 5, "Prefer matching label"
		cmp.Compare(policyOf(y).precedence, policyOf(x).precedence),                            // rule 6, "Prefer higher precedence"
		cmp.Compare(scopeOf(x), scopeOf(y)),                                                    // rule 8, "Prefer smaller scope"
	)
	// Rule 9, "Use longest matching prefix": for IPv6 alone, as everywhere. IPv4 addresses that are near each other
	// say nothing, and DNS could no longer spread its clients over them.
	if c == 0 && x.Is6() && y.Is6() {
		c = cmp.Compare(min(commonBits(y, q), b.source.Prefix.Bits()), min(commonBits(x, p), a.source.Prefix.Bits()))
	}
	return c
}

// before is negative where the first alone is so, positive where the second alone is.
func before(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
