package stack

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
	"github.com/seed87e66d9f/waybill/udp"
)

// batch is how many packets are taken from a queue at once. A TUN gives one at a time, a pipe all it has.
const batch = 64

// inbox is what the goroutine that reads a queue decodes into: nothing of it outlives the packet.
type inbox struct {
	ifc     *Interface
	queue   uint8
	packets [batch]link.Packet
	packet  *link.Packet // the one at hand
	number  uint64       // its, for TracePacket
	touched []*TCPConn   // connections that this batch brought something to

	eth   ethernet.Header
	ip4   ipv4.Header
	ip6   ipv6.Header
	chain ipv6.Chain
	udp   udp.Header
	seg   tcp.Segment
	flow  tcp.Flow
	m     datagram
	whole []byte // where fragments become a packet

	transit *transit // nil: no router, and no firewall
	spare   *transit
}

// datagram is an IP packet that was found to be for us.
type datagram struct {
	ifc      *Interface
	src, dst netip.Addr
	proto    uint8
	tos      uint8
	hops     uint8
	group    bool          // it came by broadcast or multicast, of the link or of IP
	packet   []byte        // from the IP header on, without padding
	text     []byte        // behind the IP header and its extensions
	station  ethernet.Addr // Ethernet: who sent the frame
	size     uint16        // octets of each datagram, where the device has put several of UDP together; else 0
	sound    bool          // the device vouches for the transport checksum
	joined   bool          // it came in fragments
	foreign  bool          // it is for nobody here, and intercepted
}

// drop counts why the packet at hand goes no further, and notes it for a capture.
func (in *inbox) drop(d Drop) {
	in.ifc.stack.stats.drop(d)
	in.packet.Comment = d.String()
	in.traceDrop(in.packet.Comment)
}

func (in *inbox) tcpDrop(d tcp.Drop) {
	in.ifc.stack.stats.tcpDrop(d)
	in.packet.Comment = d.String()
	in.traceDrop(in.packet.Comment)
}

func newInbox(i *Interface, queue int) *inbox { return &inbox{ifc: i, queue: uint8(queue)} }

// input takes one packet from the device: RFC 894 and RFC 2464 frames, or bare IP.
func (i *Interface) input(now time.Duration, in *inbox, p *link.Packet) {
	in.packet, in.number = p, i.stack.number()
	i.traceFrame(PacketIn, in.number, p)
	i.stack.stats.packetsIn.Add(1)
	i.stack.stats.bytesIn.Add(uint64(len(p.Head)))
	b, group := p.Head, false
	if i.caps.Ethernet {
		n, err := in.eth.Decode(b)
		if err != nil {
			in.drop(BadFrame)
			return
		}
		if group = in.eth.Dst.IsMulticast(); !group && in.eth.Dst != i.mac {
			in.drop(OtherStation)
			return
		}
		b = b[n:]
		switch {
		case in.eth.Type == ethernet.TypeARP:
			i.inputARP(now, in, b)
			return
		case in.eth.Tagged && in.eth.VLAN&0xfff != 0:
			in.drop(VLAN)
			return
		case in.eth.Type != ethernet.TypeIPv4 && in.eth.Type != ethernet.TypeIPv6:
			in.drop(UnknownEtherType)
			return
		}
	}
	in.m = datagram{ifc: i, group: group, station: in.eth.Src, sound: p.Offload.Partial || p.Offload.Valid}
	if p.Offload.GSO == link.UDP {
		in.m.size = p.Offload.Size
	}
	switch {
	case len(b) == 0:
		in.drop(BadHeader)
	case b[0]>>4 == 4:
		i.inputIPv4(now, in, b)
	case b[0]>>4 == 6:
		i.inputIPv6(now, in, b)
	default:
		in.drop(BadHeader)
	}
}

// inputIPv4 is RFC 1122 §3.2.1: what is malformed, not for us, or from nobody, is dropped.
func (i *Interface) inputIPv4(now time.Duration, in *inbox, b []byte) {
	s, h, m := i.stack, &in.ip4, &in.m
	n, err := h.Decode(b)
	if err != nil {
		in.drop(BadHeader)
		return
	}
	m.src, m.dst, m.proto, m.tos, m.hops = h.Src, h.Dst, h.Protocol, h.TOS, h.TTL
	m.packet, m.text = b[:h.Length], b[n:h.Length]
	if h.SourceRoute() { // RFC 7126 §4.3: dropped by default; not done: RFC 9293 §3.9.2.1, MUST-51
		in.drop(SourceRoute)
		return
	}
	bcast := h.Dst.IsMulticast() || i.broadcast(h.Dst)
	// RFC 1122 §3.3.6: "a host SHOULD silently discard a datagram that is received via a link-layer broadcast … but does
	// not specify an IP multicast or broadcast destination address."
	if m.group && !bcast {
		in.drop(LinkBroadcast)
		return
	}
	m.group = m.group || bcast
	// RFC 1122 §3.2.1.3 (a): 0.0.0.0 is sent only "as part of an initialization procedure by which the host learns its own IP
	// address", which is over UDP, and by broadcast. RFC 9776 §4.2.14 lets such hosts report groups, and RFC 4541 §2.1.1
	// switches ask for them.
	if !i.validSource(m.src) && !(m.src.IsUnspecified() && (m.dst == broadcast4 && h.Protocol == ipv4.ProtoUDP || h.Protocol == ipv4.ProtoIGMP)) {
		in.drop(BadSource)
		return
	}
	if m.dst.IsMulticast() && !i.joined(m.dst) {
		in.drop(OtherHost)
		return
	}
	v := s.view.Load()
	if !i.arriving(now, in, v) || !bcast && !v.isLocal(i, m.dst) && !i.foreign(now, in, v) {
		return
	}
	if h.IsFragment() && !i.join(now, in) || !in.admits(now) {
		return
	}
	switch h.Protocol {
	case ipv4.ProtoTCP:
		i.inputTCP(now, in)
	case ipv4.ProtoUDP:
		i.inputUDP(now, in)
	case ipv4.ProtoICMP:
		i.inputICMP4(now, in)
	case ipv4.ProtoIGMP:
		i.inputIGMP(in)
	default:
		in.drop(UnknownProtocol)
		i.refuse4(now, m, ipv4.CodeProtocol)
	}
}

// inputIPv6 is RFC 8200 §4: extension headers are walked, then what they carry is handed on.
func (i *Interface) inputIPv6(now time.Duration, in *inbox, b []byte) {
	s, h, m := i.stack, &in.ip6, &in.m
	if err := h.Decode(b); err != nil {
		in.drop(BadHeader)
		return
	}
	m.src, m.dst, m.tos, m.hops = h.Src, h.Dst, h.TrafficClass, h.HopLimit
	m.packet = b[:ipv6.HeaderLen+h.PayloadLength]
	multicast := m.dst.IsMulticast()
	if m.group && !multicast {
		in.drop(LinkBroadcast)
		return
	}
	m.group = m.group || multicast
	if multicast && !i.joined(m.dst) {
		in.drop(OtherHost)
		return
	}
	// RFC 4291 §2.5.2: the unspecified address is the source of those that have none yet; only NDP has a use for it, and
	// for our own, from which another host with the same address defends it (RFC 4862 §5.4.4).
	if !i.validSource(m.src) && !((m.src.IsUnspecified() || i.has(m.src)) && h.NextHeader == ipv6.ProtoICMP) {
		in.drop(BadSource)
		return
	}
	v := s.view.Load()
	if !i.arriving(now, in, v) || !multicast && !v.isLocal(i, m.dst) && !i.foreign(now, in, v) {
		return
	}
	if err := in.chain.Walk(h.NextHeader, m.packet[ipv6.HeaderLen:]); err != nil {
		in.drop(BadExtension)
		i.problem6(now, m, err)
		return
	}
	if in.chain.Fragment && !i.join(now, in) || !in.admits(now) {
		return
	}
	m.proto, m.text = in.chain.Protocol, m.packet[ipv6.HeaderLen+in.chain.Offset:]
	m.joined = m.joined || in.chain.Atomic
	switch m.proto {
	case ipv6.ProtoTCP:
		i.inputTCP(now, in)
	case ipv6.ProtoUDP:
		i.inputUDP(now, in)
	case ipv6.ProtoICMP:
		i.inputICMP6(now, in)
	case ipv6.ProtoNoNext: // RFC 8200 §4.7: nothing follows
	default:
		in.drop(UnknownProtocol)
		i.problem6(now, m, in.chain.Unrecognized())
	}
}

// validSource reports whether a packet may come from a (RFC 1122 §3.2.1.3, RFC 4291 §2): a single host, not of the
// loopback network unless it came that way, and not ourselves.
func (i *Interface) validSource(a netip.Addr) bool {
	if a.IsUnspecified() || a.IsMulticast() || a.Is4In6() || i.broadcast(a) {
		return false
	}
	if i.loopback {
		return true
	}
	if a.IsLoopback() || a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240) {
		return false
	}
	return !i.stack.view.Load().isOurs(i, a)
}

// inputTCP hands a segment to its connection, to the memory of one, to a listener, or back as a reset (RFC 9293 §3.10.7).
func (i *Interface) inputTCP(now time.Duration, in *inbox) {
	s, m := i.stack, &in.m
	s.stats.segmentsIn.Add(1)
	// RFC 9293 §3.9.2.3, MUST-57: "A TCP implementation MUST silently discard an incoming SYN segment that is addressed to
	// a broadcast or multicast address"; nothing else over TCP makes sense there either.
	if m.group {
		in.drop(TCPGroup)
		return
	}
	if !m.sound && checksum.Sum(m.text, checksum.Pseudo(m.src, m.dst, ipv4.ProtoTCP, len(m.text))) != 0xffff {
		in.drop(BadTCPChecksum)
		return
	}
	ports, err := in.seg.Decode(m.text)
	if err != nil {
		in.drop(BadTCPHeader)
		return
	}
	in.seg.ECN = m.tos & 3
	if p := in.packet; p.Buffer != nil && !m.joined && len(in.seg.Text) > 0 { // what came in fragments stands elsewhere
		in.seg.Buffer, in.seg.At = p.Buffer, p.At+cap(p.Head)-cap(in.seg.Text[0])
	}
	in.flow = tcp.Flow{Local: m.dst.As16(), Remote: m.src.As16(), LocalPort: ports.Dst, RemotePort: ports.Src, Zone: in.zone()}
	if s.deliver(now, in) {
		return
	}
	done, floor := s.inputTimeWait(now, in)
	if done || s.inputListener(now, in, floor) {
		return
	}
	in.tcpDrop(tcp.DropClosed)
	s.tracePacket(in, tcp.DropClosed)
	if r, ok := tcp.ResetFor(&in.seg); ok {
		s.reply(now, &in.flow, &r)
	}
}

// deliver hands the segment to its connection, if there is one.
func (s *Stack) deliver(now time.Duration, in *inbox) bool {
	for {
		c := s.lookup(&in.flow)
		if c == nil {
			return false
		}
		c.mu.Lock()
		if c.gone { // it left the table between the look-up and the lock; another may stand there now
			c.mu.Unlock()
			continue
		}
		before := c.tcb.State()
		ev := c.tcb.Arrive(c.clock(now), &in.seg)
		c.queue = in.queue
		c.arrived(in, ev, before)
		c.mu.Unlock()
		return true
	}
}

// arrived notes what a segment has changed; finish acts on it once the batch is through. c.mu is held.
func (c *TCPConn) arrived(in *inbox, ev tcp.Event, before tcp.State) {
	if d := ev.Drop(); d != tcp.DropNone {
		in.tcpDrop(d)
	}
	c.trace(SegmentIn, in.number, &in.seg, before, ev.Drop())
	if ev.Has(tcp.Ended) { // at once: who calls before the batch is through sees a closed connection, and asks why
		c.ended()
		if before == tcp.CloseWait && c.errno == syscall.ECONNRESET {
			c.errno = syscall.EPIPE // as Linux: the reader has its end, the writer learns of a broken pipe
		}
		ev &^= tcp.Ended
	}
	c.events |= ev
	if !c.touched {
		c.touched = true
		in.touched = append(in.touched, c)
	}
}

// finish wakes who waits on the connections of this batch, and sends what the segments have made due: one
// acknowledgement for all of them (RFC 9293 §3.10.7.4, MUST-59).
func (in *inbox) finish(now time.Duration) {
	for k, c := range in.touched {
		c.mu.Lock()
		c.touched = false
		ev := c.events
		c.events = 0
		c.happened(ev)
		c.output(now)
		c.mu.Unlock()
		in.touched[k] = nil
	}
	in.touched = in.touched[:0]
}

// inputTimeWait lets the memory of a connection in TIME-WAIT answer. done is false where there is none, or where a new
// connection may begin (RFC 6191), with no sequence number below floor.
func (s *Stack) inputTimeWait(now time.Duration, in *inbox) (done bool, floor *tcp.Seq) {
	h := s.shard(&in.flow)
	h.mu.Lock()
	w, ok := h.waits[in.flow]
	if !ok || now >= w.Deadline() {
		h.mu.Unlock()
		return false, nil
	}
	reply, v := w.Arrive(now, &in.seg)
	if v == tcp.Stay {
		h.waits[in.flow] = w
	} else {
		delete(h.waits, in.flow)
	}
	h.mu.Unlock()
	if reply.Flags != 0 {
		s.reply(now, &in.flow, &reply)
	}
	if v == tcp.Reopen {
		min := w.MinISS()
		return false, &min
	}
	in.tcpDrop(tcp.DropTimeWait)
	return true, nil
}
