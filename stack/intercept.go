package stack

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/tcp"
)

// Flow is from where to where somebody behind an interface wants to speak.
type Flow struct{ Src, Dst netip.AddrPort }

// Interceptor takes what comes in by an interface for addresses that are nobody's here, as if they all were ours. Each
// handler is called in a goroutine of its own, once for each flow that begins; nothing is answered until it decides. It may
// take its time, up to a minute, and may go on with the connection for as long as it likes. A flow about which it has decided
// nothing when it returns is dropped. The addresses of the interface itself, if it has any, stay the stack's own.
type Interceptor struct {
	TCP func(*TCPRequest) // for each SYN; nil: TCP is not intercepted
	UDP func(*UDPRequest) // for the first datagram of each source address and port; nil: UDP is not intercepted
	// PerSource is how many undecided flows one source address may have; what is beyond is dropped and counted, and comes
	// again if it is TCP. 0: 1024. There are Config.Backlog of them in all.
	PerSource int
	// Listen is what accepted connections are made with; its Backlog, if not 0, takes the place of Config's.
	Listen ListenConfig
}

// defaultPerSource: a browser has some hundred connections under way at once; a quarter of all leaves room for others.
const defaultPerSource = 1024

// Intercept has h take what comes in by the interface for anybody. No address of ours is needed there, nor a route to those
// that speak: answers leave by the interface. Flows that are open go on when another Interceptor takes its place. With nil
// they do as well, and what begins from then on is dropped. The error wraps net.ErrClosed.
func (i *Interface) Intercept(h *Interceptor) error {
	s := i.stack
	s.admin.Lock()
	defer s.admin.Unlock()
	if s.closed.Load() {
		return &net.OpError{Op: "intercept", Net: i.name, Err: net.ErrClosed}
	}
	x := i.catch.Load()
	if x == nil {
		x = &catcher{ifc: i, waiting: map[tcp.Flow]*TCPRequest{}, sources: map[netip.Addr]int{}, udp: map[netip.AddrPort]*Association{}}
		x.listener = &TCPListener{stack: s, net: "tcp", catch: x}
		x.listener.alarm = alarm{stack: s, fire: x.listener.tick}
	}
	x.listener.mu.Lock()
	defer x.listener.mu.Unlock()
	if x.handler = (Interceptor{}); h != nil {
		x.handler, x.listener.config = *h, h.Listen
	}
	if x.handler.PerSource <= 0 {
		x.handler.PerSource = defaultPerSource
	}
	x.tcp.CompareAndSwap(false, x.handler.TCP != nil)
	x.datagrams.CompareAndSwap(false, x.handler.UDP != nil)
	if x.listener.config.Backlog <= 0 {
		x.listener.config.Backlog = s.config.Backlog
	}
	if x.listener.half == nil {
		x.listener.half = tcp.NewListener(tcp.ListenConfig{Backlog: x.listener.config.Backlog, Secret: s.secret.cookie, ISS: s.secret.iss, Hold: true})
	}
	i.catch.Store(x)
	return nil
}

// catcher is what an interface intercepts. The lock of its listener guards all of it, but udp.
type catcher struct {
	ifc      *Interface
	handler  Interceptor
	listener *TCPListener // of all addresses and ports; its accept queue stays empty
	waiting  map[tcp.Flow]*TCPRequest
	sources  map[netip.Addr]int // undecided flows

	tcp, datagrams atomic.Bool // what is, or was, intercepted

	mu        sync.RWMutex // taken after the listener's
	udp       map[netip.AddrPort]*Association
	undecided int // of udp
}

// intercepts reports whether the packet at hand, for somebody else, is intercepted.
func (i *Interface) intercepts(in *inbox) bool {
	x, m := i.catch.Load(), &in.m
	if x == nil || m.group || m.dst.IsMulticast() || m.dst.IsLinkLocalUnicast() && m.dst.Is6() || !i.validSource(m.src) {
		return false
	}
	proto, text := m.proto, m.text
	if m.dst.Is6() {
		payload := m.packet[ipv6.HeaderLen:]
		if in.chain.WalkQuoted(in.ip6.NextHeader, payload) != nil {
			return false
		}
		proto, text = in.chain.Protocol, payload[in.chain.Offset:]
	}
	switch proto {
	case ipv4.ProtoTCP:
		return x.tcp.Load()
	case ipv4.ProtoUDP:
		return x.datagrams.Load()
	case ipv4.ProtoICMP: // an error may be about what was sent in somebody's name
		return m.src.Is4() && len(text) > 0 && isError4(text[0])
	case ipv6.ProtoICMP:
		return m.src.Is6() && len(text) > 0 && text[0] < ipv6.Echo
	}
	return false
}

// zone is the number that the flow of the packet at hand carries: of an intercepted one the interface's, which it belongs to.
func (in *inbox) zone() uint32 {
	if in.m.foreign {
		return in.ifc.index
	}
	return in.ifc.zone(in.m.src, in.m.dst)
}

// flowZone is zone for a flow that an ICMP error is about, between local and remote.
func (i *Interface) flowZone(local, remote netip.Addr) uint32 {
	if i.catch.Load() != nil && !i.stack.view.Load().isOurs(i, local) {
		return i.index
	}
	return i.zone(local, remote)
}

// intercepted is the way of a packet to dst that leaves from src, which is not ours: back by the interface that it was
// intercepted on, whose index is zone.
func (v *view) intercepted(src, dst netip.Addr, zone uint32) (*hop, bool) {
	if !src.IsValid() || int(zone) >= len(v.ifaces) || v.ifaces[zone].catch.Load() == nil || v.isOurs(v.ifaces[zone], src) || src.IsUnspecified() {
		return &noHop, false
	}
	return v.back(v.ifaces[zone], dst), true
}

// back is the way to dst by the interface i: that of the routes, or straight there.
func (v *view) back(i *Interface, dst netip.Addr) *hop {
	ways, ok := v.table.LookupFunc(dst, func(ways []hop) bool {
		return slices.ContainsFunc(ways, func(h hop) bool { return h.ifc == i })
	})
	if ok {
		if h, ok := best(ways, i); ok {
			return h
		}
	}
	return &i.onLink
}

// admit reports whether another undecided flow of a source is let in, and counts it. The listener's lock is held.
func (x *catcher) admit(in *inbox) bool {
	if x.sources[in.m.src] >= x.handler.PerSource {
		in.drop(InterceptLimit)
		return false
	}
	x.sources[in.m.src]++
	return true
}

// settle counts one undecided flow of a source less. The listener's lock is held.
func (x *catcher) settle(src netip.Addr) {
	if x.sources[src]--; x.sources[src] <= 0 {
		delete(x.sources, src)
	}
}

// sweep ends the requests whose half-open connections the listener has given up. Its lock is held.
func (x *catcher) sweep() {
	for f, r := range x.waiting {
		if !x.listener.half.Has(&f) {
			if !r.decided {
				r.decided = true
				x.settle(r.flow.Src.Addr())
			}
			r.end(nil)
		}
	}
}

// close ends everything that is intercepted.
func (x *catcher) close() {
	x.listener.Close()
	x.listener.mu.Lock()
	for _, r := range x.waiting {
		r.decided = true
		r.end(nil)
	}
	x.listener.mu.Unlock()
	x.mu.RLock()
	all := make([]*Association, 0, len(x.udp))
	for _, a := range x.udp {
		all = append(all, a)
	}
	x.mu.RUnlock()
	for _, a := range all {
		a.Close()
	}
}

// listener finds who takes a segment for which there is no connection.
func (s *Stack) listener(in *inbox) *TCPListener {
	if in.m.foreign {
		return in.ifc.catch.Load().listener
	}
	return s.ports.listener(in.m.dst, in.flow.LocalPort, in.flow.Zone)
}

// begins reports whether the segment at hand begins a flow that is intercepted, and whether that is refused. The listener's
// lock is held.
func (l *TCPListener) begins(in *inbox) (fresh, refused bool) {
	x := l.catch
	if x == nil || in.seg.Flags&(tcp.SYN|tcp.ACK|tcp.RST) != tcp.SYN || l.half.Has(&in.flow) {
		return false, false
	}
	return true, x.handler.TCP == nil || !x.admit(in)
}

// held has the handler decide about a SYN that is held now, and notes what else has become of a request. The listener's lock
// is held. fresh says whether the segment was let in as a new SYN.
func (l *TCPListener) held(in *inbox, d tcp.Drop, fresh bool) {
	x := l.catch
	switch {
	case x == nil:
	case fresh && d == tcp.DropHeld:
		x.hold(in)
	case fresh:
		x.settle(in.m.src)
	case x.waiting[in.flow] != nil && !l.half.Has(&in.flow):
		r := x.waiting[in.flow]
		if !r.decided {
			r.decided = true
			x.settle(r.flow.Src.Addr())
		}
		r.end(nil)
	}
}

// hand gives a connection whose handshake is through to Accept, or to who waits for it. Its lock and the listener's are held.
func (l *TCPListener) hand(c *TCPConn) {
	if x := l.catch; x != nil && x.waiting[c.flow] != nil {
		x.waiting[c.flow].end(c)
		return
	}
	l.queue = append(l.queue, c)
	l.waiter.wake()
}
