package ipv6

import (
	"encoding/binary"
	"net/netip"
)

// Options of Neighbor Discovery messages.
const (
	NDPSourceLL uint8 = 1  // RFC 4861 §4.6.1, Source Link-layer Address
	NDPTargetLL uint8 = 2  // RFC 4861 §4.6.1, Target Link-layer Address
	NDPPrefix   uint8 = 3  // RFC 4861 §4.6.2, Prefix Information
	NDPMTU      uint8 = 5  // RFC 4861 §4.6.4
	NDPNonce    uint8 = 14 // RFC 3971 §5.3.2, for RFC 7527
	NDPRoute    uint8 = 24 // RFC 4191 §2.3, Route Information
	NDPServers  uint8 = 25 // RFC 8106 §5.1, Recursive DNS Server
	NDPSearch   uint8 = 31 // RFC 8106 §5.2, DNS Search List
)

// Octets of an option, type and length included.
const (
	linkAddressLen = 8  // RFC 2464 §6: a length of 1
	prefixLen      = 32 // RFC 4861 §4.6.2: a length of 4
	mtuLen         = 8  // RFC 4861 §4.6.4: a length of 1
	nonceLen       = 8  // RFC 3971 §5.3.2: at least 6 octets of nonce
	dnsLen         = 8  // RFC 8106 §5.1, §5.2: what comes before the servers or the names
)

// MaxPrefixes is how many prefixes of a Router Advertisement are kept. The RFC has no limit; a link has one or two.
const MaxPrefixes = 16

// Infinite is the lifetime of what does not end, such as a prefix (RFC 4861 §4.6.2).
const Infinite = 1<<32 - 1

// Prefix is the Prefix Information option, RFC 4861 §4.6.2.
type Prefix struct {
	Prefix           netip.Prefix // masked
	OnLink           bool         // L: its addresses are neighbours
	Autonomous       bool         // A: hosts may make addresses of it (RFC 4862 §5.5.3)
	Valid, Preferred uint32       // lifetimes in seconds; Infinite
}

// readOptions reads the options o. Of several of one type the first counts, but for those of which there are lists.
func (n *NDP) readOptions(o []byte) error {
	for len(o) > 0 {
		// RFC 4861 §4.6: "Nodes MUST silently discard an ND packet that contains an option with length zero."
		if len(o) < 2 || o[1] == 0 || int(o[1])*8 > len(o) {
			return ErrNDPOption
		}
		length := int(o[1]) * 8
		if !rightLength(o[0], length) {
			return ErrNDPOption
		}
		n.readOption(o[:length])
		if n.Type == RouterAdvertisement {
			n.readLate(o[:length])
		}
		o = o[length:]
	}
	return nil
}

// rightLength reports whether an option of that type may have so many octets.
func rightLength(kind uint8, length int) bool {
	switch kind {
	case NDPSourceLL, NDPTargetLL:
		return length == linkAddressLen
	case NDPPrefix:
		return length == prefixLen
	case NDPMTU:
		return length == mtuLen
	case NDPServers: // RFC 8106 §5.1: at least one whole address
		return length >= dnsLen+16 && length%16 == dnsLen
	case NDPSearch: // RFC 8106 §5.2: at least one name
		return length > dnsLen
	}
	return true
}

// readOption reads the option o of RFC 4861 or 3971, which is as long as its type says.
func (n *NDP) readOption(o []byte) {
	switch ra := n.Type == RouterAdvertisement; {
	case o[0] == NDPSourceLL && n.hasSource() && !n.HasSourceLL:
		n.SourceLL, n.HasSourceLL = [6]byte(o[2:]), true
	case o[0] == NDPTargetLL && n.hasTarget() && !n.HasTargetLL:
		n.TargetLL, n.HasTargetLL = [6]byte(o[2:]), true
	case o[0] == NDPNonce && n.Type == NeighborSolicitation && !n.HasNonce && len(o) == nonceLen:
		n.Nonce, n.HasNonce = [6]byte(o[2:]), true
	case o[0] == NDPMTU && ra && n.MTU == 0:
		n.MTU = binary.BigEndian.Uint32(o[4:])
	case o[0] == NDPPrefix && ra && n.NumPrefixes < MaxPrefixes:
		// RFC 4861 §4.6.2: the bits behind the prefix length are to be ignored; a length above 128 is no prefix at all
		p, err := netip.AddrFrom16([16]byte(o[16:])).Prefix(min(int(o[2]), 128))
		if err != nil || o[2] > 128 {
			return
		}
		n.Prefixes[n.NumPrefixes] = Prefix{Prefix: p, OnLink: o[3]&0x80 != 0, Autonomous: o[3]&0x40 != 0,
			Valid: binary.BigEndian.Uint32(o[4:]), Preferred: binary.BigEndian.Uint32(o[8:])}
		n.NumPrefixes++
	}
}

// writeOptions writes the options of n to o, which is zero and has room for them.
func (n *NDP) writeOptions(o []byte) {
	address := func(kind uint8, a [6]byte) { // nonces look just the same
		o[0], o[1] = kind, 1
		copy(o[2:], a[:])
		o = o[linkAddressLen:]
	}
	if n.HasSourceLL && n.hasSource() {
		address(NDPSourceLL, n.SourceLL)
	}
	if n.HasTargetLL && n.hasTarget() {
		address(NDPTargetLL, n.TargetLL)
	}
	if n.HasNonce && n.Type == NeighborSolicitation {
		address(NDPNonce, n.Nonce)
	}
	if n.Type != RouterAdvertisement {
		return
	}
	if n.MTU != 0 {
		o[0], o[1] = NDPMTU, mtuLen/8
		binary.BigEndian.PutUint32(o[4:], n.MTU)
		o = o[mtuLen:]
	}
	for i := range min(max(n.NumPrefixes, 0), MaxPrefixes) {
		p := &n.Prefixes[i]
		o[0], o[1], o[2] = NDPPrefix, prefixLen/8, uint8(max(p.Prefix.Bits(), 0))
		o[3] = uint8(bit(p.OnLink, 7) | bit(p.Autonomous, 6))
		binary.BigEndian.PutUint32(o[4:], p.Valid)
		binary.BigEndian.PutUint32(o[8:], p.Preferred)
		a := p.Prefix.Masked().Addr().As16()
		copy(o[16:], a[:])
		o = o[prefixLen:]
	}
	n.writeLate(o)
}
