package stack

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
)

// Forwarding says whether a stack passes on what is for others, as a router does (RFC 1812, RFC 8200 §3), and how. The
// zero value is a host's: what is for others is dropped.
type Forwarding struct {
	// Enabled makes the stack a router between its interfaces, for IPv4 and IPv6. It then also takes what is for any
	// address of its own by any interface, and sends by the routes alone, whatever the source.
	Enabled bool
	// Redirects tells hosts of a next hop on their own link that is nearer to what they send for (RFC 1812 §4.3.3.2,
	// RFC 4861 §8.2).
	Redirects bool
	// AnySource forgoes RFC 3704 §2.2's strict reverse path forwarding, by which a packet is dropped that came by another
	// interface than the one that leads to its source.
	AnySource bool
}

// SetForwarding makes the stack a router, or a host again, from the next packet on.
func (s *Stack) SetForwarding(f Forwarding) {
	s.admin.Lock()
	defer s.admin.Unlock()
	s.replaceView(func(v *view) { v.forwarding = f })
}

// transit is what the goroutine that reads a queue needs where packets are passed on or judged.
type transit struct {
	wall    *wall           // that has seen the packet arrive; nil: none
	judged  firewall.Packet // as the wall sees it
	before  [maxBefore]byte // how the packet at hand began before the wall changed it
	relay   relay
	refused int // packets that the wall has not let pass, or that came by a wrong way
}

// maxBefore is as much of a packet as translation changes: an IPv6 header with some extensions, and the ports and the
// checksum of what follows.
const maxBefore = 96

// arriving is what comes between the checks of a packet's source and the question whether it is ours: the reverse path,
// for a router, and the firewall, which may change the destination. With false the packet goes no further.
func (i *Interface) arriving(now time.Duration, in *inbox, v *view) bool {
	w := i.stack.wall.Load()
	if w == nil && !v.forwarding.Enabled || i.loopback {
		in.transit = nil
		return true
	}
	if in.transit = in.spare; in.transit == nil {
		in.spare = new(transit)
		in.transit = in.spare
	}
	in.transit.wall = w
	if v.forwarding.Enabled && !v.forwarding.AnySource && !v.comesBack(i, &in.m) {
		in.drop(ReversePath)
		in.transit.giveWay()
		return false
	}
	if w == nil {
		return true
	}
	if in.fragment() && !i.join(now, in) {
		return false
	}
	return w.arrive(now, in)
}

// giveWayAfter is how many packets are refused before the goroutine that reads them gives way: about as many as the queue of a
// device holds, so that what came among them is not lost where it has to wait for its next turn.
const giveWayAfter = 1024

// giveWay counts a packet that is refused at the door. Now and then the goroutine then steps behind all that are ready to run:
// who reads a flood never waits, and would else run until the scheduler ends its turn, after 10 ms, while each step of a
// connection's way waits for that.
func (t *transit) giveWay() {
	if t.refused++; t.refused%giveWayAfter == 0 {
		runtime.Gosched()
	}
}

// comesBack reports whether the interface that a packet came by is the one that leads back to its source.
func (v *view) comesBack(i *Interface, m *datagram) bool {
	if m.group || m.src.IsUnspecified() || m.src.IsLinkLocalUnicast() {
		return true
	}
	h, ok := v.lookup(m.src, i.index)
	return ok && h.ifc == i
}

// fragment reports whether the packet at hand, whose IP header is decoded, is a fragment.
func (in *inbox) fragment() bool {
	if in.m.src.Is4() {
		return in.ip4.IsFragment()
	}
	// What is wrong with its other headers is for its destination to say.
	return in.chain.Walk(in.ip6.NextHeader, in.m.packet[ipv6.HeaderLen:]) == nil && in.chain.Fragment
}

// forward passes on a packet that is for somebody else (RFC 1812 §5.2.1, RFC 8200 §3). It has arrived.
func (i *Interface) forward(now time.Duration, in *inbox, v *view) {
	m, t := &in.m, in.transit
	if m.group || m.dst.IsMulticast() || m.dst.IsLinkLocalUnicast() || m.dst.IsLoopback() || m.dst.IsUnspecified() || !i.validSource(m.src) {
		in.drop(NotForwarded)
		return
	}
	// RFC 4291 §2.5.6: "Routers must not forward any packets with Link-Local source or destination addresses to other links."
	// RFC 3927 §7 says the same of IPv4.
	if m.src.IsLinkLocalUnicast() {
		in.drop(NotForwarded)
		i.tell(now, in, nil, &ipv6.ICMP{Type: ipv6.Unreachable, Code: codeBeyondScope})
		return
	}
	if m.hops <= 1 { // RFC 1812 §5.3.1: it "MUST be discarded"
		in.drop(HopsExceeded)
		i.tell(now, in, &ipv4.ICMP{Type: ipv4.TimeExceeded}, &ipv6.ICMP{Type: ipv6.TimeExceeded})
		return
	}
	h, ok := v.lookup(m.dst, 0)
	if !ok {
		in.drop(NoRoute)
		i.tellNoRoute(now, in, h)
		return
	}
	if h.ifc.loopback || h.ifc.broadcast(m.dst) { // RFC 2644 §4: directed broadcasts are not forwarded
		in.drop(NotForwarded)
		return
	}
	i.stack.traceRoute(in.number, h, m.dst)
	caps := h.ifc.live.Load().caps
	caps.MTU = h.ifc.mtu(m.dst)
	whole := m.joined || m.src.Is4() && m.packet[6]&flagDF == 0 // it may be cut
	fit := t.relay.fit(in, caps)
	if fit == link.FitNot && !whole {
		in.drop(PacketTooBig)
		i.tell(now, in, &ipv4.ICMP{Type: ipv4.Unreachable, Code: ipv4.CodeFragNeeded, Seq: uint16(caps.MTU)},
			&ipv6.ICMP{Type: ipv6.PacketTooBig, Rest: uint32(caps.MTU)})
		return
	}
	if t.wall != nil && !t.wall.filter(now, in, firewall.Forward, h.ifc, caps.MTU) {
		return
	}
	if v.forwarding.Redirects && h.ifc == i {
		i.redirect(now, in, v, h)
	}
	lessHops(m.packet)
	i.stack.stats.forwarded.Add(1)
	if t.relay.send(now, in, h, &caps, fit) == failed {
		i.tell(now, in, &ipv4.ICMP{Type: ipv4.Unreachable, Code: ipv4.CodeHost}, &ipv6.ICMP{Type: ipv6.Unreachable, Code: ipv6.CodeAddress})
	}
}

const (
	flagDF          = 0x40 // RFC 791 §3.1, in the seventh octet
	codeBeyondScope = 2    // RFC 4443 §3.1: "Beyond scope of source address"
	typeRedirect4   = 5    // RFC 792
	codeForHost     = 1    // RFC 792, "Redirect datagrams for the Host"
)

// lessHops is RFC 791's time to live, and RFC 8200's hop limit, one less. The checksum follows by RFC 1624's equation 3,
// for the one octet that has changed.
func lessHops(b []byte) {
	if b[0]>>4 == 6 {
		b[7]--
		return
	}
	b[8]--
	sum := uint32(binary.BigEndian.Uint16(b[10:])) + 0x100
	if sum >= 0xffff {
		sum++
	}
	binary.BigEndian.PutUint16(b[10:], uint16(sum))
}

// tell sends the sender of the packet at hand an ICMP error, of its family, about the packet as it came. A nil error is none.
func (i *Interface) tell(now time.Duration, in *inbox, e4 *ipv4.ICMP, e6 *ipv6.ICMP) {
	in.restore()
	m := &in.m
	if m.src.Is4() {
		// RFC 1122 §3.2.2: never about an error, and about no fragment but the first
		if e4 != nil && in.ip4.Offset == 0 && !(m.proto == ipv4.ProtoICMP && (len(m.text) == 0 || isError4(m.text[0]))) {
			i.error4(now, m, e4)
		}
		return
	}
	payload := m.packet[ipv6.HeaderLen:]
	if in.chain.WalkQuoted(in.ip6.NextHeader, payload) == nil && in.chain.Protocol == ipv6.ProtoICMP && len(payload) > in.chain.Offset {
		// RFC 4443 §2.4 (e): neither about an error, nor about a redirect
		if kind := payload[in.chain.Offset]; kind < ipv6.Echo || kind == ipv6.Redirect {
			return
		}
	}
	i.refuse6(now, m, e6)
}

func isError4(kind uint8) bool {
	return (&ipv4.ICMP{Type: kind}).IsError() || kind == typeRedirect4
}

// restore takes back what the firewall has changed of the packet at hand, which is not to be sent then.
func (in *inbox) restore() {
	if t := in.transit; t != nil && t.wall != nil && t.judged.Edited {
		copy(in.m.packet, t.before[:])
		in.readdress()
	}
}

// readdress reads the addresses of the packet at hand again.
func (in *inbox) readdress() {
	b := in.m.packet
	if b[0]>>4 == 4 {
		in.m.src, in.m.dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		in.ip4.Src, in.ip4.Dst = in.m.src, in.m.dst
		return
	}
	in.m.src, in.m.dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	in.ip6.Src, in.ip6.Dst = in.m.src, in.m.dst
}

// tellNoRoute says why there is no way, as Linux says it.
func (i *Interface) tellNoRoute(now time.Duration, in *inbox, h *hop) {
	switch h.kind {
	case RouteBlackhole:
	case RouteUnreachable:
		i.tell(now, in, &ipv4.ICMP{Type: ipv4.Unreachable, Code: ipv4.CodeHost}, &ipv6.ICMP{Type: ipv6.Unreachable, Code: ipv6.CodeAddress})
	case RouteProhibited:
		i.tell(now, in, &ipv4.ICMP{Type: ipv4.Unreachable, Code: ipv4.CodeProhibited}, &ipv6.ICMP{Type: ipv6.Unreachable, Code: ipv6.CodeProhibited})
	default:
		i.tell(now, in, &ipv4.ICMP{Type: ipv4.Unreachable, Code: ipv4.CodeNet}, &ipv6.ICMP{Type: ipv6.Unreachable, Code: ipv6.CodeNoRoute})
	}
}

// undelivered tells the senders of frames that waited for a neighbour which does not answer. RFC 1812 §4.3.3.1: where there is
// no path to the host, "the router MUST generate a Destination Unreachable", of code 1. Frames of our own are for the sockets
// to know.
func (i *Interface) undelivered(now time.Duration, w *parked) {
	v := i.stack.view.Load()
	if !v.forwarding.Enabled || len(w.packets) == 0 {
		return
	}
	in := &inbox{ifc: i}
	for k := range w.packets {
		b := w.packets[k].frame[ethernet.HeaderLen:]
		in.m = datagram{ifc: i, packet: b}
		if n, err := in.ip4.Decode(b); err == nil {
			in.m.proto, in.m.text = in.ip4.Protocol, b[n:in.ip4.Length]
		} else if in.ip6.Decode(b) != nil {
			continue
		}
		if in.readdress(); !v.isOurs(i, in.m.src) {
			i.tell(now, in, &ipv4.ICMP{Type: ipv4.Unreachable, Code: ipv4.CodeHost}, &ipv6.ICMP{Type: ipv6.Unreachable, Code: ipv6.CodeAddress})
		}
	}
}

// errorSource is the address that an error about m comes from: the one that m was for, if that is ours, and else RFC 1812
// §4.3.2.4's, of the interface that it leaves by.
func (i *Interface) errorSource(m *datagram) netip.Addr {
	v := i.stack.view.Load()
	if !m.group && (v.isLocal(i, m.dst) || !v.forwarding.Enabled) {
		return m.dst
	}
	h, _ := v.lookup(m.src, i.index)
	src, ok := v.source(m.src, h)
	if !ok && !m.group {
		return m.dst
	}
	return src
}

// redirect tells the sender of the packet at hand that the next hop is on its own link.
func (i *Interface) redirect(now time.Duration, in *inbox, v *view, h *hop) {
	m, next := &in.m, h.via
	if !next.IsValid() {
		next = m.dst
	}
	back, ok := v.lookup(m.src, i.index)
	if !ok || back.ifc != i || back.via.IsValid() || !i.mayComplain(now, m.src) {
		return
	}
	if m.src.Is4() {
		a := next.As4()
		msg := ipv4.ICMP{Type: typeRedirect4, Code: codeForHost, ID: binary.BigEndian.Uint16(a[:]), Seq: binary.BigEndian.Uint16(a[2:])}
		if src, ok := v.source(m.src, back); ok {
			msg.Body = m.packet[:min(len(m.packet), ipv4Quote)]
			i.sendICMP4(now, src, m.src, &msg)
		}
		return
	}
	// RFC 4861 §4.5: "MUST be the link-local address assigned to the interface from which this message is sent."
	for _, a := range *i.addrs.Load() {
		if src := a.Prefix.Addr(); src.Is6() && src.IsLinkLocalUnicast() {
			to, dst := next.As16(), m.dst.As16()
			i.sendICMP6(now, src, m.src, &ipv6.ICMP{Type: ipv6.Redirect, Body: append(to[:], dst[:]...)}, ipv6.HopLimitNDP)
			return
		}
	}
}

// foreign decides about a packet that is for nobody here. With true it is treated as ours.
func (i *Interface) foreign(now time.Duration, in *inbox, v *view) bool {
	switch {
	case i.intercepts(in):
		in.m.foreign = true
		return true
	case v.forwarding.Enabled && in.transit != nil:
		i.forward(now, in, v)
	default:
		in.drop(OtherHost)
	}
	return false
}
