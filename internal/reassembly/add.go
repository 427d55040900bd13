package reassembly

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// key is what all fragments of a packet have in common. RFC 791 §3.2: "source, destination, protocol, and identification
// fields"; RFC 8200 §4.5 leaves the protocol out.
type key struct {
	src, dst [16]byte
	id, link uint32
	proto    uint8
	four     bool
}

// source is whom a packet counts against: an IPv4 address, or an IPv6 network of 64 bits, all of which may be one host.
func (k *key) source() [16]byte {
	a := k.src
	if !k.four {
		clear(a[8:])
	}
	return a
}

// fragment is one that arrived.
type fragment struct {
	key
	packet []byte
	head   int // octets of packet that go in front of what is put together
	data   int // where in packet the fragment's part of that begins
	offset int // where it belongs
	more   bool
	ecn    uint8
	named  int   // IPv6: where in packet the octet is that named the Fragment header
	inside uint8 // IPv6: what belongs there instead
	iface  uint32
}

// datagram is a packet of which not all fragments have come.
type datagram struct {
	key
	links    [numOrders]links
	source   *source
	pieces   []piece // in order; none overlaps another
	first    []byte  // the packet that the fragment at 0 came in
	head     int     // of first: this and the next two as in fragment
	named    int
	inside   uint8
	ecn      uint8 // a bit for each of the four codepoints that have come
	dead     bool  // abandoned
	have     int   // octets in pieces
	total    int   // octets of the whole; -1: the last fragment has not come
	octets   int   // what it costs
	iface    uint32
	deadline time.Duration
}

// piece is what a fragment brought.
type piece struct {
	offset int
	data   []byte
}

func (p *piece) end() int { return p.offset + len(p.data) }

// source is a host that has sent fragments of packets that are not whole.
type source struct {
	octets int
	used   queue // its packets, the least recently used first
}

// add is RFC 815's, with the order of fragments kept in a slice in place of a list of holes.
func (t *Table) add(now time.Duration, f *fragment, buf []byte) Result {
	d := t.packets[f.key]
	size := len(f.packet) - f.data
	// RFC 791 §3.2 counts in units of 8 octets. A fragment that brings nothing is none that a sender makes.
	if size <= 0 || f.more && size%8 != 0 || f.head-f.fixed()+f.offset+size > maxPacket {
		return t.abandon(d, Malformed)
	}
	if d != nil && d.dead {
		return Result{Verdict: Abandoned}
	}
	if cost := Cost(len(f.packet)); cost > t.perSource {
		return Result{Verdict: Full}
	}
	if d == nil {
		d = t.open(now, f)
	}
	end := f.offset + size
	if d.total >= 0 && (end > d.total || !f.more && end != d.total) || !f.more && len(d.pieces) > 0 && end < d.pieces[len(d.pieces)-1].end() {
		return t.abandon(d, Overlap)
	}
	data := f.packet[f.data:]
	at, same := slices.BinarySearchFunc(d.pieces, f.offset, func(p piece, offset int) int { return p.offset - offset })
	// RFC 8200 §4.5: "an implementation may choose to detect this case and drop exact duplicate fragments while keeping the
	// other fragments belonging to the same packet."
	if same && f.more == (end != d.total) && bytes.Equal(d.pieces[at].data, data) {
		return Result{Verdict: Duplicate}
	}
	// RFC 8200 §4.5: "If any of the fragments being reassembled overlap with any other fragments being reassembled for the
	// same packet, reassembly of that packet must be abandoned"; for IPv4 that is our choice, and Linux's.
	if same || at < len(d.pieces) && d.pieces[at].offset < end || at > 0 && d.pieces[at-1].end() > f.offset {
		return t.abandon(d, Overlap)
	}
	if len(d.pieces) == MaxFragments {
		return t.abandon(d, Full)
	}
	d.insert(at, f)
	if !f.more {
		d.total = end
	}
	if d.have == d.total {
		return t.finish(d, buf)
	}
	t.charge(d, fragmentOverhead+len(f.packet))
	t.touch(d)
	return t.fit(d)
}

// fixed is what maxPacket does not count of a header.
func (k *key) fixed() int {
	if k.four {
		return 0
	}
	return ipv6.HeaderLen
}

// insert keeps a copy of the fragment as piece number at. The first fragment is kept with its headers, which go in front
// of the whole, and which an error quotes.
func (d *datagram) insert(at int, f *fragment) {
	var data []byte
	if f.offset == 0 {
		d.first = bytes.Clone(f.packet)
		d.head, d.named, d.inside = f.head, f.named, f.inside
		data = d.first[f.data:]
	} else {
		data = bytes.Clone(f.packet[f.data:])
	}
	d.pieces = slices.Insert(d.pieces, at, piece{f.offset, data})
	d.have += len(data)
	d.ecn |= 1 << f.ecn
}

// The codepoints of RFC 3168 §5 that matter here.
const (
	notECT = 0
	ce     = 3
)

// finish writes the packet to buf.
func (t *Table) finish(d *datagram, buf []byte) Result {
	if d.head-d.fixed()+d.total > maxPacket { // the first fragment's headers may be longer than the last's
		return t.spoil(d, Malformed)
	}
	// RFC 3168 §5.3: "Reassembly of a fragmented packet MUST NOT lose indications of congestion", and may not set CE where a
	// fragment came as Not-ECT: then the packet is dropped.
	if d.ecn&(1<<ce) != 0 && d.ecn&(1<<notECT) != 0 {
		return t.spoil(d, Congested)
	}
	b := append(buf[:0], d.first[:d.head]...)
	for k := range d.pieces {
		b = append(b, d.pieces[k].data...)
	}
	if d.four {
		d.header4(b)
	} else {
		d.header6(b)
	}
	t.remove(d)
	return Result{Verdict: Whole, Packet: b}
}

// Fields of the headers: RFC 791 §3.1, RFC 8200 §3.
const (
	tos4, length4, fragment4, checksum4 = 1, 2, 6, 10
	class6, length6, nextHeader         = 1, 4, 6
)

// header4 makes the first fragment's header that of the whole (RFC 791 §3.2).
func (d *datagram) header4(b []byte) {
	binary.BigEndian.PutUint16(b[length4:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[fragment4:], 0)
	if d.ecn&(1<<ce) != 0 {
		b[tos4] |= ce
	}
	binary.BigEndian.PutUint16(b[checksum4:], 0)
	binary.BigEndian.PutUint16(b[checksum4:], ^checksum.Sum(b[:d.head], 0))
}

// header6 is the same for IPv6 (RFC 8200 §4.5).
func (d *datagram) header6(b []byte) {
	binary.BigEndian.PutUint16(b[length6:], uint16(len(b)-ipv6.HeaderLen))
	b[d.named] = d.inside
	if d.ecn&(1<<ce) != 0 {
		b[class6] |= ce << 4
	}
}
