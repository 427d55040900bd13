package stack

import (
	"net/netip"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// TraceKind says what happened.
type TraceKind uint8

// The kinds of event.
const (
	SegmentIn    TraceKind = iota + 1 // a TCP segment arrived; Drop says whether, and why, it was refused
	SegmentOut                        // a TCP segment leaves; Segment.Cause says why it was made
	TimerExpired                      // a timer of a connection has changed something
	UserCall                          // a call such as Dial or Close has changed a connection's state
	AddressLost                       // an address turned out to be another station's, and was withdrawn
)

// String is the kind in words.
func (k TraceKind) String() string {
	return [...]string{"none", "in", "out", "timer", "call", "address lost"}[min(int(k), 5)]
}

// TraceEvent is one thing that happened. It and what it points to belong to the stack: copy what is to be kept.
type TraceEvent struct {
	At            time.Duration // since the stack was made
	Kind          TraceKind
	Interface     string         // AddressLost: where
	Local, Remote netip.AddrPort // of the connection
	Segment       *tcp.Segment   // SegmentIn, SegmentOut; its Text is borrowed
	Before, After tcp.State      // of the connection; LISTEN while a listener has it
	Drop          tcp.Drop       // SegmentIn
	Packet        uint64         // PacketEvent.Number of what carries the segment, where TracePacket is set; 0: not known
}

// trace tells of something that happened to a connection, whose lock is held.
func (c *TCPConn) trace(k TraceKind, number uint64, seg *tcp.Segment, before tcp.State, d tcp.Drop) {
	s := c.stack
	if k == SegmentOut {
		s.stats.segmentsOut.Add(1)
		switch seg.Cause {
		case tcp.CauseRTO, tcp.CauseFast, tcp.CauseTLP, tcp.CauseMTU:
			s.stats.retransmits.Add(1)
		case tcp.CauseReset:
			s.stats.resetsOut.Add(1)
		}
	}
	if s.config.Trace != nil {
		s.config.Trace(&TraceEvent{At: s.now(), Kind: k, Local: c.local(), Remote: c.remote(), Segment: seg,
			Before: before, After: c.tcb.State(), Drop: d, Packet: number})
	}
}

// tracePacket tells of a segment that belongs to no connection.
func (s *Stack) tracePacket(in *inbox, d tcp.Drop) {
	if s.config.Trace != nil {
		s.config.Trace(&TraceEvent{At: s.now(), Kind: SegmentIn, Local: s.zoned(in.flow.Local, in.flow.LocalPort, in.flow.Zone),
			Remote: s.zoned(in.flow.Remote, in.flow.RemotePort, in.flow.Zone), Segment: &in.seg, Drop: d, Packet: in.number})
	}
}

// traceListener tells of a segment that a listener has dealt with, and of its answer.
func (s *Stack) traceListener(in *inbox, reply *tcp.Segment, d tcp.Drop) {
	if s.config.Trace == nil {
		return
	}
	ev := TraceEvent{At: s.now(), Kind: SegmentIn, Local: s.zoned(in.flow.Local, in.flow.LocalPort, in.flow.Zone),
		Remote: s.zoned(in.flow.Remote, in.flow.RemotePort, in.flow.Zone), Segment: &in.seg, Before: tcp.Listen, After: tcp.Listen, Drop: d, Packet: in.number}
	if reply.Flags.Has(tcp.SYN | tcp.ACK) {
		ev.After = tcp.SynReceived
	}
	s.config.Trace(&ev)
	if reply.Flags != 0 {
		ev.Kind, ev.Segment, ev.Before, ev.Drop = SegmentOut, reply, ev.After, tcp.DropNone
		s.config.Trace(&ev)
	}
}
