package stack

import (
	"net/netip"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/neighbor"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// inputARP is RFC 826's packet reception: the sender is learned, and who asks for us is answered.
func (i *Interface) inputARP(now time.Duration, in *inbox, b []byte) {
	s := i.stack
	var a ethernet.ARP
	if err := a.Decode(b); err != nil {
		in.drop(BadARP)
		return
	}
	i.hearARP(now, &a)
	if i.has(a.SenderIP) {
		if a.SenderHW != i.mac { // RFC 5227 §2.4: somebody else claims our address
			in.drop(AddressConflict)
			if last := i.neigh.warned.Load(); now-time.Duration(last) >= defendInterval && i.neigh.warned.CompareAndSwap(last, int64(now)) {
				s.log.Warn("address conflict", "interface", i.name, "address", a.SenderIP, "station", a.SenderHW.String())
			}
		}
		return
	}
	ours := i.has(a.TargetIP)
	m := neighbor.Message{IP: a.SenderIP, HW: a.SenderHW, HasHW: true, Kind: neighbor.ARPOther}
	switch {
	case ours && a.Op == ethernet.OpReply:
		m.Kind = neighbor.ARPReply
	case ours:
		m.Kind = neighbor.ARPRequest
	}
	if !a.SenderIP.IsUnspecified() { // RFC 5227 §1.1: a probe says nothing of its sender
		i.neigh.update(now, m)
	}
	if ours && a.Op == ethernet.OpRequest {
		i.sendARP(a.SenderHW, ethernet.ARP{Op: ethernet.OpReply, SenderHW: i.mac, SenderIP: a.TargetIP, TargetHW: a.SenderHW, TargetIP: a.SenderIP})
	}
}

// defendInterval: RFC 5227 §1.1, DEFEND_INTERVAL. A conflict is not said more often, whoever floods the link.
const defendInterval = 10 * time.Second

// inputNDP is RFC 4861 §7.2: solicitations are answered, advertisements learned. RAs and
// redirects are taken in where Autoconfigure was called.
func (i *Interface) inputNDP(now time.Duration, in *inbox, msg *ipv6.ICMP) {
	m := &in.m
	var n ipv6.NDP
	h := ipv6.Header{Src: m.src, Dst: m.dst, HopLimit: m.hops}
	if !i.caps.Ethernet || n.Decode(msg) != nil || n.Check(&h) != nil {
		in.drop(BadNDP)
		return
	}
	switch n.Type {
	case ipv6.NeighborSolicitation:
		i.solicited(now, in, &n)
	case ipv6.NeighborAdvertisement:
		i.advertised(now, in, &n)
	case ipv6.RouterAdvertisement, ipv6.Redirect:
		i.inputRouter(now, in, &n)
	case ipv6.RouterSolicitation:
		i.routerSolicited(now)
	default:
		in.drop(UnknownICMP)
	}
}

// solicited answers a Neighbor Solicitation for one of our addresses (RFC 4861 §7.2.3).
func (i *Interface) solicited(now time.Duration, in *inbox, n *ipv6.NDP) {
	m := &in.m
	state := i.stateOf(n.Target)
	if state == 0 {
		in.drop(OtherHost)
		return
	}
	reply := ipv6.NDP{Type: ipv6.NeighborAdvertisement, Target: n.Target, Solicited: true, TargetLL: i.mac, HasTargetLL: true,
		// RFC 4429 §3.3: "the reply MUST have the Override flag cleared (O=0)" while the address is optimistic.
		Override: state == AddrValid, Router: i.stack.view.Load().forwarding.Enabled}
	if m.src.IsUnspecified() { // duplicate address detection, somebody's or our own come back
		if n.HasNonce && i.dad.ours(n.Target, n.Nonce) { // RFC 7527 §4.2: a loop in the network
			in.drop(LoopedBack)
			return
		}
		if state == AddrOptimistic { // RFC 4862 §5.4.3: two ask for it at once, and neither may have it
			i.duplicate(n.Target)
			return
		}
		reply.Solicited = false
		i.sendNDP(ethernet.Multicast(allNodes), n.Target, allNodes, &reply)
		return
	}
	if i.has(m.src) {
		in.drop(BadSource)
		return
	}
	if n.HasSourceLL {
		i.neigh.update(now, neighbor.Message{IP: m.src, HW: n.SourceLL, HasHW: true, Kind: neighbor.NS})
	}
	// The answer goes to the station that the question came from, whatever the cache knows: a host that is optimistic itself
	// asks without its link-layer address, and two of them would wait for each other.
	i.sendNDP(m.station, n.Target, m.src, &reply)
}

// ndpRoom is more than the body of the longest message that we send: a solicitation with an address and a nonce.
const ndpRoom = 64

// advertised learns from a Neighbor Advertisement (RFC 4861 §7.2.5).
func (i *Interface) advertised(now time.Duration, in *inbox, n *ipv6.NDP) {
	m := &in.m
	state := i.stateOf(n.Target)
	if state != 0 && n.HasTargetLL && n.TargetLL == i.mac && m.station == i.mac { // what we said before, come back
		in.drop(LoopedBack)
		return
	}
	switch state {
	case AddrOptimistic: // RFC 4862 §5.4.4: the address is somebody else's
		i.duplicate(n.Target)
	case AddrValid:
		in.drop(AddressConflict)
	default:
		i.neigh.update(now, neighbor.Message{IP: n.Target, HW: n.TargetLL, HasHW: n.HasTargetLL, Kind: neighbor.NA,
			Solicited: n.Solicited, Override: n.Override, Router: n.Router})
	}
}

// sendNDP sends a message straight to the station hw, past the neighbour cache that it serves.
func (i *Interface) sendNDP(hw ethernet.Addr, src, dst netip.Addr, n *ipv6.NDP) {
	const ip = ethernet.HeaderLen + ipv6.HeaderLen
	var body [ndpRoom]byte
	var b [ip + ipv6.ICMPLen + ndpRoom]byte
	msg := n.Encode(body[:])
	size := msg.Encode(b[ip:], src, dst)
	e := ethernet.Header{Dst: hw, Src: i.mac, Type: ethernet.TypeIPv6}
	e.Encode(b[:])
	h := ipv6.Header{PayloadLength: size, NextHeader: ipv6.ProtoICMP, HopLimit: ipv6.HopLimitNDP, Src: src, Dst: dst}
	h.Encode(b[ethernet.HeaderLen:])
	i.write(b[:ip+size])
}

// duplicate withdraws an address that turned out to be taken.
func (i *Interface) duplicate(a netip.Addr) {
	i.stack.stats.drop(AddressConflict)
	i.stack.log.Warn("duplicate address", "interface", i.name, "address", a)
	if t := i.stack.config.Trace; t != nil {
		t(&TraceEvent{At: i.stack.now(), Kind: AddressLost, Interface: i.name, Local: netip.AddrPortFrom(a, 0)})
	}
	i.remove(a)
	i.duplicated(a)
}
