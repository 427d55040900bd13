package firewall

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// tuple is what tells a connection's packets in one direction from all others. An ICMP query has its identifier as the
// source port, and its answer as the destination port, so that the answer is the inverse of the question.
type tuple struct {
	src, dst     [16]byte // an IPv4 address stands as ::ffff:a.b.c.d
	sport, dport uint16
	zone         uint16 // of link-local addresses, the interface; else 0
	proto        uint8
}

func (t *tuple) inverse() tuple {
	return tuple{t.dst, t.src, t.dport, t.sport, t.zone, t.proto}
}

// is4 reports whether the addresses are of IPv4.
func is4(a *[16]byte) bool {
	return binary.BigEndian.Uint64(a[:]) == 0 && binary.BigEndian.Uint32(a[8:]) == 0xffff
}

func address(a *[16]byte) netip.Addr {
	if is4(a) {
		return netip.AddrFrom4([4]byte(a[12:]))
	}
	return netip.AddrFrom16(*a)
}

func (t *tuple) source() netip.AddrPort { return netip.AddrPortFrom(address(&t.src), t.sport) }
func (t *tuple) target() netip.AddrPort { return netip.AddrPortFrom(address(&t.dst), t.dport) }

// A Flow is who talks to whom. Of an ICMP query the source's port is the identifier, of its answer the destination's.
type Flow struct {
	Protocol uint8
	Src, Dst netip.AddrPort
}

// String is the flow as in "tcp 192.0.2.1:4000 > 198.51.100.2:80".
func (f Flow) String() string {
	if !ported(f.Protocol) {
		return protocolName(f.Protocol) + " " + f.Src.Addr().String() + " > " + f.Dst.Addr().String()
	}
	return protocolName(f.Protocol) + " " + f.Src.String() + " > " + f.Dst.String()
}

func (t *tuple) flow() Flow { return Flow{t.proto, t.source(), t.target()} }

// ported reports whether packets of the protocol have ports, or what stands for them.
func ported(proto uint8) bool {
	return proto == ipv4.ProtoTCP || proto == ipv4.ProtoUDP || proto == ipv4.ProtoICMP || proto == ipv6.ProtoICMP
}

// hash is the tuple's place in a table, by a secret, so that nobody outside can choose tuples that meet in one place: it
// is SipHash-1-3 (Aumasson and Bernstein, 2012) of the 39 octets, as five words.
func (k *secret) hash(t *tuple) uint32 {
	v0, v1 := k[0]^0x736f6d6570736575, k[1]^0x646f72616e646f6d // the constants are SipHash's
	v2, v3 := k[0]^0x6c7967656e657261, k[1]^0x7465646279746573
	words := [...]uint64{
		binary.LittleEndian.Uint64(t.src[:]), binary.LittleEndian.Uint64(t.src[8:]),
		binary.LittleEndian.Uint64(t.dst[:]), binary.LittleEndian.Uint64(t.dst[8:]),
		uint64(t.sport) | uint64(t.dport)<<16 | uint64(t.zone)<<32 | uint64(t.proto)<<48,
	}
	for _, w := range words {
		v3 ^= w
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0 ^= w
	}
	v2 ^= 0xff
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	h := v0 ^ v1 ^ v2 ^ v3
	return uint32(h ^ h>>32)
}

type secret [2]uint64

func sipRound(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v0 = bits.RotateLeft64(v0, 32)
	v2 += v3
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 += v3
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 += v1
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}

// index finds entries by their hash: open addressing with linear probing, at most half full, so that a look-up ends at
// an empty slot soon. It knows hashes and references only; whoever looks compares keys.
type index struct {
	slots []slot
	n     int
}

type slot struct{ hash, ref uint32 } // a ref of 0 is an empty slot

const firstSlots = 64 // the smallest table that is not empty

func (x *index) mask() uint32 { return uint32(len(x.slots) - 1) }

func (x *index) add(hash, ref uint32) {
	if 2*(x.n+1) > len(x.slots) {
		x.grow()
	}
	i := hash & x.mask()
	for x.slots[i].ref != 0 {
		i = (i + 1) & x.mask()
	}
	x.slots[i] = slot{hash, ref}
	x.n++
}

func (x *index) grow() {
	old := x.slots
	x.slots, x.n = make([]slot, max(firstSlots, 2*len(old))), 0
	for _, s := range old {
		if s.ref != 0 {
			x.add(s.hash, s.ref)
		}
	}
}

// remove takes an entry out and closes the gap behind it, so that no look-up ends early.
func (x *index) remove(hash, ref uint32) {
	if len(x.slots) == 0 {
		return
	}
	i := hash & x.mask()
	for x.slots[i].ref != ref || x.slots[i].hash != hash {
		if x.slots[i].ref == 0 {
			return
		}
		i = (i + 1) & x.mask()
	}
	x.n--
	for j := i; ; {
		j = (j + 1) & x.mask()
		if x.slots[j].ref == 0 {
			break
		}
		home := x.slots[j].hash & x.mask()
		if (j-home)&x.mask() >= (j-i)&x.mask() { // the entry at j may stand at i, which is not before its home
			x.slots[i] = x.slots[j]
			i = j
		}
	}
	x.slots[i] = slot{}
}

// next is the slot at or behind i with that hash, or −1.
func (x *index) next(hash uint32, i int) int {
	if len(x.slots) == 0 {
		return -1
	}
	for j := uint32(i) & x.mask(); x.slots[j].ref != 0; j = (j + 1) & x.mask() {
		if x.slots[j].hash == hash {
			return int(j)
		}
	}
	return -1
}
