package stack

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/groups"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// multicast is which groups an interface listens to: those that sockets have joined, and those that Neighbor Discovery needs.
type multicast struct {
	sync.Mutex
	ifc       *Interface
	igmp, mld *groups.Host
	solicited []netip.Addr // the solicited-node groups of our addresses, in order
	alarm     alarm
	closed    bool
}

// itself is the number of the stack, as who listens to solicited-node groups, among those of sockets.
const itself = 0

// RFC 4291 §2.7.1: all nodes, on the link and in the node itself; RFC 1112 §4: all hosts.
var (
	allNodes          = netip.MustParseAddr("ff02::1")
	allNodesInterface = netip.MustParseAddr("ff01::1")
	allHosts          = netip.AddrFrom4([4]byte{224, 0, 0, 1})
)

// forAll reports whether a is a group that every host is in, without joining it.
func forAll(a netip.Addr) bool { return a == allHosts || a == allNodes || a == allNodesInterface }

func (m *multicast) init(i *Interface) {
	m.ifc = i
	m.igmp = groups.New(groups.Config{Rand: i.stack.secret.random})
	m.mld = groups.New(groups.Config{Rand: i.stack.secret.random, IPv6: true})
	m.alarm = alarm{stack: i.stack, fire: m.tick}
}

// host is the protocol that tells of a group.
func (m *multicast) host(group netip.Addr) *groups.Host {
	if group.Is4() {
		return m.igmp
	}
	return m.mld
}

// joined reports whether we listen to the multicast group a (RFC 1112 §4, RFC 4291 §2.8).
func (i *Interface) joined(a netip.Addr) bool {
	if forAll(a) || a == allRouters && i.advertises() {
		return true
	}
	m := &i.multi
	m.Lock()
	listens := m.host(a).Listens(a)
	m.Unlock()
	if listens || a.Is4() || i.caps.Ethernet {
		return listens
	}
	for _, x := range *i.addrs.Load() {
		if x.Prefix.Addr().Is6() && a == ipv6.SolicitedNode(x.Prefix.Addr()) {
			return true
		}
	}
	return false
}

// listen says from whom a socket wants to hear a group, and returns what is to be sent about that. The error is groups.ErrFull.
func (m *multicast) listen(socket uint64, group netip.Addr, f groups.Filter) (frames [][]byte, err error) {
	frames = m.work(func(now time.Duration) { err = m.host(group).Listen(now, socket, group, f) })
	return frames, err
}

// follow listens to the solicited-node groups of the addresses that the interface has now. RFC 4861 §7.2.1: "When a
// multicast-capable interface becomes enabled, the node MUST join […] the solicited-node multicast address corresponding to
// each of the IP addresses assigned to the interface." Where there is no Neighbor Discovery, nobody is told.
func (i *Interface) follow() {
	m := &i.multi
	if !i.caps.Ethernet {
		return
	}
	m.do(func(now time.Duration) {
		var want []netip.Addr
		for _, a := range *i.addrs.Load() {
			if addr := a.Prefix.Addr(); addr.Is6() {
				want = append(want, ipv6.SolicitedNode(addr))
			}
		}
		slices.SortFunc(want, netip.Addr.Compare)
		want = slices.Compact(want)
		for _, g := range m.solicited {
			if !slices.Contains(want, g) {
				m.mld.Listen(now, itself, g, groups.Filter{})
			}
		}
		for _, g := range want {
			m.mld.Listen(now, itself, g, groups.Filter{Exclude: true}) // where it finds no room, joined still goes by it
		}
		m.solicited = want
	})
}

// announceGroups tells of all groups anew: the link is back. With mld alone it has a link-local address to speak from only now, and
// what was said from none routers may not heed (RFC 9777 §5.2.14).
func (i *Interface) announceGroups(mldAlone bool) {
	i.multi.do(func(now time.Duration) {
		if !mldAlone {
			i.multi.igmp.Announce(now)
		}
		i.multi.mld.Announce(now)
	})
}

// tick sends what is due.
func (m *multicast) tick(time.Duration) {
	m.Lock()
	fired := m.alarm.fired()
	m.Unlock()
	if fired {
		m.do(func(time.Duration) {})
	}
}

// do lets f work under the lock, and sends what is due after it.
func (m *multicast) do(f func(now time.Duration)) { m.ifc.writeAll(m.work(f)) }

// work lets f work under the lock, and returns what is due after it.
func (m *multicast) work(f func(now time.Duration)) [][]byte {
	now := m.ifc.stack.now()
	m.Lock()
	defer m.Unlock()
	if m.closed {
		return nil
	}
	f(now)
	return m.due(now)
}

// writeAll sends frames that are whole.
func (i *Interface) writeAll(frames [][]byte) {
	for _, b := range frames {
		i.write(b)
	}
}

// due is what is to be sent now, as whole frames. Nobody is told of groups on the loopback interface.
func (m *multicast) due(now time.Duration) (frames [][]byte) {
	var msg groups.Message
	for _, h := range []*groups.Host{m.igmp, m.mld} {
		room := m.ifc.MTU() - igmpHeader - ipv4.IGMPLen
		if h == m.mld {
			room = max(m.ifc.MTU(), ipv6.MinMTU) - mldHeader - ipv6.ICMPLen
		}
		for h.Next(now, room, &msg) {
			switch {
			case m.ifc.loopback:
			case h == m.igmp:
				frames = append(frames, m.ifc.igmpFrame(&msg))
			default:
				frames = append(frames, m.ifc.mldFrame(&msg))
			}
		}
		if at, ok := h.Deadline(); ok {
			m.alarm.set(at)
		}
	}
	return frames
}

func (m *multicast) close() {
	m.Lock()
	m.closed = true
	m.alarm.stop()
	m.Unlock()
}

// Headers of IP in front of the messages, in octets, with the Router Alert.
const (
	igmpHeader = ipv4.MinHeaderLen + 4
	mldHeader  = ipv6.HeaderLen + 8
)

// igmpFrame is an IGMP message as a frame. RFC 9776 §4: "Every IGMP message described in this document is sent with an IP
// Time-to-Live of 1, IP Precedence of Internetwork Control (e.g., Type of Service 0xc0), and carries an IP Router Alert option".
func (i *Interface) igmpFrame(m *groups.Message) []byte {
	msg := ipv4.IGMP{Type: m.Type, Group: m.Group, NumRecords: len(m.Records)}
	if !msg.Group.IsValid() {
		msg.Group = netip.IPv4Unspecified()
	}
	for k := range m.Records {
		r := ipv4.GroupRecord(m.Records[k])
		msg.Records = r.Append(msg.Records)
	}
	b, at := i.frame(igmpHeader+ipv4.IGMPLen+len(msg.Records), m.Dst, ethernet.TypeIPv4)
	src, ok := i.stack.view.Load().source(m.Dst, &i.onLink)
	if !ok {
		src = netip.IPv4Unspecified() // RFC 9776 §4.2.14: "may be used by a system that has not yet acquired an IP address"
	}
	h := ipv4.Header{TOS: 0xc0, Length: len(b) - at, DF: true, TTL: 1, Protocol: ipv4.ProtoIGMP, Src: src, Dst: m.Dst,
		Options: []byte{ipv4.OptionRouterAlert, 4, 0, 0}}
	h.Encode(b[at:])
	msg.Encode(b[at+igmpHeader:])
	return b
}

// mldFrame is an MLD message as a frame. RFC 9777 §5.2.14: "An MLDv2 Report MUST be sent with a valid IPv6 link-local source
// address, or the unspecified address (::), if the sending interface has not acquired a valid link-local address yet."
func (i *Interface) mldFrame(m *groups.Message) []byte {
	msg := ipv6.MLD{Type: m.Type, Group: m.Group, NumRecords: len(m.Records)}
	if !msg.Group.IsValid() {
		msg.Group = netip.IPv6Unspecified()
	}
	for k := range m.Records {
		r := ipv6.GroupRecord(m.Records[k])
		msg.Records = r.Append(msg.Records)
	}
	b, at := i.frame(mldHeader+ipv6.ICMPLen+msg.Len(), m.Dst, ethernet.TypeIPv6)
	src := netip.IPv6Unspecified()
	for _, a := range *i.addrs.Load() {
		if addr := a.Prefix.Addr(); a.State == AddrValid && addr.Is6() && addr.IsLinkLocalUnicast() {
			src = addr
		}
	}
	h := ipv6.Header{PayloadLength: len(b) - at - ipv6.HeaderLen, NextHeader: ipv6.ProtoHopByHop, HopLimit: 1, Src: src, Dst: m.Dst}
	h.Encode(b[at:])
	alert := ipv6.RouterAlertMLD()
	copy(b[at+ipv6.HeaderLen:], alert[:])
	icmp := msg.Encode(make([]byte, msg.Len()))
	icmp.Encode(b[at+mldHeader:], src, m.Dst)
	return b
}

// frame is room for an IP packet of n octets to a group, which begins at octet at.
func (i *Interface) frame(n int, group netip.Addr, t ethernet.EtherType) (b []byte, at int) {
	if i.caps.Ethernet {
		at = ethernet.HeaderLen
	}
	b = make([]byte, at+n)
	if at > 0 {
		h := ethernet.Header{Dst: ethernet.Multicast(group), Src: i.mac, Type: t}
		h.Encode(b)
	}
	return b, at
}

// inputIGMP takes what a router asks, and in older versions what another host reports.
func (i *Interface) inputIGMP(in *inbox) {
	m := &in.m
	var msg ipv4.IGMP
	if msg.Decode(m.text) != nil || m.hops != 1 {
		in.drop(BadIGMP)
		return
	}
	switch msg.Type {
	case ipv4.IGMPQuery:
		// RFC 9776 §9.1 has two ways to tell a query that was forged from afar: one of version 2 or 3 without a Router Alert, and a
		// general one that is not to all hosts.
		if msg.Version > 1 && !in.ip4.RouterAlert() || msg.Group.IsUnspecified() && m.dst != allHosts {
			in.drop(BadIGMP)
			return
		}
		q := groups.Query{Version: msg.Version, Group: msg.Group, MaxResponse: time.Duration(msg.MaxResponse) * time.Second / 10,
			Robustness: msg.Robustness, Interval: time.Duration(msg.Interval) * time.Second}
		for k := range askedSources(len(msg.Sources) / 4) {
			q.Sources = append(q.Sources, msg.Source(k))
		}
		i.multi.do(func(now time.Duration) { i.multi.igmp.Query(now, &q) })
	case ipv4.IGMPReportV1, ipv4.IGMPReportV2:
		i.multi.do(func(now time.Duration) { i.multi.igmp.Heard(now, msg.Group) })
	}
}

// inputMLD is inputIGMP for IPv6. RFC 9777 §6.2: "the node checks if the source address of the message is a valid link-local
// address, if the Hop Limit is set to 1, and if the Router Alert option is present in the Hop-by-Hop Options header of the IPv6
// packet. If any of these checks fail, the packet is dropped."
func (i *Interface) inputMLD(in *inbox, icmp *ipv6.ICMP) {
	m := &in.m
	var msg ipv6.MLD
	if msg.Decode(icmp) != nil || m.hops != 1 || !m.src.IsLinkLocalUnicast() ||
		!ipv6.RouterAlert(in.ip6.NextHeader, m.packet[ipv6.HeaderLen:]) {
		in.drop(BadMLD)
		return
	}
	switch msg.Type {
	case ipv6.ListenerQuery:
		q := groups.Query{Version: msg.Version, Group: msg.Group, MaxResponse: time.Duration(msg.MaxResponse) * time.Millisecond,
			Robustness: msg.Robustness, Interval: time.Duration(msg.Interval) * time.Second}
		for k := range askedSources(len(msg.Sources) / 16) {
			q.Sources = append(q.Sources, msg.Source(k))
		}
		i.multi.do(func(now time.Duration) { i.multi.mld.Query(now, &q) })
	case ipv6.ListenerReportV1:
		i.multi.do(func(now time.Duration) { i.multi.mld.Heard(now, msg.Group) })
	}
}

// askedSources is how many of the sources of a query are looked at: none, which asks for all, where they are more than a packet of
// Ethernet could name over IPv4.
func askedSources(n int) int {
	if n > maxAsked {
		return 0
	}
	return n
}

// maxAsked is how many that is: RFC 9776 §4.1.8.
const maxAsked = 366

// Groups lists the multicast groups that the interface listens to, but for those that every host is in.
func (i *Interface) Groups() []netip.Addr {
	i.multi.Lock()
	defer i.multi.Unlock()
	var all []netip.Addr
	for _, h := range []*groups.Host{i.multi.igmp, i.multi.mld} {
		for a := range h.All() {
			all = append(all, a)
		}
	}
	return all
}
