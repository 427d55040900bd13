package stack

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// identifications chooses the numbers that tell fragments of one packet from those of another, by RFC 7739 §5.3: a value
// that only we can compute for each pair of hosts, and a counter that few pairs share.
//
// One pair never sees a number again before all others were used, 65,536 over IPv4 (RFC 6864 §4.3); who sees the numbers
// of its own learns nothing of another pair's, and so can neither count our packets nor forge fragments of them. Whole
// packets need none, and have 0 (RFC 6864 §4.1). Not done: RFC 6864 §4.3 would have IPv4 sources slow down to 65,536 cut
// packets in the lifetime of one, two minutes; the transport's checksum is what tells them apart, as with every host.
type identifications struct {
	sync.Mutex
	counters [256]uint32 // by a hash under a key; few packets are cut, so this is little
}

// next is the identification of the next packet of that source, destination and protocol.
func (x *identifications) next(k *secrets, m *meta) uint32 {
	var b [32 + 33]byte
	copy(b[:], k.key[:])
	src, dst := m.src.As16(), m.dst.As16()
	copy(b[32:], src[:])
	copy(b[48:], dst[:])
	if m.src.Is4() { // RFC 8200 §4.5 has no protocol in what identifies a packet
		b[64] = m.proto
	}
	sum := sha256.Sum256(b[:])
	x.Lock()
	defer x.Unlock()
	n := &x.counters[sum[4]]
	*n++
	return binary.BigEndian.Uint32(sum[:]) + *n
}
