package tcp

import "encoding/binary"

// The kinds of TCP options that this package reads (IANA, TCP Option Kind Numbers).
const (
	kindEOL           = 0  // RFC 9293 §3.1
	kindNOP           = 1  // RFC 9293 §3.1
	kindMSS           = 2  // RFC 9293 §3.7.1
	kindWindowScale   = 3  // RFC 7323 §2.2
	kindSACKPermitted = 4  // RFC 2018 §2
	kindSACK          = 5  // RFC 2018 §3
	kindTimestamps    = 8  // RFC 7323 §3.2
	kindFastOpen      = 34 // RFC 7413 §4.1.1
)

// maxWindowScale: RFC 7323 §2.3, "the shift count MUST be limited to 14".
const maxWindowScale = 14

// Block is a run of octets that arrived out of order: [Left, Right) (RFC 2018 §3).
type Block struct{ Left, Right Seq }

// Options are the options of one segment. The zero value carries none.
type Options struct {
	MSS           uint16 // 0: absent
	WindowScale   uint8  // shift count as carried; meaningful where HasScale
	HasScale      bool
	SACKPermitted bool
	HasTimestamps bool
	TSVal, TSEcr  uint32         // meaningful where HasTimestamps
	Blocks        uint8          // how many of SACK are meaningful, at most 4
	HasFastOpen   bool           // a cookie is asked for, or
	Cookie        FastOpenCookie // this is one
	SACK          [4]Block
}

// decode reads options until they end or make no sense. A known option of the wrong length is passed over.
func (o *Options) decode(b []byte) {
	for len(b) > 0 {
		switch b[0] {
		case kindEOL:
			return
		case kindNOP:
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return
		}
		o.decodeOne(b[0], b[2:b[1]])
		b = b[b[1]:]
	}
}

func (o *Options) decodeOne(kind byte, v []byte) {
	switch {
	case kind == kindMSS && len(v) == 2:
		o.MSS = binary.BigEndian.Uint16(v)
	case kind == kindWindowScale && len(v) == 1:
		o.WindowScale, o.HasScale = v[0], true
	case kind == kindSACKPermitted && len(v) == 0:
		o.SACKPermitted = true
	case kind == kindTimestamps && len(v) == 8:
		o.TSVal, o.TSEcr, o.HasTimestamps = binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:]), true
	case kind == kindFastOpen:
		o.Cookie = NewFastOpenCookie(v)
		o.HasFastOpen = len(v) == 0 || o.Cookie.n > 0
	case kind == kindSACK && len(v) > 0 && len(v)%8 == 0:
		o.Blocks, o.SACK = 0, [4]Block{}
		for ; len(v) > 0 && int(o.Blocks) < len(o.SACK); v = v[8:] {
			o.SACK[o.Blocks] = Block{Seq(binary.BigEndian.Uint32(v)), Seq(binary.BigEndian.Uint32(v[4:]))}
			o.Blocks++
		}
	}
}

// Len is the number of octets that the options take in a header, padding included.
func (o *Options) Len() int {
	n := 0
	if o.MSS != 0 {
		n += 4
	}
	if o.HasScale {
		n += 4
	}
	switch {
	case o.HasTimestamps:
		n += 12 // SACK-permitted stands in the place of its two NOPs
	case o.SACKPermitted:
		n += 4
	}
	if o.HasFastOpen {
		n += (2 + int(o.Cookie.n) + 3) &^ 3
	}
	if k := o.fits(n); k > 0 {
		n += 4 + 8*k
	}
	return n
}

// fits is how many of the SACK blocks have room behind n octets of other options: 4, or 3 beside timestamps (RFC 2018 §3).
func (o *Options) fits(n int) int {
	return min(int(o.Blocks), len(o.SACK), (MaxHeaderLen-HeaderLen-4-n)/8)
}

// encode writes the options in the order of Linux, which middleboxes are used to, each aligned to a word by NOPs, and
// returns their length.
func (o *Options) encode(b []byte) int {
	n := 0
	if o.MSS != 0 {
		b[0], b[1] = kindMSS, 4
		binary.BigEndian.PutUint16(b[2:], o.MSS)
		n = 4
	}
	if o.HasTimestamps != o.SACKPermitted { // either of them alone; both together fill three words
		b[n], b[n+1] = kindNOP, kindNOP
		n += 2
	}
	if o.SACKPermitted {
		b[n], b[n+1] = kindSACKPermitted, 2
		n += 2
	}
	if o.HasTimestamps {
		b[n], b[n+1] = kindTimestamps, 10
		binary.BigEndian.PutUint32(b[n+2:], o.TSVal)
		binary.BigEndian.PutUint32(b[n+6:], o.TSEcr)
		n += 10
	}
	if o.HasScale {
		b[n], b[n+1], b[n+2], b[n+3] = kindNOP, kindWindowScale, 3, o.WindowScale
		n += 4
	}
	if o.HasFastOpen {
		n += o.encodeFastOpen(b[n:])
	}
	if f := o.fits(n); f > 0 {
		b[n], b[n+1], b[n+2], b[n+3] = kindNOP, kindNOP, kindSACK, byte(2+8*f)
		n += 4
		for _, k := range o.SACK[:f] {
			binary.BigEndian.PutUint32(b[n:], uint32(k.Left))
			binary.BigEndian.PutUint32(b[n+4:], uint32(k.Right))
			n += 8
		}
	}
	return n
}

// encodeFastOpen writes the Fast Open option, with NOPs up to the next word.
func (o *Options) encodeFastOpen(b []byte) int {
	n := 2 + copy(b[2:], o.Cookie.b[:o.Cookie.n])
	b[0], b[1] = kindFastOpen, byte(n)
	for ; n%4 != 0; n++ {
		b[n] = kindNOP
	}
	return n
}
