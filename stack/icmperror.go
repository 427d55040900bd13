package stack

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/internal/pathmtu"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/tcp"
)

// complaint is an ICMP error about a packet that we seem to have sent.
type complaint struct {
	src, dst netip.Addr // of that packet
	proto    uint8
	text     []byte // of that packet from the transport header on: eight octets at least
	length   int    // that packet's
	reason   tcp.Reason
	errno    syscall.Errno // what Linux tells a socket
	path     pathmtu.Path  // where reason is TooBig
}

// inputError4 finds out which packet of ours an error quotes.
func (s *Stack) inputError4(now time.Duration, in *inbox, msg *ipv4.ICMP) {
	var h ipv4.Header
	n, err := h.DecodeQuoted(msg.Body)
	if err != nil || h.Offset != 0 || len(msg.Body) < n+8 {
		in.drop(BadICMP)
		return
	}
	c := complaint{src: h.Src, dst: h.Dst, proto: h.Protocol, text: msg.Body[n:], length: h.Length}
	if c.reason, c.errno = reason4(msg); c.reason == tcp.TooBig {
		var ok bool
		if c.path, ok = pathmtu.Judge(true, msg.MTU(), h.Length); !ok {
			in.drop(BadICMP)
			return
		}
	}
	s.notify(now, in, &c, n)
}

// reason4 is what an error means to a socket (RFC 1122 §4.2.3.9), and the error that Linux has for it, but where that is
// EHOSTDOWN or ENONET, which not every system knows. Source Quench means nothing (RFC 6633 §3), nor does a redirect here.
func reason4(m *ipv4.ICMP) (tcp.Reason, syscall.Errno) {
	switch {
	case m.Type == ipv4.TimeExceeded:
		return tcp.HostUnreachable, syscall.EHOSTUNREACH
	case m.Type == ipv4.ParamProblem:
		return tcp.HostUnreachable, syscall.EPROTO
	case m.Type != ipv4.Unreachable || m.Code > ipv4.CodePrecedenceCutoff:
		return tcp.None, 0
	}
	switch m.Code {
	case ipv4.CodePort:
		return tcp.Refused, syscall.ECONNREFUSED
	case ipv4.CodeProtocol:
		return tcp.NoProtocol, syscall.ENOPROTOOPT
	case ipv4.CodeFragNeeded:
		return tcp.TooBig, syscall.EMSGSIZE
	case ipv4.CodeSourceRoute:
		return tcp.HostUnreachable, syscall.EOPNOTSUPP
	case ipv4.CodeNet, ipv4.CodeNetUnknown, ipv4.CodeNetTOS:
		return tcp.NetUnreachable, syscall.ENETUNREACH
	case ipv4.CodeNetProhibited:
		return tcp.Prohibited, syscall.ENETUNREACH
	case ipv4.CodeHostProhibited, ipv4.CodeProhibited:
		return tcp.Prohibited, syscall.EHOSTUNREACH
	}
	return tcp.HostUnreachable, syscall.EHOSTUNREACH
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
	if err := chain.WalkQuoted(h.NextHeader, quoted); err != nil || chain.Fragment || len(quoted) < chain.Offset+8 {
		in.drop(BadICMP)
		return
	}
	c := complaint{src: h.Src, dst: h.Dst, proto: chain.Protocol, text: quoted[chain.Offset:], length: ipv6.HeaderLen + h.PayloadLength}
	if c.reason, c.errno = reason6(msg); c.reason == tcp.TooBig {
		var ok bool
		if c.path, ok = pathmtu.Judge(false, msg.MTU(), c.length); !ok {
			in.drop(BadICMP)
			return
		}
	}
	s.notify(now, in, &c, ipv6.HeaderLen+chain.Offset)
}

// reason6 is reason4 for IPv6.
func reason6(m *ipv6.ICMP) (tcp.Reason, syscall.Errno) {
	switch {
	case m.Type == ipv6.PacketTooBig:
		return tcp.TooBig, syscall.EMSGSIZE
	case m.Type == ipv6.TimeExceeded:
		return tcp.HostUnreachable, syscall.EHOSTUNREACH
	case m.Type == ipv6.ParamProblem && m.Code == ipv6.CodeNextHeader:
		return tcp.NoProtocol, syscall.EPROTO
	case m.Type == ipv6.ParamProblem:
		return tcp.HostUnreachable, syscall.EPROTO
	case m.Type != ipv6.Unreachable:
		return tcp.None, 0
	}
	switch m.Code {
	case ipv6.CodePort:
		return tcp.Refused, syscall.ECONNREFUSED
	case ipv6.CodeNoRoute:
		return tcp.NetUnreachable, syscall.ENETUNREACH
	case ipv6.CodeProhibited, ipv6.CodeSourcePolicy, ipv6.CodeReject:
		return tcp.Prohibited, syscall.EACCES
	}
	return tcp.HostUnreachable, syscall.EHOSTUNREACH
}

// notify tells a socket of an error about what it sent (RFC 9293 §3.9.2.2, MUST-54). What quotes nothing that a socket of
// ours may have sent is dropped (RFC 5927 §4). n octets stood in front of c.text.
func (s *Stack) notify(now time.Duration, in *inbox, c *complaint, n int) {
	s.stats.icmpErrorsIn.Add(1)
	if c.reason == tcp.None {
		return
	}
	if c.src != in.m.dst {
		in.drop(StrayICMP)
		return
	}
	ours := false
	b := c.text
	sport, dport := uint16(b[0])<<8|uint16(b[1]), uint16(b[2])<<8|uint16(b[3])
	switch c.proto {
	case ipv4.ProtoTCP:
		f := tcp.Flow{Local: c.src.As16(), Remote: c.dst.As16(), LocalPort: sport, RemotePort: dport, Zone: in.ifc.flowZone(c.src, c.dst)}
		ours = s.notifyTCP(now, in, &f, c, n)
	case ipv4.ProtoUDP:
		ours = s.notifyUDP(now, c, netip.AddrPortFrom(c.src, sport), netip.AddrPortFrom(c.dst, dport))
	case ipv4.ProtoICMP, ipv6.ProtoICMP:
		if c.text[0] == ipv4.Echo && c.proto == ipv4.ProtoICMP || c.text[0] == ipv6.Echo && c.proto == ipv6.ProtoICMP {
			ours = s.notifyEcho(now, in, c)
		}
	}
	if !ours {
		in.drop(StrayICMP)
		return
	}
	if c.proto == ipv4.ProtoTCP || c.proto == ipv4.ProtoUDP {
		s.tellAll(in, c.dst)
	}
}

// notifyUDP tells a connected socket, as RFC 1122 §4.1.3.3 asks: "UDP MUST pass to the application layer all ICMP error
// messages that it receives from the IP layer." Linux keeps those to itself that may pass. It is false where no socket
// sends from there.
func (s *Stack) notifyUDP(now time.Duration, c *complaint, local, remote netip.AddrPort) bool {
	u := s.ports.connected(local, remote)
	if u == nil && !s.ports.sends(local) {
		return false
	}
	if c.reason == tcp.TooBig {
		// Of an unconnected socket anybody can guess the port, but not whom it has just sent something long to.
		if u == nil && !s.paths.hasSent(s, local, remote) {
			return false
		}
		s.learn(now, c.dst, c.path)
	}
	if u != nil {
		u.fail(c.errno)
	}
	return true
}

// notifyTCP tells a connection, or the listener that has it half open, of an error. It is false where there is neither.
func (s *Stack) notifyTCP(now time.Duration, in *inbox, f *tcp.Flow, c *complaint, n int) bool {
	b := c.text
	at := tcp.Seq(b[4])<<24 | tcp.Seq(b[5])<<16 | tcp.Seq(b[6])<<8 | tcp.Seq(b[7])
	notice := tcp.Notice{Reason: c.reason, MTU: c.path.MTU - n}
	var ev tcp.Event
	if conn := s.lookup(f); conn != nil {
		conn.mu.Lock()
		defer conn.mu.Unlock()
		ev = conn.tcb.Notify(conn.clock(now), at, notice)
		if c.reason == tcp.TooBig && ev.Drop() == tcp.DropNone {
			s.learn(now, c.dst, c.path)
		}
		if ev.Has(tcp.Ended) {
			conn.errno = c.errno
		}
		conn.happened(ev)
		conn.output(now)
	} else if l := s.ports.listener(fromFlow(f.Local), f.LocalPort, f.Zone); l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		ev = l.half.Notify(f, at, notice)
	} else {
		return false
	}
	if ev.Drop() != tcp.DropNone {
		in.tcpDrop(ev.Drop())
	}
	return true
}
