package firewall

import (
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/tcp"
)

// segment is what tracking needs of a TCP header.
type segment struct {
	seq, ack, window uint32 // window as on the wire
	text             uint32 // octets of text
	flags            tcp.Flags
	header           uint8 // length of the header
	scale            uint8 // the option of a SYN, or noScale
}

const noScale = 0xff // a SYN without the window scale option

// ctl is the bits that tell what a segment is for.
func (s *segment) ctl() tcp.Flags { return s.flags & (tcp.SYN | tcp.ACK | tcp.FIN | tcp.RST) }

// end is the sequence number behind the segment.
func (s *segment) end() uint32 {
	n := s.seq + s.text
	if s.flags&tcp.SYN != 0 {
		n++
	}
	if s.flags&tcp.FIN != 0 {
		n++
	}
	return n
}

// Progress is how far a connection has come. Of protocols other than TCP it is Begun, Answered or Steady.
type Progress uint8

// The stages of a connection.
const (
	Begun     Progress = iota // the first packet was seen: SYN
	Answered                  // and an answer: SYN from both sides
	Steady                    // and what follows an answer: TCP is established, one side may have sent FIN
	Closing                   // FIN from both sides
	Reset                     // RST in the window
	numStages = iota
)

var progressNames = [numStages]string{"begun", "answered", "steady", "closing", "reset"}

// String is the stage in a word.
func (p Progress) String() string {
	if int(p) < len(progressNames) {
		return progressNames[p]
	}
	return "unknown"
}

// side is what is known of one side of a TCP connection.
type side struct {
	end    uint32 // behind the highest octet that it has sent
	limit  uint32 // behind the highest octet that the other has had it send, by its window
	scale  uint8  // of the windows that it announces
	acked  uint32 // how far the other has acknowledged it
	begun  bool   // it has sent something: end holds
	bound  bool   // the other has announced a window: limit and acked hold
	fin    bool
	scales bool // its SYN had the window scale option
}

// What track says of a segment.
const (
	valid  = iota // the connection is as it should be
	bogus         // it cannot be part of the connection
	reopen        // the connection is over, and this SYN begins another between the same two
)

// follows reports whether a is at or behind b, in sequence numbers.
func follows(a, b uint32) bool { return int32(a-b) >= 0 }

// track takes the segment s that side d sent into the connection's state. It is after Guido van Rooij's "Real stateful
// TCP packet filtering in IP Filter" (2001), and lighter: a segment must not begin beyond the window nor acknowledge
// what was never sent; one that is merely old passes and changes nothing.
func (c *conn) track(d int, s *segment) int {
	me, you := &c.sides[d], &c.sides[1-d]
	if s.ctl() == tcp.SYN && c.reopens(d, s) {
		return reopen
	}
	if s.ctl() == tcp.SYN && (c.progress == Answered || c.progress == Steady) {
		return valid // of one who lost his memory; the answer of the other side will show (RFC 5961 §4.2)
	}
	if me.bound && !follows(me.limit, s.seq) {
		return bogus
	}
	if s.flags&tcp.ACK != 0 && you.begun && !follows(you.end, s.ack) {
		return bogus
	}
	if s.flags&tcp.RST != 0 {
		return c.reset(me, you, s)
	}
	old := me.begun && !follows(s.end(), me.end) && me.end-s.end() > 1 // a keep-alive is one octet old
	c.widen(me, you, s)
	if !old {
		c.advance(d, s)
	}
	return valid
}

// reopens reports whether the SYN s begins anew: the connection is over, or never got beyond another SYN of this side.
func (c *conn) reopens(d int, s *segment) bool {
	switch c.progress {
	case Closing, Reset:
		return true
	case Begun:
		return d == 0 && c.sides[0].begun && s.end() != c.sides[0].end
	}
	return false
}

// reset is for an RST. One that is not in the window changes nothing, since anybody may send it (RFC 5961 §3.2); whether
// the receiver believes it is its own affair.
func (c *conn) reset(me, you *side, s *segment) int {
	in := !me.begun && s.flags&tcp.ACK != 0 && s.ack == you.end // refuses a SYN
	if me.begun {
		in = follows(s.seq, me.end) || me.bound && follows(s.seq, me.acked)
	}
	if in {
		c.progress = Reset
	}
	return valid
}

// widen notes what s says of windows.
func (c *conn) widen(me, you *side, s *segment) {
	if s.flags&tcp.SYN != 0 {
		me.scales = s.scale != noScale
		if me.scales {
			me.scale = min(s.scale, maxScale)
		}
	}
	if end := s.end(); !me.begun || follows(end, me.end) {
		me.end, me.begun = end, true
	}
	if s.flags&tcp.ACK == 0 {
		return
	}
	window := s.window
	// RFC 7323 §2.2: "The window field in a segment where the SYN bit is set … MUST NOT be scaled", and §2.3: both sides
	// have to have sent the option.
	if s.flags&tcp.SYN == 0 && me.scales && you.scales {
		window <<= me.scale
	}
	if !you.bound || follows(s.ack, you.acked) {
		you.acked = s.ack
	}
	limit := s.ack + window // and an octet more may begin there, to probe a closed window (RFC 9293 §3.8.6.1)
	if !you.bound || follows(limit, you.limit) {
		you.limit, you.bound = limit, true
	}
}

// advance moves the connection on.
func (c *conn) advance(d int, s *segment) {
	if s.flags&tcp.FIN != 0 {
		c.sides[d].fin = true
	}
	switch {
	case c.progress == Begun && d == 1 && s.flags&tcp.SYN != 0: // SYN,ACK, or a SYN at the same time
		c.progress = Answered
	case c.progress == Answered && d == 0 && s.flags&tcp.ACK != 0:
		c.progress = Steady
	case c.progress == Reset && c.steady:
		// RFC 7857 §2.2 has a reset leave the mapping for a while, and what comes after it shows that it was not believed.
		c.progress = Steady
	}
	c.steady = c.steady || c.progress == Steady
	if c.progress == Steady && c.sides[0].fin && c.sides[1].fin {
		c.progress = Closing
	}
}

// follow is track for a packet of any protocol.
func (c *conn) follow(d int, p *Packet) int {
	if p.key.proto == ipv4.ProtoTCP {
		if p.seg.flags&tcp.SYN != 0 {
			p.readScale()
		}
		return c.track(d, &p.seg)
	}
	// A single answer may be to a forged question; only who asks again has seen it.
	switch {
	case c.progress == Begun && d == 1:
		c.progress = Answered
	case c.progress == Answered && d == 0:
		c.progress = Steady
	}
	return valid
}

func (p *Packet) readScale() {
	if at := p.option(optionScale, sizeScale); at != 0 {
		p.seg.scale = p.Data[at]
	}
}

// begins reports whether the packet may begin a connection.
func (p *Packet) begins() bool {
	switch p.key.proto {
	case ipv4.ProtoTCP:
		return p.seg.ctl() == tcp.SYN
	case protoICMP4, protoICMP6:
		return role(p.v6, p.kind) == question
	}
	return true
}
