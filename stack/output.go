package stack

import (
	"errors"
	"math"
	"net/netip"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// headroom is what stands at most in front of a transport header: Ethernet and IPv6, and two octets so that the
// transport header is aligned when the Ethernet header is not there.
const headroom = ethernet.HeaderLen + ipv6.HeaderLen + 2

// packet is scratch for one packet on its way out. Transport headers are written at head[headroom:], the rest in front.
type packet struct {
	out  [1]link.Packet
	seg  tcp.Segment
	one  [1][]byte // the text of what is no TCP segment
	head [headroom + tcp.MaxHeaderLen]byte
	ifc  *Interface
	next netip.Addr // whom to hand it to on the link
	meta meta       // build's: a stack of 2 KB is all that most goroutines have

	divided bool   // its sender has it wait for the neighbour in pieces
	number  uint64 // for TracePacket
	q       int
}

// meta is what the IP header of a packet says.
type meta struct {
	src, dst  netip.Addr
	proto     uint8
	tos, hops uint8
	label     uint32 // IPv6 flow label
	cut       cut
}

func (s *Stack) newPacket() *packet {
	p := s.packets.Get().(*packet)
	p.number = s.number()
	return p
}

func (s *Stack) free(p *packet) {
	p.out[0], p.one[0], p.ifc = link.Packet{}, nil, nil
	clear(p.seg.Text)
	s.packets.Put(p)
}

// output sends what a connection has to send. c.mu is held on entry and return, and released around each write: c.sending
// makes this goroutine the connection's only writer meanwhile, and who comes by leaves again.
//
// The order of RFC 9293's text stays the wire's order, since only the writer calls Next. A segment that cannot leave,
// because the next hop is being asked for or the device is full, is parked with the connection, and with it all that
// follows: the connection itself is the queue.
func (c *TCPConn) output(now time.Duration) { c.outputSome(now, math.MaxInt) }

// outputSome is output of at most so many segments, and returns how many left: where it is all, there may be more.
func (c *TCPConn) outputSome(now time.Duration, segments int) (n int) {
	if c.sending {
		c.again = true
		return 0
	}
	c.sending = true
	if uint16(c.stack.paths.generation.Load()) != c.paths {
		c.refit(now)
	}
	for {
		c.again = false
		for n < segments && c.sendOne(c.clock(now)) {
			n++
		}
		if n == segments || !c.again {
			break
		}
	}
	c.sending = false
	c.settle(c.clock(now))
	return n
}

// sendOne sends the parked segment, or else the next, and reports whether it left.
func (c *TCPConn) sendOne(now time.Duration) bool {
	s, p := c.stack, c.parked
	if p == nil {
		p = s.newPacket()
		if !c.tcb.Next(now, &p.seg) {
			s.free(p)
			return false
		}
		if c.mute {
			s.free(p)
			return true
		}
		c.trace(SegmentOut, p.number, &p.seg, c.tcb.State(), 0)
		if !c.build(p) {
			s.free(p)
			if why := c.noWay(); why != tcp.None {
				c.unreachable(now, why)
			}
			return true
		}
		if !s.leaves(p) { // as good as lost on the way
			s.free(p)
			return true
		}
	} else if c.mute {
		c.parked = nil
		s.free(p)
		return true
	}
	c.parked = p
	switch p.ifc.address(now, p, c) {
	case pending:
		return false
	case failed:
		c.parked = nil
		s.free(p)
		c.unreachable(now, tcp.HostUnreachable)
		return true
	}
	if !c.served && p.ifc.full.waiting.Load() > 0 {
		return c.waitForRoom(p)
	}
	c.mu.Unlock()
	n, err := p.ifc.queues[p.q].Write(p.out[:])
	c.mu.Lock()
	if n == 0 && errors.Is(err, link.ErrFull) {
		return c.waitForRoom(p)
	}
	p.ifc.written(p, n, err)
	c.parked = nil
	s.free(p)
	return true
}

// build writes the headers of a segment, and finds its way; false: there is none.
func (c *TCPConn) build(p *packet) bool {
	s := c.stack
	m := &p.meta
	m.src, m.dst, m.proto, m.hops, m.tos, m.label, m.cut = c.localAddr(), c.remoteAddr(), ipv4.ProtoTCP, c.hops, c.tos|p.seg.ECN, c.label, cut{}
	h, ok := s.view.Load().route(m.src, m.dst, c.flow.Zone)
	if !ok {
		s.stats.drop(NoRoute)
		return false
	}
	p.toward(h, m.dst)
	p.q = min(int(c.queue), len(p.ifc.queues)-1)
	if c.narrow {
		m.cut = s.uncut(m)
	}
	n := p.seg.Encode(p.head[headroom:], tcp.Ports{Src: c.flow.LocalPort, Dst: c.flow.RemotePort})
	p.wrap(m, n, p.seg.Text, 16, p.seg.Size)
	if p.seg.Cause > tcp.CauseAck { // data and acknowledgements explain themselves
		p.out[0].Comment = p.seg.Cause.String()
	}
	return true
}

// toward notes the way that was found.
func (p *packet) toward(h *hop, dst netip.Addr) {
	p.ifc, p.next = h.ifc, dst
	if h.via.IsValid() {
		p.next = h.via
	}
	p.q = 0
	h.ifc.stack.traceRoute(p.number, h, dst)
	if h.ifc.loopback {
		h.ifc.wake()
	}
}

// wrap puts the IP header, and room for the Ethernet header, in front of the transport header of n octets, and completes
// the checksum field sum octets into it; -1: there is none to complete. size is the text of one packet of a
// super-segment, else 0.
func (p *packet) wrap(m *meta, n int, text [][]byte, sum int, size uint16) {
	total := n
	for _, t := range text {
		total += len(t)
	}
	hops, start := m.hops, ipv4.MinHeaderLen
	if hops == 0 {
		hops = p.ifc.hopLimit(m.dst)
	}
	if m.src.Is4() {
		p.header4(m, hops, total)
	} else {
		start = ipv6.HeaderLen
		p.header6(m, hops, total)
	}
	at := headroom - start
	if p.ifc.caps.Ethernet {
		at -= ethernet.HeaderLen
		start += ethernet.HeaderLen
	}
	out := &p.out[0]
	*out = link.Packet{}
	out.Head, out.Text = p.head[at:headroom+n], text
	if sum >= 0 {
		p.sum(m, n, total, start, sum, size)
	}
}

// header4 writes an IPv4 header in front of total octets.
func (p *packet) header4(m *meta, ttl uint8, total int) {
	h := ipv4.Header{TOS: m.tos, Length: ipv4.MinHeaderLen + total, ID: uint16(m.cut.id), DF: !m.cut.is, MF: m.cut.more,
		Offset: m.cut.offset, TTL: ttl, Protocol: m.proto, Src: m.src, Dst: m.dst}
	h.Encode(p.head[headroom-ipv4.MinHeaderLen:])
}

func (p *packet) header6(m *meta, hops uint8, total int) {
	h := ipv6.Header{TrafficClass: m.tos, FlowLabel: m.label, PayloadLength: total, NextHeader: m.proto, HopLimit: hops, Src: m.src, Dst: m.dst}
	h.Encode(p.head[headroom-ipv6.HeaderLen:])
}

// sum writes the transport checksum, or leaves it to the device.
func (p *packet) sum(m *meta, n, total, start, at int, size uint16) {
	s := checksum.Pseudo(m.src, m.dst, m.proto, total)
	o := &p.out[0].Offload
	if p.ifc.caps.Checksum {
		o.Partial, o.Start, o.Offset = true, uint16(start), uint16(at)
		if size > 0 && total-n > int(size) {
			o.GSO, o.Size, o.HeaderLen = link.TCP4, size, uint16(start+n)
			o.ECN = p.seg.Flags.Has(tcp.CWR)
			if m.src.Is6() {
				o.GSO = link.TCP6
			}
		}
	} else {
		s = ^checksum.Combine(checksum.Sum(p.head[headroom:headroom+n], s), checksum.Vec(p.out[0].Text, 0))
		if s == 0 && m.proto == ipv4.ProtoUDP {
			s = 0xffff // RFC 768: "If the computed checksum is zero, it is transmitted as all ones"
		}
	}
	p.head[headroom+at], p.head[headroom+at+1] = byte(s>>8), byte(s)
}

// ipLen is the length of the IP packet.
func (p *packet) ipLen() int {
	n := p.out[0].Len()
	if p.ifc.caps.Ethernet {
		n -= ethernet.HeaderLen
	}
	return n
}

// outcome is what became of a packet that asked for its way on the link.
type outcome uint8

const (
	ready   outcome = iota // it can be written
	pending                // it waits for an answer of the neighbour
	failed                 // nobody answers
)

// address writes the Ethernet header of a packet that is ready but for it. Where the neighbour is not known yet, c is
// listed with those that go on when it is; a nil c leaves a copy of the packet instead.
func (i *Interface) address(now time.Duration, p *packet, c *TCPConn) outcome {
	if !i.caps.Ethernet {
		return ready
	}
	h := ethernet.Header{Src: i.mac, Type: ethernet.TypeIPv4}
	if p.next.Is6() {
		h.Type = ethernet.TypeIPv6
	}
	switch {
	case p.next.IsMulticast():
		h.Dst = ethernet.Multicast(p.next)
	case i.broadcast(p.next):
		h.Dst = ethernet.Broadcast
	default:
		hw, o := i.neigh.resolve(now, p, c)
		i.traceNeighbor(p, hw, o)
		if o != ready {
			return o
		}
		h.Dst = hw
	}
	h.Encode(p.out[0].Head)
	return ready
}

// written counts what became of a packet that the device was given.
func (i *Interface) written(p *packet, n int, err error) {
	if n > 0 {
		i.stack.stats.packetsOut.Add(1)
		i.stack.stats.bytesOut.Add(uint64(p.out[0].Len()))
		i.traceFrame(PacketOut, p.number, &p.out[0])
	} else if err != nil {
		i.stack.stats.drop(DeviceError)
	}
}

// send sends a packet that is built, and no connection's: it goes now, or waits in copy for its neighbour or for room, or is
// lost and counted. The packet is free afterwards.
func (i *Interface) send(now time.Duration, p *packet) outcome {
	defer i.stack.free(p)
	o := i.address(now, p, nil)
	if o != ready {
		return o
	}
	n, err := i.queues[p.q].Write(p.out[:])
	if n == 0 && errors.Is(err, link.ErrFull) {
		i.keep(&p.out[0])
		return ready
	}
	i.written(p, n, err)
	return ready
}

// reply sends a segment that belongs to no connection: a reset, a SYN-ACK of a listener, an answer out of TIME-WAIT.
func (s *Stack) reply(now time.Duration, f *tcp.Flow, seg *tcp.Segment) {
	m := meta{src: fromFlow(f.Local), dst: fromFlow(f.Remote), proto: ipv4.ProtoTCP, tos: seg.ECN}
	h, ok := s.view.Load().route(m.src, m.dst, f.Zone)
	if !ok {
		s.stats.drop(NoRoute)
		return
	}
	p := s.newPacket()
	p.toward(h, m.dst)
	n := seg.Encode(p.head[headroom:], tcp.Ports{Src: f.LocalPort, Dst: f.RemotePort})
	p.wrap(&m, n, nil, 16, 0)
	s.stats.segmentsOut.Add(1)
	if seg.Flags.Has(tcp.RST) {
		s.stats.resetsOut.Add(1)
	}
	if !s.leaves(p) {
		s.free(p)
		return
	}
	h.ifc.send(now, p)
}
