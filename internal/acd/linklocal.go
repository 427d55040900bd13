package acd

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"github.com/seed87e66d9f/waybill/ethernet"
)

// Network is where link-local addresses are from: 169.254/16 (RFC 3927 §2.1).
var Network = netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, 0, 0}), 16)

// first and count: RFC 3927 §2.1, "the range from 169.254.1.0 to 169.254.254.255 inclusive".
const (
	first = 169<<24 | 254<<16 | 1<<8
	count = 254 << 8
)

// Candidate is the link-local address that a station tries after so many attempts that met a conflict. RFC 3927 §2.1: "Hosts
// that are equipped with persistent storage MAY […] record the IPv4 address"; without it the pseudo-random numbers start
// from the hardware address, so that a host has the same one each time, and two hosts seldom the same sequence.
func Candidate(hw ethernet.Addr, attempt uint32) netip.Addr {
	b := binary.BigEndian.AppendUint32(append([]byte("169.254/16"), hw[:]...), attempt)
	sum := sha256.Sum256(b)
	n := first + uint32(binary.BigEndian.Uint64(sum[:])%count)
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}
