package tcp

import "strconv"

// Seq is a sequence number: an octet's place in the stream, modulo 2³² (RFC 9293 §3.4).
// Addition is plain: s + Seq(n). Comparison is by the methods, which hold while two numbers stand less than 2³¹ apart.
type Seq uint32

// Less reports whether s comes before o.
func (s Seq) Less(o Seq) bool { return int32(s-o) < 0 }

// before is Less as a mask: all ones where s comes before o, else 0. A search among what stands at random would guess half
// of its branches wrong, and has none with it.
func (s Seq) before(o Seq) int { return int(int32(s-o) >> 31) }

// LessEq reports whether s comes before o or is o.
func (s Seq) LessEq(o Seq) bool { return int32(s-o) <= 0 }

// In reports whether s stands in the half-open range [lo, hi).
func (s Seq) In(lo, hi Seq) bool { return s-lo < hi-lo }

// From returns how many octets s stands behind o, or 0 where s does not come after o:
// a length is never taken across an order that does not hold.
func (s Seq) From(o Seq) int {
	if d := int32(s - o); d > 0 {
		return int(d)
	}
	return 0
}

// String is the number in decimal.
func (s Seq) String() string { return strconv.FormatUint(uint64(s), 10) }

func maxSeq(a, b Seq) Seq {
	if a.Less(b) {
		return b
	}
	return a
}

func minSeq(a, b Seq) Seq {
	if b.Less(a) {
		return b
	}
	return a
}
