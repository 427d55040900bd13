package main

import (
	"encoding/binary"
	"slices"
)

// flows keeps, for each TCP flow of a lane, which octets were delivered.
type flows map[flowKey]*flow

type flowKey struct {
	src, dst [4]byte
	ports    uint32
}

// flow is what was delivered of a flow: everything before next, and the spans beyond, in order and apart. Positions count
// octets from the first sequence number seen.
type flow struct {
	base  uint32 // the sequence number of position 0
	next  int64
	spans []span
	text  uint64 // octets delivered for the first time
}

type span struct{ from, to int64 }

const (
	ipLen    = 20 // RFC 791 §3.1, without options
	tcpLen   = 20 // RFC 9293 §3.1, without options
	protoTCP = 6
	syn      = 2
)

// delivered takes an IPv4 packet into account, and says how many of its octets of text the flow had already.
func (f flows) delivered(b []byte) (again int) {
	if len(b) < ipLen || b[0]>>4 != 4 || b[9] != protoTCP {
		return 0
	}
	head := int(b[0]&15) * 4
	end := min(int(binary.BigEndian.Uint16(b[2:])), len(b))
	if head < ipLen || end < head+tcpLen {
		return 0
	}
	t := b[head:end]
	offset := int(t[12]>>4) * 4
	if offset < tcpLen || offset > len(t) {
		return 0
	}
	seq := binary.BigEndian.Uint32(t[4:])
	k := flowKey{[4]byte(b[12:16]), [4]byte(b[16:20]), binary.BigEndian.Uint32(t)}
	if t[13]&syn != 0 {
		if f[k] == nil {
			f[k] = &flow{base: seq + 1}
		}
		return 0
	}
	n := len(t) - offset
	if n == 0 {
		return 0
	}
	w := f[k]
	if w == nil {
		w = &flow{base: seq}
		f[k] = w
	}
	from := w.next + int64(int32(seq-w.base-uint32(w.next)))
	return w.add(span{from, from + int64(n)})
}

// add enters a span, and says how much of it was there.
func (f *flow) add(s span) (again int) {
	n := s.to - s.from
	fresh := n
	if s.from < f.next {
		fresh -= min(s.to, f.next) - s.from
		s.from = f.next
	}
	if s.from < s.to {
		i := 0
		for i < len(f.spans) && f.spans[i].to < s.from {
			i++
		}
		j := i
		for j < len(f.spans) && f.spans[j].from <= s.to {
			fresh -= max(min(f.spans[j].to, s.to)-max(f.spans[j].from, s.from), 0)
			j++
		}
		if i < j {
			s.from, s.to = min(s.from, f.spans[i].from), max(s.to, f.spans[j-1].to)
		}
		f.spans = slices.Replace(f.spans, i, j, s)
		if f.spans[0].from <= f.next {
			f.next = f.spans[0].to
			f.spans = slices.Delete(f.spans, 0, 1)
		}
	}
	f.text += uint64(fresh)
	return int(n - fresh)
}
