package stack

import (
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
)

// wall is a firewall with its lock. Under the lock that of the ports is taken, and none else.
type wall struct {
	sync.Mutex
	rules   *firewall.Firewall
	latest  time.Duration   // what it was last told the time is
	own     firewall.Packet // the packet of our own that it judges
	message []byte          // an ICMP message of our own, in one piece
}

// SetFirewall has rules judge every packet that comes in, goes out or is passed on, and translate addresses as they say:
// masquerading, port forwarding and the rest are lines of [firewall.Rules]. Interfaces have the names that
// [Interface.Name] says. What the stack sends to itself is not judged. Rules take the place of those before at once,
// and connections go on that those have let begin; r belongs to the stack then. A nil r ends it all, and forgets the
// connections. With an error, which says what is wrong with r, the old rules hold.
func (s *Stack) SetFirewall(r *firewall.Rules) error {
	s.admin.Lock()
	defer s.admin.Unlock()
	w := s.wall.Load()
	if r == nil {
		s.wall.Store(nil)
		return nil
	}
	if w != nil {
		w.Lock()
		defer w.Unlock()
		return w.rules.SetRules(r)
	}
	c := s.config.Firewall
	c.Seed, c.Address, c.Taken = [2]uint64{s.secret.random(), s.secret.random()}, s.externalAddr, s.taken
	w = &wall{rules: firewall.New(c)}
	if err := w.rules.SetRules(r); err != nil {
		return err
	}
	s.wall.Store(w)
	return nil
}

// Firewall calls look with the firewall that SetFirewall has made, for its counters, connections and mappings, and reports
// whether there is one. No packet passes until look returns, so it is quick, keeps nothing, and calls no method of the stack.
func (s *Stack) Firewall(look func(*firewall.Firewall)) bool {
	w := s.wall.Load()
	if w == nil {
		return false
	}
	w.Lock()
	defer w.Unlock()
	look(w.rules)
	return true
}

// externalAddr is firewall.Config's Address: the first address of an interface that the world knows.
func (s *Stack) externalAddr(name string, v6 bool) netip.Addr {
	for _, i := range s.view.Load().ifaces {
		if i.name != name {
			continue
		}
		for _, a := range *i.addrs.Load() {
			if addr := a.Prefix.Addr(); addr.Is6() == v6 && !addr.IsLinkLocalUnicast() {
				return addr
			}
		}
	}
	return netip.Addr{}
}

// taken is firewall.Config's Taken: whether a socket is bound there.
func (s *Stack) taken(proto uint8, at netip.AddrPort) bool {
	if proto == ipv4.ProtoTCP {
		return s.ports.listener(at.Addr(), at.Port(), 0) != nil
	}
	s.ports.mu.RLock()
	defer s.ports.mu.RUnlock()
	return slices.ContainsFunc(s.ports.udp[at.Port()], func(u *UDPConn) bool { return u.bind.takes(at.Addr(), 0) })
}

// clock is now as the firewall is to be told, never earlier than before: see TCPConn.clock.
func (w *wall) clock(now time.Duration) time.Duration {
	w.latest = max(w.latest, now)
	return w.latest
}

// arrive shows the firewall the packet at hand, before its route is looked up. With false it goes no further.
func (w *wall) arrive(now time.Duration, in *inbox) bool {
	t := in.transit
	copy(t.before[:], in.m.packet)
	p := &t.judged
	p.Reset(in.m.packet)
	p.In = in.ifc.name
	p.Partial = in.packet.Offload.Partial && !in.m.joined
	w.Lock()
	v := w.rules.Arrive(w.clock(now), p)
	w.traceVerdict(in.ifc.stack, PacketArrived, in.number, p, v)
	w.Unlock()
	return in.passes(now, v)
}

// filter asks the firewall about the packet at hand, which is for us, or passed on by the interface out.
func (w *wall) filter(now time.Duration, in *inbox, d firewall.Direction, out *Interface, mtu int) bool {
	p := &in.transit.judged
	p.Direction, p.MTU = d, mtu
	if out != nil {
		p.Out = out.name
	}
	w.Lock()
	v := w.rules.Filter(w.clock(now), p)
	w.traceVerdict(in.ifc.stack, PacketJudged, in.number, p, v)
	w.Unlock()
	return in.passes(now, v)
}

// passes does what the firewall says about the packet at hand.
func (in *inbox) passes(now time.Duration, v firewall.Verdict) bool {
	p := &in.transit.judged
	if v == firewall.Accept {
		if p.Edited {
			in.readdress()
		}
		return true
	}
	in.drop(Firewalled)
	in.packet.Comment = p.Reason.String()
	in.transit.giveWay()
	if v == firewall.Reject && len(p.Reply) > 0 {
		in.ifc.stack.sendWhole(now, in.ifc, p.Reply)
	}
	return false
}

// sendWhole sends the packet b, which is complete, to where it says, in answer to one that came in by i.
func (s *Stack) sendWhole(now time.Duration, i *Interface, b []byte) {
	var src, dst netip.Addr
	if b[0]>>4 == 4 {
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	} else {
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	}
	h, ok := s.view.Load().route(src, dst, i.index)
	if !ok {
		s.stats.drop(NoRoute)
		return
	}
	p := s.newPacket()
	p.toward(h, dst)
	if p.out[0].Head = b; h.ifc.caps.Ethernet {
		p.one[0] = b
		p.out[0] = link.Packet{Head: p.head[:ethernet.HeaderLen], Text: p.one[:]}
	}
	h.ifc.send(now, p)
}

// leaves asks the firewall about a packet of our own, which is complete but for its Ethernet header. With false the packet
// is not to be sent; where the firewall has an answer to it, that is on its way to us.
func (s *Stack) leaves(p *packet) bool {
	w := s.wall.Load()
	if w == nil || p.ifc.loopback {
		return true
	}
	var answer []byte
	w.Lock()
	v := w.judge(s.now(), p)
	if v == firewall.Reject && len(w.own.Reply) > 0 {
		answer = slices.Clone(w.own.Reply)
	}
	w.Unlock()
	if v == firewall.Accept {
		return true
	}
	s.stats.drop(Firewalled)
	if answer != nil {
		s.lo.wake()
		s.lo.write(answer)
	}
	return false
}

// judge is what the firewall says about a packet of our own. It is locked.
func (w *wall) judge(now time.Duration, p *packet) firewall.Verdict {
	out, room := &p.out[0], 0
	if p.ifc.caps.Ethernet {
		room = ethernet.HeaderLen
	}
	b := out.Head[room:]
	proto := b[6]
	if b[0]>>4 == 4 {
		proto = b[9]
	}
	icmp := proto == ipv4.ProtoICMP || proto == ipv6.ProtoICMP
	if icmp { // of which the firewall reads all
		w.message = append(w.message[:0], b...)
		for _, t := range out.Text {
			w.message = append(w.message, t...)
		}
		b = w.message
	}
	w.own.Reset(b)
	w.own.Partial, w.own.Direction, w.own.Out, w.own.MTU = out.Offload.Partial, firewall.Out, p.ifc.name, p.ifc.live.Load().caps.MTU
	v := w.rules.Filter(w.clock(now), &w.own)
	w.traceVerdict(p.ifc.stack, PacketJudged, p.number, &w.own, v)
	if v == firewall.Accept && w.own.Edited && icmp {
		out.Head, out.Text = slices.Concat(out.Head[:room], b), nil
	}
	return v
}

// leavesCut is leaves for a datagram that goes out in fragments, of which the firewall knows nothing: it is asked about the
// whole, and m and the transport header head are changed as it wants. What it says as an error is EPERM, as Linux says it.
func (s *Stack) leavesCut(m *meta, h *hop, head, text []byte) error {
	if s.wall.Load() == nil || h.ifc.loopback {
		return nil
	}
	p := s.newPacket()
	defer s.free(p)
	p.toward(h, m.dst)
	n := copy(p.head[headroom:], head)
	p.one[0] = text
	p.wrap(m, n, p.one[:], -1, 0)
	if !s.leaves(p) {
		return syscall.EPERM
	}
	b := p.out[0].Head
	if h.ifc.caps.Ethernet {
		b = b[ethernet.HeaderLen:]
	}
	if m.src.Is4() {
		m.src = netip.AddrFrom4([4]byte(b[12:16]))
		copy(head, b[ipv4.MinHeaderLen:])
	} else {
		m.src = netip.AddrFrom16([16]byte(b[8:24]))
		copy(head, b[ipv6.HeaderLen:])
	}
	return nil
}

// admits asks the firewall about the packet at hand, which is for us.
func (in *inbox) admits(now time.Duration) bool {
	t := in.transit
	return t == nil || t.wall == nil || t.wall.filter(now, in, firewall.In, nil, in.ifc.live.Load().caps.MTU)
}
