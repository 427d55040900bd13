package stack

import (
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
	"github.com/seed87e66d9f/waybill/udp"
)

// Bounds on the errors that we send (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)): Linux's icmp_msgs_per_sec and _burst.
const (
	errorRate  = 1000
	errorBurst = 50
)

// rateLimit is a token bucket.
type rateLimit struct {
	sync.Mutex
	tokens float64
	at     time.Duration
}

// allow takes a token, one on average but sometimes none or two. A bucket that all peers share would else tell a
// stranger, by what is left of it, whether an error went to an address that he forged: so ports are found (CVE-2020-25705).
func (r *rateLimit) allow(now time.Duration, random uint64) bool {
	r.Lock()
	defer r.Unlock()
	r.tokens = min(errorBurst, r.tokens+(now-r.at).Seconds()*errorRate)
	if r.at == 0 {
		r.tokens = errorBurst
	}
	r.at = now
	if r.tokens < 1 {
		return false
	}
	r.tokens = max(r.tokens-float64(random%3), 0)
	return true
}

// inputICMP4 is RFC 1122 §3.2.2: an echo is answered, an error goes to whom it is about.
func (i *Interface) inputICMP4(now time.Duration, in *inbox) {
	s, m := i.stack, &in.m
	var msg ipv4.ICMP
	if err := msg.Decode(m.text); err != nil {
		in.drop(BadICMP)
		return
	}
	switch {
	case msg.Type == ipv4.Echo && m.group: // RFC 1122 §3.2.2.6 lets one discard it
		in.drop(EchoGroup)
	case msg.Type == ipv4.Echo:
		s.stats.echoes.Add(1)
		msg.Type = ipv4.EchoReply
		i.sendICMP4(now, m.dst, m.src, &msg)
	case msg.IsError():
		s.inputError4(now, in, &msg)
	default:
		in.drop(UnknownICMP)
	}
}

// inputError4 finds out which packet of ours an error quotes.
func (s *Stack) inputError4(now time.Duration, in *inbox, msg *ipv4.ICMP) {
	var h ipv4.Header
	n, err := h.DecodeQuoted(msg.Body)
	if err != nil || h.Offset != 0 || len(msg.Body) < n+8 {
		in.drop(BadICMP)
		return
	}
	notice := tcp.Notice{Reason: reason4(msg)}
	if msg.Type == ipv4.Unreachable && msg.Code == ipv4.CodeFragNeeded {
		notice = tcp.Notice{Reason: tcp.TooBig, MTU: max(msg.MTU(), minPathMTU) - n}
	}
	s.notify(now, in, h.Protocol, h.Src, h.Dst, msg.Body[n:], notice)
}

// minPathMTU is how small a router can make our packets, whatever it says: Linux's net.ipv4.route.min_pmtu. RFC 791 would
// allow 68, and one forged message would then make a connection send forty times the packets.
const minPathMTU = 552

// reason4 is what an error means to a socket (RFC 1122 §4.2.3.9); Source Quench means nothing (RFC 6633 §3).
func reason4(m *ipv4.ICMP) tcp.Reason {
	switch {
	case m.Type == ipv4.TimeExceeded || m.Type == ipv4.ParamProblem:
		return tcp.HostUnreachable
	case m.Type != ipv4.Unreachable:
		return tcp.None
	}
	switch m.Code {
	case ipv4.CodePort:
		return tcp.Refused
	case ipv4.CodeProtocol:
		return tcp.NoProtocol
	case ipv4.CodeNet, ipv4.CodeNetUnknown, ipv4.CodeNetTOS:
		return tcp.NetUnreachable
	case ipv4.CodeNetProhibited, ipv4.CodeHostProhibited, ipv4.CodeProhibited:
		return tcp.Prohibited
	}
	return tcp.HostUnreachable
}

// inputICMP6 is RFC 4443: the same for IPv6, and the messages of Neighbor Discovery besides.
func (i *Interface) inputICMP6(now time.Duration, in *inbox) {
	s, m := i.stack, &in.m
	var msg ipv6.ICMP
	if err := msg.Decode(m.text, m.src, m.dst); err != nil {
		in.drop(BadICMP)
		return
	}
	switch {
	case msg.Type >= ipv6.RouterSolicitation && msg.Type <= ipv6.Redirect:
		i.inputNDP(now, in, &msg)
	case !i.validSource(m.src):
		in.drop(BadSource)
	case msg.Type == ipv6.Echo:
		s.stats.echoes.Add(1)
		src := m.dst
		if m.group { // RFC 4443 §4.2: a reply to a multicast comes from a unicast address
			h, _ := s.view.Load().lookup(m.src, i.index)
			if src, _ = s.view.Load().source(m.src, h); !src.IsValid() {
				return
			}
		}
		msg.Type = ipv6.EchoReply
		i.sendICMP6(now, src, m.src, &msg, s.config.HopLimit)
	case msg.IsError():
		s.inputError6(now, in, &msg)
	default:
		in.drop(UnknownICMP)
	}
}

// inputError6 finds out which packet of ours an error quotes.
func (s *Stack) inputError6(now time.Duration, in *inbox, msg *ipv6.ICMP) {
	var h ipv6.Header
	var chain ipv6.Chain
	if err := h.DecodeQuoted(msg.Body); err != nil {
		in.drop(BadICMP)
		return
	}
	quoted := msg.Body[ipv6.HeaderLen:]
	if err := chain.Walk(h.NextHeader, quoted); err != nil || chain.Fragment || len(quoted) < chain.Offset+8 {
		in.drop(BadICMP)
		return
	}
	notice := tcp.Notice{}
	switch {
	case msg.Type == ipv6.PacketTooBig:
		// RFC 8201 §4: "A node MUST NOT reduce its estimate of the Path MTU below the IPv6 minimum link MTU."
		if msg.MTU() < ipv6.MinMTU {
			in.drop(BadICMP)
			return
		}
		notice = tcp.Notice{Reason: tcp.TooBig, MTU: msg.MTU() - ipv6.HeaderLen - chain.Offset}
	case msg.Type == ipv6.ParamProblem && msg.Code == ipv6.CodeNextHeader:
		notice.Reason = tcp.NoProtocol
	case msg.Type == ipv6.TimeExceeded || msg.Type == ipv6.ParamProblem:
		notice.Reason = tcp.HostUnreachable
	case msg.Type == ipv6.Unreachable:
		notice.Reason = reason6(msg.Code)
	}
	s.notify(now, in, chain.Protocol, h.Src, h.Dst, quoted[chain.Offset:], notice)
}

func reason6(code uint8) tcp.Reason {
	switch code {
	case ipv6.CodePort:
		return tcp.Refused
	case ipv6.CodeNoRoute:
		return tcp.NetUnreachable
	case ipv6.CodeProhibited, ipv6.CodeSourcePolicy, ipv6.CodeReject:
		return tcp.Prohibited
	}
	return tcp.HostUnreachable
}

// notify tells a socket of an error about what it sent (RFC 9293 §3.9.2.2, MUST-54). b begins with the transport header,
// of which eight octets are sure.
func (s *Stack) notify(now time.Duration, in *inbox, proto uint8, src, dst netip.Addr, b []byte, n tcp.Notice) {
	s.stats.icmpErrorsIn.Add(1)
	if n.Reason == tcp.None {
		return
	}
	sport, dport := uint16(b[0])<<8|uint16(b[1]), uint16(b[2])<<8|uint16(b[3])
	switch proto {
	case ipv4.ProtoTCP:
		f := tcp.Flow{Local: src.As16(), Remote: dst.As16(), LocalPort: sport, RemotePort: dport, Zone: in.ifc.zone(src, dst)}
		s.notifyTCP(now, in, &f, tcp.Seq(b[4])<<24|tcp.Seq(b[5])<<16|tcp.Seq(b[6])<<8|tcp.Seq(b[7]), n)
	case ipv4.ProtoUDP:
		if u := s.ports.connected(netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)); u != nil {
			u.fail(errnoOf(n.Reason))
			return
		}
		in.drop(StrayICMP)
	}
}

// notifyTCP tells a connection, or the listener that has it half open, of an error that quotes sequence number at.
func (s *Stack) notifyTCP(now time.Duration, in *inbox, f *tcp.Flow, at tcp.Seq, n tcp.Notice) {
	var ev tcp.Event
	if c := s.lookup(f); c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		ev = c.tcb.Notify(c.clock(now), at, n)
		c.happened(ev)
		c.output(now)
	} else if l := s.ports.listener(fromFlow(f.Local), f.LocalPort, f.Zone); l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		ev = l.half.Notify(f, at, n)
	} else {
		in.drop(StrayICMP)
	}
	if ev.Drop() != tcp.DropNone {
		in.tcpDrop(ev.Drop())
	}
}

// refuse4 sends an Unreachable about m, unless RFC 1122 §3.2.2 forbids it: "An ICMP error message MUST NOT be sent as the
// result of receiving" an error, a broadcast or multicast, a fragment but the first, or a datagram from no single host.
func (i *Interface) refuse4(now time.Duration, m *datagram, code uint8) {
	if m.group || !i.stack.limit.allow(now, i.stack.secret.random()) {
		i.stack.stats.drop(ICMPLimited)
		return
	}
	quote := m.packet[:min(len(m.packet), ipv4Quote)]
	i.stack.stats.icmpErrorsOut.Add(1)
	i.sendICMP4(now, m.dst, m.src, &ipv4.ICMP{Type: ipv4.Unreachable, Code: code, Body: quote})
}

// ipv4Quote: RFC 1812 §4.3.2.3 has the error "contain as much of the original datagram as possible without the length of
// the ICMP datagram exceeding 576 bytes".
const ipv4Quote = 576 - ipv4.MinHeaderLen - ipv4.ICMPLen

// ipv6Quote: RFC 4443 §3, "as much of invoking packet as possible without the ICMPv6 packet exceeding the minimum IPv6 MTU".
const ipv6Quote = ipv6.MinMTU - ipv6.HeaderLen - ipv6.ICMPLen

// problem6 sends the Parameter Problem that err asks for.
func (i *Interface) problem6(now time.Duration, m *datagram, err error) {
	var p *ipv6.Problem
	if errors.As(err, &p) && !p.Silent && (!m.group || p.Multicast) {
		i.refuse6(now, m, &ipv6.ICMP{Type: ipv6.ParamProblem, Code: p.Code, Rest: p.Octet()})
	}
}

// refuse6 sends an error about m (RFC 4443 §2.4).
func (i *Interface) refuse6(now time.Duration, m *datagram, msg *ipv6.ICMP) {
	src := m.dst
	if m.group {
		h, _ := i.stack.view.Load().lookup(m.src, i.index)
		src, _ = i.stack.view.Load().source(m.src, h)
	}
	if m.src.IsUnspecified() || !src.IsValid() || !i.stack.limit.allow(now, i.stack.secret.random()) {
		i.stack.stats.drop(ICMPLimited)
		return
	}
	msg.Body = m.packet[:min(len(m.packet), ipv6Quote)]
	i.stack.stats.icmpErrorsOut.Add(1)
	i.sendICMP6(now, src, m.src, msg, i.stack.config.HopLimit)
}

// sendICMP4 sends msg, whose body is borrowed.
func (i *Interface) sendICMP4(now time.Duration, src, dst netip.Addr, msg *ipv4.ICMP) {
	p := i.stack.newPacket()
	h := p.head[headroom : headroom+ipv4.ICMPLen]
	h[0], h[1], h[2], h[3] = msg.Type, msg.Code, 0, 0
	h[4], h[5], h[6], h[7] = byte(msg.ID>>8), byte(msg.ID), byte(msg.Seq>>8), byte(msg.Seq)
	sum := ^checksum.Combine(checksum.Sum(h, 0), checksum.Sum(msg.Body, 0))
	p.icmp(i, now, &meta{src: src, dst: dst, proto: ipv4.ProtoICMP, hops: i.stack.config.HopLimit}, len(h), msg.Body, sum)
}

// sendICMP6 sends msg, whose body is borrowed.
func (i *Interface) sendICMP6(now time.Duration, src, dst netip.Addr, msg *ipv6.ICMP, hops uint8) {
	p := i.stack.newPacket()
	h := p.head[headroom : headroom+ipv6.ICMPLen]
	h[0], h[1], h[2], h[3] = msg.Type, msg.Code, 0, 0
	h[4], h[5], h[6], h[7] = byte(msg.Rest>>24), byte(msg.Rest>>16), byte(msg.Rest>>8), byte(msg.Rest)
	sum := checksum.Sum(h, checksum.Pseudo(src, dst, ipv6.ProtoICMP, len(h)+len(msg.Body)))
	p.icmp(i, now, &meta{src: src, dst: dst, proto: ipv6.ProtoICMP, hops: hops}, len(h), msg.Body, ^checksum.Combine(sum, checksum.Sum(msg.Body, 0)))
}

// icmp sends a message of n header octets and a body. A message too long for the link is dropped.
func (p *packet) icmp(i *Interface, now time.Duration, m *meta, n int, body []byte, sum uint16) {
	s := i.stack
	p.head[headroom+2], p.head[headroom+3] = byte(sum>>8), byte(sum)
	h, ok := s.view.Load().lookup(m.dst, i.index)
	if !ok {
		s.stats.drop(NoRoute)
		s.free(p)
		return
	}
	p.toward(h, m.dst)
	p.one[0] = body
	p.wrap(m, n, p.one[:], -1, 0)
	if p.ipLen() > p.ifc.MTU() {
		s.stats.drop(TooLong)
		s.free(p)
		return
	}
	h.ifc.send(now, p)
}

// errnoOf is the error that a socket reports for a reason.
func errnoOf(r tcp.Reason) syscall.Errno {
	switch r {
	case tcp.Refused:
		return syscall.ECONNREFUSED
	case tcp.Reset:
		return syscall.ECONNRESET
	case tcp.TimedOut:
		return syscall.ETIMEDOUT
	case tcp.HostUnreachable:
		return syscall.EHOSTUNREACH
	case tcp.NetUnreachable:
		return syscall.ENETUNREACH
	case tcp.NoProtocol:
		return syscall.ENOPROTOOPT
	case tcp.Prohibited:
		return syscall.EACCES
	case tcp.TooBig:
		return syscall.EMSGSIZE
	case tcp.Aborted:
		return syscall.ECONNABORTED
	}
	return 0
}

// completeChecksum does what a device does for a Partial checksum.
func completeChecksum(b []byte, o *link.Offload) {
	s := ^checksum.Sum(b[o.Start:], 0)
	if s == 0 && o.Offset == udpChecksum {
		s = 0xffff
	}
	b[o.Start+o.Offset], b[o.Start+o.Offset+1] = byte(s>>8), byte(s)
}

// udpChecksum is where the checksum stands in a UDP header (RFC 768).
const udpChecksum = udp.HeaderLen - 2
