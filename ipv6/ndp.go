package ipv6

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// HopLimitNDP is the hop limit of all these messages. RFC 4861 §3.1: one that arrives with it was sent on this link,
// since a router would have taken one off.
const HopLimitNDP = 255

// What a Neighbor Discovery message that Decode or Check refuses has wrong.
var (
	ErrNDPType     = errors.New("ipv6: not a Neighbor Discovery message")
	ErrNDPCode     = errors.New("ipv6: Neighbor Discovery message with a code other than 0")
	ErrNDPLength   = errors.New("ipv6: Neighbor Discovery message shorter than its type")
	ErrNDPOption   = errors.New("ipv6: Neighbor Discovery option of length 0, of the wrong length, or beyond the message")
	ErrNDPTarget   = errors.New("ipv6: Neighbor Discovery target or destination that may not be one")
	ErrNDPHopLimit = errors.New("ipv6: Neighbor Discovery message with a hop limit other than 255")
	ErrNDPAddress  = errors.New("ipv6: Neighbor Discovery message between addresses that may not be")
)

// NDP is a message of Neighbor Discovery, RFC 4861 §4: a question or an answer about a neighbour's link-layer address
// (solicitation, advertisement), the same about routers, or a Redirect. Each type has its own fields, said with each, and
// the others are zero. NDP values can be compared with ==.
type NDP struct {
	Type   uint8      // RouterSolicitation to Redirect
	Target netip.Addr // neighbour messages: the address in question; Redirect: the better next hop
	Dest   netip.Addr // Redirect: the destination that is better reached by Target

	Router    bool // neighbour advertisement, R: the sender is a router
	Solicited bool // neighbour advertisement, S: it answers a solicitation
	Override  bool // neighbour advertisement, O: it replaces what is known

	SourceLL, TargetLL       [6]byte // link-layer addresses of the sender and of Target, if HasSourceLL, HasTargetLL
	HasSourceLL, HasTargetLL bool
	Nonce                    [6]byte // neighbour solicitation: tells one's own from another's (RFC 7527), if HasNonce
	HasNonce                 bool

	HopLimit           uint8      // router advertisement: for packets to send; 0 says nothing
	Managed, Other     bool       // router advertisement, M and O: DHCPv6 has addresses, or other things
	Lifetime           uint16     // router advertisement: seconds that the router serves; 0: it does not
	Reachable, Retrans uint32     // router advertisement: milliseconds, for neighbour unreachability detection; 0 says nothing
	Preference         Preference // router advertisement: among routers (RFC 4191 §2.2); one that does not serve has none
	MTU                uint32     // router advertisement: octets; 0: there is no such option

	// Router advertisement: the first NumPrefixes, NumRoutes, NumServers and NumSearch.
	Prefixes    [MaxPrefixes]Prefix
	NumPrefixes int
	Routes      [MaxRoutes]Route
	NumRoutes   int
	Servers     [MaxServers]Server
	NumServers  int
	Search      [MaxSearch]SearchList
	NumSearch   int
}

// fixedLen is how many octets of ICMP body come before the options, for each type from RouterSolicitation on (§4.1–4.5).
var fixedLen = [...]int{0, 8, 16, 16, 32}

// Decode reads m, whose checksum was verified. It makes the checks of RFC 4861 §6.1, §7.1 and §8.1 that need the
// message only (see Check for the others); the error is ErrNDPType, ErrNDPCode, ErrNDPLength, ErrNDPOption or ErrNDPTarget,
// and then n holds nothing of use. Options of other types, or that do not belong to the message, are passed over.
func (n *NDP) Decode(m *ICMP) error {
	*n = NDP{Type: m.Type}
	if m.Type < RouterSolicitation || m.Type > Redirect {
		return ErrNDPType
	}
	if m.Code != 0 {
		return ErrNDPCode
	}
	fixed := fixedLen[m.Type-RouterSolicitation]
	if len(m.Body) < fixed {
		return ErrNDPLength
	}
	switch m.Type {
	case RouterAdvertisement:
		n.HopLimit = uint8(m.Rest >> 24)
		n.Managed, n.Other = m.Rest&(1<<23) != 0, m.Rest&(1<<22) != 0
		n.Lifetime = uint16(m.Rest)
		// RFC 4191 §2.2: "If the Router Lifetime is zero, the preference value MUST be set to (00) by the sender and MUST be
		// ignored by the receiver."
		if p, ok := preference(m.Rest >> 19); ok && n.Lifetime != 0 {
			n.Preference = p // and else medium
		}
		n.Reachable, n.Retrans = binary.BigEndian.Uint32(m.Body), binary.BigEndian.Uint32(m.Body[4:])
	case NeighborSolicitation:
		n.Target = netip.AddrFrom16([16]byte(m.Body))
	case NeighborAdvertisement:
		n.Router, n.Solicited, n.Override = m.Rest&(1<<31) != 0, m.Rest&(1<<30) != 0, m.Rest&(1<<29) != 0
		n.Target = netip.AddrFrom16([16]byte(m.Body))
	case Redirect:
		n.Target, n.Dest = netip.AddrFrom16([16]byte(m.Body)), netip.AddrFrom16([16]byte(m.Body[16:]))
	}
	if err := n.checkTarget(); err != nil {
		return err
	}
	return n.readOptions(m.Body[fixed:])
}

// checkTarget makes the checks of Target and Dest.
func (n *NDP) checkTarget() error {
	switch n.Type {
	case NeighborSolicitation, NeighborAdvertisement:
		// RFC 4861 §7.1.1, §7.1.2: "Target Address is not a multicast address."
		if n.Target.IsMulticast() {
			return ErrNDPTarget
		}
	case Redirect:
		// RFC 4861 §8.1: "The ICMP Target Address is either a link-local address (when redirected to a router) or the same as
		// the ICMP Destination Address (when redirected to the on-link destination)."
		if n.Dest.IsMulticast() || n.Target.IsMulticast() || !n.Target.IsLinkLocalUnicast() && n.Target != n.Dest {
			return ErrNDPTarget
		}
	}
	return nil
}

// hasSource reports whether a message of this type may have a source link-layer address: RFC 4861 §4.1, §4.2, §4.3.
func (n *NDP) hasSource() bool {
	return n.Type == RouterSolicitation || n.Type == RouterAdvertisement || n.Type == NeighborSolicitation
}

// hasTarget reports whether a message of this type may have a target link-layer address: RFC 4861 §4.4, §4.5.
func (n *NDP) hasTarget() bool { return n.Type == NeighborAdvertisement || n.Type == Redirect }

// Check makes the checks of RFC 4861 §6.1, §7.1 and §8.1 that need the header of the packet that n came in: that nobody
// beyond the link sent it, and that the addresses go with the message. The error is ErrNDPHopLimit or ErrNDPAddress.
func (n *NDP) Check(h *Header) error {
	if h.HopLimit != HopLimitNDP {
		return ErrNDPHopLimit
	}
	unspecified := h.Src.IsUnspecified()
	bad := false
	switch n.Type {
	case RouterSolicitation: // §6.1.1
		bad = unspecified && n.HasSourceLL
	case RouterAdvertisement, Redirect: // §6.1.2, §8.1
		bad = !h.Src.IsLinkLocalUnicast()
	case NeighborSolicitation: // §7.1.1; somebody asks whether an address is free
		bad = unspecified && (n.HasSourceLL || h.Dst != SolicitedNode(n.Target))
	case NeighborAdvertisement: // §7.1.2
		bad = h.Dst.IsMulticast() && n.Solicited
	}
	if bad || h.Src.IsMulticast() {
		return ErrNDPAddress
	}
	return nil
}

// Len is the length of n in octets as the body of an ICMP message, ICMPLen not included.
func (n *NDP) Len() int {
	if n.Type < RouterSolicitation || n.Type > Redirect {
		return 0
	}
	length := fixedLen[n.Type-RouterSolicitation]
	if n.HasSourceLL && n.hasSource() {
		length += linkAddressLen
	}
	if n.HasTargetLL && n.hasTarget() {
		length += linkAddressLen
	}
	if n.HasNonce && n.Type == NeighborSolicitation {
		length += nonceLen
	}
	if n.Type == RouterAdvertisement {
		if n.MTU != 0 {
			length += mtuLen
		}
		length += min(max(n.NumPrefixes, 0), MaxPrefixes)*prefixLen + n.lateLen()
	}
	return length
}

// Encode writes the body of n to b and returns the message that has it, whose own Encode makes the packet's payload; b
// may be the place where the body goes. Fields that do not belong to the type are not written. If b is shorter
// than n.Len(), or an address is missing, the message is the zero ICMP.
func (n *NDP) Encode(b []byte) ICMP {
	length := n.Len()
	if len(b) < length || n.Type < RouterSolicitation || n.Type > Redirect {
		return ICMP{}
	}
	if n.Type >= NeighborSolicitation && !n.Target.Is6() || n.Type == Redirect && !n.Dest.Is6() {
		return ICMP{}
	}
	b = b[:length]
	m := ICMP{Type: n.Type, Body: b}
	clear(b)
	switch n.Type {
	case RouterAdvertisement:
		m.Rest = uint32(n.HopLimit)<<24 | bit(n.Managed, 23) | bit(n.Other, 22) | uint32(n.Lifetime)
		if n.Lifetime != 0 {
			m.Rest |= n.Preference.bits() << 19
		}
		binary.BigEndian.PutUint32(b, n.Reachable)
		binary.BigEndian.PutUint32(b[4:], n.Retrans)
	case NeighborAdvertisement:
		m.Rest = bit(n.Router, 31) | bit(n.Solicited, 30) | bit(n.Override, 29)
	}
	if n.Type >= NeighborSolicitation {
		target := n.Target.As16()
		copy(b, target[:])
	}
	if n.Type == Redirect {
		dest := n.Dest.As16()
		copy(b[16:], dest[:])
	}
	n.writeOptions(b[fixedLen[n.Type-RouterSolicitation]:])
	return m
}

// bit is set at that place, or 0.
func bit(set bool, at int) uint32 {
	if set {
		return 1 << at
	}
	return 0
}
