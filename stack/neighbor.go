package stack

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/autoconf"
	"github.com/seed87e66d9f/waybill/internal/neighbor"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
)

// Bounds on what waits for neighbours to answer. RFC 1122 §2.3.2.2 asks for at least one packet each; connections wait
// by themselves and need none of this.
const (
	maxWaiting    = 64  // packets for one neighbour: the fragments of one datagram at least
	maxWaitingAll = 256 // packets on one interface
)

// neighbors is an interface's neighbour cache with who waits for it: ARP for IPv4, NDP for IPv6.
type neighbors struct {
	sync.Mutex
	ifc     *Interface
	cache   *neighbor.Cache
	parked  map[netip.Addr]*parked
	packets int // in parked, all told
	alarm   alarm
	warned  atomic.Int64 // when a conflict was last logged: a time.Duration, outside of the lock
}

// parked is what waits for one neighbour.
type parked struct {
	conns   []*TCPConn
	listed  map[*TCPConn]struct{} // those in conns: there may be as many as connections that are opened to one router at once
	packets []waiting             // whole frames, but for the destination
}

// waiting is a packet, with its number for TracePacket.
type waiting struct {
	frame  []byte
	number uint64
}

func (n *neighbors) init(i *Interface) {
	n.ifc = i
	if i.caps.Ethernet {
		n.cache = neighbor.New(neighbor.Config{Rand: i.stack.secret.random})
		n.parked = map[netip.Addr]*parked{}
		n.alarm = alarm{stack: i.stack, fire: n.tick}
	}
}

// resolve finds the station that p goes to, or lets c, or a copy of p, wait for it.
func (n *neighbors) resolve(now time.Duration, p *packet, c *TCPConn) (ethernet.Addr, outcome) {
	n.Lock()
	defer n.Unlock()
	if n.parked == nil { // the interface is closed
		return ethernet.Addr{}, failed
	}
	hw, r := n.cache.Resolve(now, p.next)
	if at, ok := n.cache.Deadline(); ok {
		n.alarm.set(at)
	}
	switch r {
	case neighbor.Resolved:
		if c != nil && c.confirm {
			c.confirm = false
			n.cache.Confirm(now, p.next)
		}
		if c != nil && c.doubt {
			c.doubt = false
			n.cache.Doubt(now, p.next)
			if at, ok := n.cache.Deadline(); ok {
				n.alarm.set(at)
			}
		}
		return hw, ready
	case neighbor.Failed:
		n.ifc.stack.stats.drop(NeighborFailed)
		return hw, failed
	case neighbor.Full:
		n.ifc.stack.stats.drop(NeighborFull)
		return hw, failed
	}
	w := n.parked[p.next]
	if w == nil {
		w = new(parked)
		n.parked[p.next] = w
	}
	if c != nil {
		if _, listed := w.listed[c]; !listed {
			if w.listed == nil {
				w.listed = map[*TCPConn]struct{}{}
			}
			w.listed[c] = struct{}{}
			w.conns = append(w.conns, c)
		}
		return hw, pending
	}
	n.keep(w, p)
	return hw, pending
}

// keep copies p to wait. RFC 1122 §2.3.2.2: "The link layer SHOULD save (rather than discard) at least one (the latest)
// packet of each set of packets destined to the same unresolved IP address".
func (n *neighbors) keep(w *parked, p *packet) {
	switch {
	case p.divided:
		return
	case len(w.packets) == maxWaiting:
		w.packets = slices.Delete(w.packets, 0, 1)
		n.packets--
		n.ifc.stack.stats.drop(NeighborQueue)
	case n.packets == maxWaitingAll:
		n.ifc.stack.stats.drop(NeighborQueue)
		return
	}
	b := slices.Clone(p.out[0].Head)
	for _, t := range p.out[0].Text {
		b = append(b, t...)
	}
	n.finish(b, &p.out[0].Offload)
	w.packets = append(w.packets, waiting{b, p.number})
	n.packets++
}

// finish writes the rest of the header, and the checksum that was left to the device: the copy is sent as plain bytes.
func (n *neighbors) finish(frame []byte, o *link.Offload) {
	h := ethernet.Header{Src: n.ifc.mac, Type: ethernet.TypeIPv4}
	if frame[ethernet.HeaderLen]>>4 == 6 {
		h.Type = ethernet.TypeIPv6
	}
	h.Encode(frame)
	if o.Partial {
		completeChecksum(frame, o)
	}
}

// update takes what an ARP packet or an NDP message says of its sender, and lets go on who waits for it.
func (n *neighbors) update(now time.Duration, m neighbor.Message) {
	n.Lock()
	if n.parked == nil {
		n.Unlock()
		return
	}
	change := n.cache.Update(now, m)
	var w *parked
	if change.Resolved || change.Updated {
		w = n.take(m.IP)
	}
	if at, ok := n.cache.Deadline(); ok {
		n.alarm.set(at)
	}
	n.Unlock()
	if i := n.ifc; i.auto.on.Load() && (change.Resolved || change.NotRouter || m.Kind == neighbor.NA && m.Solicited) {
		i.learn(now, func(h *autoconf.Host) {
			h.Reachable(m.IP)
			if change.NotRouter {
				h.NotRouter(m.IP)
			}
		})
	}
	n.release(now, w, m.HW)
}

// take removes who waits for ip. The lock is held.
func (n *neighbors) take(ip netip.Addr) *parked {
	w := n.parked[ip]
	if w != nil {
		delete(n.parked, ip)
		n.packets -= len(w.packets)
	}
	return w
}

// release sends what waited.
func (n *neighbors) release(now time.Duration, w *parked, hw ethernet.Addr) {
	if w == nil {
		return
	}
	for _, p := range w.packets {
		copy(p.frame, hw[:])
		n.ifc.writeAs(p.number, p.frame)
	}
	n.resume(now, w)
}

// resume lets the connections go on: they ask again, and are answered.
func (n *neighbors) resume(now time.Duration, w *parked) {
	for _, c := range w.conns {
		c.mu.Lock()
		c.output(now)
		c.mu.Unlock()
	}
}

// tick sends the solicitations that are due, and gives up on neighbours that have not answered.
func (n *neighbors) tick(now time.Duration) {
	n.Lock()
	if !n.alarm.fired() {
		n.Unlock()
		return
	}
	gone := make(map[netip.Addr]*parked)
	lost := slices.Clone(n.cache.Expire(now))
	for _, ip := range lost {
		if w := n.take(ip); w != nil {
			gone[ip] = w
		}
	}
	var ask []neighbor.Solicit
	for {
		q, ok := n.cache.Next(now)
		if !ok {
			break
		}
		ask = append(ask, q)
	}
	if at, ok := n.cache.Deadline(); ok {
		n.alarm.set(at)
	}
	n.Unlock()
	for _, q := range ask {
		n.ifc.solicit(q)
	}
	n.ifc.lost(now, lost)
	for ip, w := range gone {
		n.ifc.stack.stats.dropN(NeighborFailed, len(w.packets))
		n.ifc.stack.hostUnreachable(ip)
		n.ifc.undelivered(now, w)
		n.resume(now, w)
	}
}

// solicit asks for a neighbour's station address (RFC 826, RFC 4861 §7.2.2).
func (i *Interface) solicit(q neighbor.Solicit) {
	src, ok := i.stack.view.Load().source(q.IP, &i.onLink)
	if !ok {
		return
	}
	hw := ethernet.Broadcast
	if q.Unicast {
		hw = q.HW
	}
	if q.IP.Is4() {
		i.sendARP(hw, ethernet.ARP{Op: ethernet.OpRequest, SenderHW: i.mac, SenderIP: src, TargetIP: q.IP})
		return
	}
	m := ipv6.NDP{Type: ipv6.NeighborSolicitation, Target: q.IP}
	// RFC 4429 §3.2: "A node MUST NOT use an Optimistic Address as the source address of a Neighbor Solicitation." It departs
	// from that in leaving out the option with our link-layer address alone, which is what changes neighbours' caches (§2.2).
	if i.stateOf(src) == AddrValid {
		m.SourceLL, m.HasSourceLL = i.mac, true
	}
	dst := ipv6.SolicitedNode(q.IP)
	if q.Unicast {
		dst = q.IP
	} else {
		hw = ethernet.Multicast(dst)
	}
	i.sendNDP(hw, src, dst, &m)
}

func (i *Interface) stateOf(a netip.Addr) AddrState {
	for _, x := range *i.addrs.Load() {
		if x.Prefix.Addr() == a {
			return x.State
		}
	}
	return 0
}

// sendARP sends an ARP packet to the station hw.
func (i *Interface) sendARP(hw ethernet.Addr, a ethernet.ARP) {
	// RFC 3927 §2.5: "All ARP packets (*replies* as well as requests) that contain a Link-Local 'sender IP address' MUST be
	// sent using link-layer broadcast instead of link-layer unicast."
	if a.SenderIP.IsLinkLocalUnicast() {
		hw = ethernet.Broadcast
	}
	var b [ethernet.HeaderLen + ethernet.ARPLen]byte
	h := ethernet.Header{Dst: hw, Src: i.mac, Type: ethernet.TypeARP}
	n := h.Encode(b[:])
	n += a.Encode(b[n:])
	i.write(b[:n])
}

// write sends a frame that is whole.
func (i *Interface) write(b []byte) { i.writeAs(i.stack.number(), b) }

func (i *Interface) writeAs(number uint64, b []byte) {
	p := i.stack.newPacket()
	p.number = number
	p.out[0] = link.Packet{Head: b}
	n, err := i.queues[0].Write(p.out[:])
	i.written(p, n, err)
	i.stack.free(p)
}

func (n *neighbors) close() {
	n.Lock()
	n.alarm.stop()
	n.parked = nil
	n.Unlock()
}
