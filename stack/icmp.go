package stack

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
	"github.com/seed87e66d9f/waybill/udp"
)

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
	case msg.Type == ipv4.EchoReply:
		s.echoed(in, msg.ID)
	case msg.IsError():
		s.inputError4(now, in, &msg)
	default:
		in.drop(UnknownICMP)
	}
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
	case msg.Type >= ipv6.RouterSolicitation && msg.Type <= ipv6.Redirect && m.joined:
		// RFC 6980 §5: "Nodes MUST silently ignore the following Neighbor Discovery and SEcure Neighbor Discovery messages if
		// the packets carrying them include an IPv6 Fragmentation Header"
		in.drop(BadNDP)
	case msg.Type >= ipv6.RouterSolicitation && msg.Type <= ipv6.Redirect:
		i.inputNDP(now, in, &msg)
	case !i.validSource(m.src):
		in.drop(BadSource)
	case msg.Type >= ipv6.ListenerQuery && msg.Type <= ipv6.ListenerDone || msg.Type == ipv6.ListenerReportV2:
		i.inputMLD(in, &msg)
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
		i.sendICMP6(now, src, m.src, &msg, 0)
	case msg.Type == ipv6.EchoReply:
		s.echoed(in, msg.ID())
	case msg.IsError():
		s.inputError6(now, in, &msg)
	default:
		in.drop(UnknownICMP)
	}
}

// sendICMP4 sends msg, whose body is borrowed.
func (i *Interface) sendICMP4(now time.Duration, src, dst netip.Addr, msg *ipv4.ICMP) {
	p := i.stack.newPacket()
	h := p.head[headroom : headroom+ipv4.ICMPLen]
	h[0], h[1], h[2], h[3] = msg.Type, msg.Code, 0, 0
	h[4], h[5], h[6], h[7] = byte(msg.ID>>8), byte(msg.ID), byte(msg.Seq>>8), byte(msg.Seq)
	sum := ^checksum.Combine(checksum.Sum(h, 0), checksum.Sum(msg.Body, 0))
	p.icmp(i, now, &meta{src: src, dst: dst, proto: ipv4.ProtoICMP}, len(h), msg.Body, sum)
}

// sendICMP6 sends msg, whose body is borrowed; 0 hops are as many as usual.
func (i *Interface) sendICMP6(now time.Duration, src, dst netip.Addr, msg *ipv6.ICMP, hops uint8) {
	p := i.stack.newPacket()
	h := p.head[headroom : headroom+ipv6.ICMPLen]
	h[0], h[1], h[2], h[3] = msg.Type, msg.Code, 0, 0
	h[4], h[5], h[6], h[7] = byte(msg.Rest>>24), byte(msg.Rest>>16), byte(msg.Rest>>8), byte(msg.Rest)
	sum := checksum.Sum(h, checksum.Pseudo(src, dst, ipv6.ProtoICMP, len(h)+len(msg.Body)))
	p.icmp(i, now, &meta{src: src, dst: dst, proto: ipv6.ProtoICMP, hops: hops}, len(h), msg.Body, ^checksum.Combine(sum, checksum.Sum(msg.Body, 0)))
}

// icmp sends a message of n header octets and a body, in fragments where it is too long for the link.
func (p *packet) icmp(i *Interface, now time.Duration, m *meta, n int, body []byte, sum uint16) {
	s := i.stack
	p.head[headroom+2], p.head[headroom+3] = byte(sum>>8), byte(sum)
	h, ok := s.view.Load().route(m.src, m.dst, i.index)
	if !ok {
		s.stats.drop(NoRoute)
		s.free(p)
		return
	}
	p.toward(h, m.dst)
	p.one[0] = body
	s.yield(m, h)
	p.wrap(m, n, p.one[:], -1, 0)
	if p.ipLen() > s.mtu(h, m.dst) {
		var head [ipv4.ICMPLen]byte // as long as IPv6's
		copy(head[:], p.head[headroom:])
		s.free(p)
		s.sendCut(now, m, h, head[:], body)
		return
	}
	if !s.leaves(p) {
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
