package stack

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
)

// relay sends packets on from the memory that they came in. It belongs to the goroutine that reads a queue, and nothing of
// it outlives the packet.
type relay struct {
	p      packet // as it leaves: out, ifc and next
	frame  [ethernet.HeaderLen + relayHead]byte
	cutter link.Segmenter
	pieces [batch]link.Packet // as many as link.Segmenter makes at once
}

// relayHead is what is copied of a packet in whose memory there is no room for an Ethernet header: with it all its headers.
// link.Segmenter takes no more.
const relayHead = 256 - ethernet.HeaderLen

// front is where the IP header of the packet at hand begins in the memory that it came in, and what the device said of it,
// counted from there.
func (in *inbox) front() (at int, o link.Offload) {
	if in.m.joined { // it stands elsewhere, and is whole
		return 0, o
	}
	at = cap(in.packet.Head) - cap(in.m.packet)
	return at, moved(in.packet.Offload, -at)
}

// moved is o for a packet that begins n octets further to the front.
func moved(o link.Offload, n int) link.Offload {
	if o.Partial {
		o.Start = uint16(int(o.Start) + n)
	}
	if o.HeaderLen > 0 {
		o.HeaderLen = uint16(max(int(o.HeaderLen)+n, 0))
	}
	return o
}

// fit says in which form a device takes the packet at hand.
func (r *relay) fit(in *inbox, far link.Caps) link.Fit {
	far.Ethernet = false
	_, o := in.front()
	p := link.Packet{Head: in.m.packet, Offload: o}
	return far.Fit(&p)
}

// send sends the packet at hand to where h leads, whose device takes it in the form that fit says. The outcome is failed
// where nobody answers there.
func (r *relay) send(now time.Duration, in *inbox, h *hop, far *link.Caps, fit link.Fit) outcome {
	r.p.ifc, r.p.next, r.p.number = h.ifc, in.m.dst, in.number
	if h.via.IsValid() {
		r.p.next = h.via
	}
	r.p.q = min(int(in.queue), len(h.ifc.queues)-1)
	r.place(in)
	r.p.divided = fit == link.FitNot || r.p.out[0].Offload.GSO != link.None
	o := h.ifc.address(now, &r.p, nil)
	switch {
	case o == failed || o == pending && !r.p.divided:
		return o
	case o == ready && fit == link.FitWhole:
		r.write(r.p.out[:])
	default:
		r.cut(now, in, far, fit, o)
	}
	return ready
}

// place puts the packet at hand into r.p.out[0], behind an Ethernet header where the device wants one: in the memory that
// it came in, or, where that has no room in front, with its headers in r's own.
func (r *relay) place(in *inbox) {
	room := 0
	if r.p.ifc.caps.Ethernet {
		room = ethernet.HeaderLen
	}
	at, o := in.front()
	out, b := &r.p.out[0], in.m.packet
	*out = link.Packet{Offload: moved(o, room)}
	switch {
	case room == 0:
		out.Head = b
	case at >= room && !in.m.joined:
		out.Head = in.packet.Head[at-room : at+len(b)]
	default:
		n := copy(r.frame[room:], b)
		out.Head = r.frame[:room+n]
		if n < len(b) {
			r.p.one[0] = b[n:]
			out.Text = r.p.one[:]
		}
	}
}

// write gives packets, whose Ethernet headers are written, to the device. Like every router it drops what finds no room
// there: its senders slow down by that.
func (r *relay) write(out []link.Packet) {
	s, i := r.p.ifc.stack, r.p.ifc
	for len(out) > 0 {
		n, err := i.queues[r.p.q].Write(out)
		for k := range out[:n] {
			s.stats.bytesOut.Add(uint64(out[k].Len()))
			i.traceFrame(PacketOut, r.p.number, &out[k])
		}
		s.stats.packetsOut.Add(uint64(n))
		switch {
		case n == len(out):
			return
		case errors.Is(err, link.ErrFull):
			s.stats.dropN(DeviceFull, len(out)-n)
			return
		}
		s.stats.drop(DeviceError)
		out = out[n+1:]
	}
}

// cut sends the packet in r.p.out[0] in pieces: the segments of a super-segment, the fragments of what is too long. o says
// whether its Ethernet header is written; where not, each piece waits for that.
func (r *relay) cut(now time.Duration, in *inbox, far *link.Caps, fit link.Fit, o outcome) {
	whole := r.p.out[0]
	if fit == link.FitNot {
		far.Checksum = false // it is summed before it is in fragments
	}
	if err := r.cutter.Start(&whole, far); err != nil {
		in.drop(BadHeader)
		return
	}
	for n := r.cutter.Next(r.pieces[:]); n > 0; n = r.cutter.Next(r.pieces[:]) {
		out := r.pieces[:n]
		if o == ready && fit != link.FitNot {
			r.write(out)
			continue
		}
		for k := range out {
			if fit != link.FitNot {
				r.one(now, &out[k], o)
				continue
			}
			for _, f := range r.fragments(in, &out[k], far.MTU) {
				r.one(now, &link.Packet{Head: f}, o)
			}
		}
	}
	clear(r.pieces[:])
	r.p.out[0] = link.Packet{}
}

// one sends one piece, or lets a copy of it wait for the neighbour.
func (r *relay) one(now time.Duration, p *link.Packet, o outcome) {
	r.p.out[0], r.p.divided = *p, false
	if o == ready || r.p.ifc.address(now, &r.p, nil) == ready {
		r.write(r.p.out[:])
	}
}

// fragments cuts a packet that is longer than mtu (RFC 791 §3.2), with the Ethernet header that it has. An IPv6 packet is
// only cut where it came in fragments and was put together here: RFC 8200 §4.5 leaves that to its source.
func (r *relay) fragments(in *inbox, p *link.Packet, mtu int) (all [][]byte) {
	room := 0
	if r.p.ifc.caps.Ethernet {
		room = ethernet.HeaderLen
	}
	b := slices.Concat(append([][]byte{p.Head}, p.Text...)...)
	frame, b := b[:room], b[room:]
	if len(b) <= mtu {
		return [][]byte{p.Head}
	}
	head := b[:int(b[0]&15)*4]
	if b[0]>>4 == 6 {
		head = in.fragmentHead(r.p.ifc.stack, b)
		b = b[len(head)-fragmentLen:]
	} else {
		b = b[len(head):]
	}
	size := (mtu - len(head)) &^ 7
	for at := 0; size > 0 && at < len(b); at += size {
		n := min(size, len(b)-at)
		f := slices.Concat(frame, head, b[at:at+n])
		markFragment(f[room:], len(head), at, at+n < len(b))
		all = append(all, f)
		r.p.ifc.stack.stats.fragmentsOut.Add(1)
	}
	return all
}

// fragmentHead is what each fragment of the IPv6 packet b begins with: its own header, hop-by-hop options, and a Fragment
// header, of which offset and M are still 0.
func (in *inbox) fragmentHead(s *Stack, b []byte) []byte {
	n, next := ipv6.HeaderLen, 6 // where the next header's number stands
	if b[next] == ipv6.ProtoHopByHop {
		next = n
		n += 8 + int(b[n+1])*8
	}
	head := append(slices.Clone(b[:n]), b[next], 0, 0, 0)
	head[next] = ipv6.ProtoFragment
	return binary.BigEndian.AppendUint32(head, s.ids.next(&s.secret, &meta{src: in.m.src, dst: in.m.dst}))
}

// markFragment writes into the headers of the fragment b, n octets, which part of the packet it is: from octet at on, with
// more to follow or not.
func markFragment(b []byte, n, at int, more bool) {
	if b[0]>>4 == 6 {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ipv6.HeaderLen))
		binary.BigEndian.PutUint16(b[n-6:], uint16(at)|flag(more, 1))
		return
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	was := binary.BigEndian.Uint16(b[6:]) // it may be a fragment itself
	binary.BigEndian.PutUint16(b[6:], was&0x2000|(was&0x1fff+uint16(at/8))|flag(more, 0x2000))
	if at > 0 { // RFC 791 §3.1: options without the copied flag are in the first fragment only
		for k := ipv4.MinHeaderLen; k < n && b[k] != 0; {
			size := 1
			if b[k] != optionNOP && k+1 < n {
				size = max(int(b[k+1]), 1)
			}
			if b[k] < optionCopied {
				for end := min(k+size, n); k < end; k++ {
					b[k] = optionNOP
				}
				continue
			}
			k += size
		}
	}
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^checksum.Sum(b[:n], 0))
}

// RFC 791 §3.1: the option of no operation, and the flag that has one copied into all fragments.
const (
	optionNOP    = 1
	optionCopied = 0x80
)

func flag(on bool, value uint16) uint16 {
	if on {
		return value
	}
	return 0
}
