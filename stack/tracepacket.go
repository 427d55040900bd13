package stack

import (
	"net/netip"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/link"
)

// PacketStep is one step on the way of a packet through a stack.
type PacketStep uint8

// The steps. A packet that is for the stack has Arrived, Judged and then its protocol's; one of the stack's own, or passed
// on, Routed to Out. Steps that do not apply are left out: there is no firewall, or the link has no stations.
const (
	PacketIn       PacketStep = iota + 1 // it came in by an interface
	PacketArrived                        // the firewall has seen it, and perhaps changed its destination, before its way is looked up
	PacketRouted                         // its way was looked up
	PacketJudged                         // the firewall has judged it by the rules, and perhaps changed its source
	PacketWaits                          // nobody knows yet at which station the next hop is: it waits for the answer
	PacketResolved                       // the next hop is at a station
	PacketOut                            // the device of an interface has taken it
	PacketDropped                        // it goes no further
)

// String is the step in a word or two.
func (k PacketStep) String() string {
	return [...]string{"none", "in", "arrived", "routed", "judged", "waits", "resolved", "out", "dropped"}[min(int(k), 8)]
}

// PacketEvent is one step of one packet. It and what it points to belong to the stack: copy what is to be kept.
type PacketEvent struct {
	At        time.Duration // since the stack was made
	Step      PacketStep
	Number    uint64 // of the packet, the same in all its steps until it is sent, or given up; TraceEvent.Packet is that too
	Interface string // PacketIn, PacketDropped: that it came in by; the others: that it goes out by
	// Frame is the packet as it came or leaves, with the Ethernet header that Ethernet says: PacketIn and PacketOut.
	Frame    *link.Packet
	Ethernet bool
	Route    Route         // PacketRouted: the route that was taken
	Next     netip.Addr    // PacketRouted, PacketWaits, PacketResolved: who gets it on the link
	Station  ethernet.Addr // PacketResolved: where that is
	// PacketArrived, PacketJudged: what the firewall says, about which packet, by which rules.
	Verdict firewall.Verdict
	Judged  *firewall.Packet
	Rules   *firewall.Rules
	Reason  string // PacketDropped: the name of a Drop, or of a tcp.Drop
}

// number is a packet's for TracePacket; 0 where nobody listens.
func (s *Stack) number() uint64 {
	if s.config.TracePacket == nil {
		return 0
	}
	return s.numbers.Add(1)
}

// traceFrame tells that a packet came in by the interface, or was taken by its device.
func (i *Interface) traceFrame(step PacketStep, number uint64, p *link.Packet) {
	if f := i.stack.config.TracePacket; f != nil {
		f(&PacketEvent{At: i.stack.now(), Step: step, Number: number, Interface: i.name, Frame: p, Ethernet: i.caps.Ethernet})
	}
}

// traceRoute tells of the way of a packet to dst.
func (s *Stack) traceRoute(number uint64, h *hop, dst netip.Addr) {
	if s.config.TracePacket != nil {
		s.tellRoute(number, h, dst)
	}
}

// tellRoute is apart, as it takes a lot of a stack.
func (s *Stack) tellRoute(number uint64, h *hop, dst netip.Addr) {
	e := PacketEvent{At: s.now(), Step: PacketRouted, Number: number, Interface: h.ifc.name, Next: dst}
	if h.via.IsValid() {
		e.Next = h.via
	}
	e.Route = Route{Via: h.via, Interface: h.ifc, Metric: h.metric, Type: h.kind, Source: h.src, Static: h.static}
	for r := range s.Routes() {
		if r.Interface == h.ifc && r.Via == h.via && r.Dst.Contains(dst) && (!e.Route.Dst.IsValid() || r.Dst.Bits() > e.Route.Dst.Bits()) {
			e.Route = r
		}
	}
	s.config.TracePacket(&e)
}

// traceNeighbor tells what is known of the station that a packet goes to.
func (i *Interface) traceNeighbor(p *packet, hw ethernet.Addr, o outcome) {
	f := i.stack.config.TracePacket
	if f == nil || o == failed {
		return
	}
	e := PacketEvent{At: i.stack.now(), Step: PacketResolved, Number: p.number, Interface: i.name, Next: p.next, Station: hw}
	if o == pending {
		e.Step, e.Station = PacketWaits, ethernet.Addr{}
	}
	f(&e)
}

// traceVerdict tells what the firewall, which is locked, says about a packet.
func (w *wall) traceVerdict(s *Stack, step PacketStep, number uint64, p *firewall.Packet, v firewall.Verdict) {
	if f := s.config.TracePacket; f != nil {
		e := PacketEvent{At: s.now(), Step: step, Number: number, Interface: p.Out, Verdict: v, Judged: p, Rules: w.rules.Rules()}
		if p.Out == "" {
			e.Interface = p.In
		}
		f(&e)
	}
}

// traceDrop tells that the packet at hand goes no further.
func (in *inbox) traceDrop(reason string) {
	if f := in.ifc.stack.config.TracePacket; f != nil {
		f(&PacketEvent{At: in.ifc.stack.now(), Step: PacketDropped, Number: in.number, Interface: in.ifc.name, Reason: reason})
	}
}
