package stack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
)

// Groups of the tests: one of MCAST-TEST-NET (RFC 6676 §2), and a transient one (RFC 4291 §2.7).
var (
	group4 = netip.MustParseAddr("233.252.0.1")
	group6 = netip.MustParseAddr("ff15::db8:1")
)

// reports takes what the stack has told of groups since the last look: from whom, and each record, such as
// "fe80::1 TO_EX ff15::db8:1 []".
func (h *tester) reports() []string {
	h.Helper()
	h.idle()
	h.mu.Lock()
	defer h.mu.Unlock()
	names := []string{"", "IS_IN", "IS_EX", "TO_IN", "TO_EX", "ALLOW", "BLOCK"}
	var all []string
	for _, p := range h.told {
		if h.eth && p.eth.Dst != ethernet.Multicast(p.dst) {
			h.Errorf("a report to %v goes to station %v", p.dst, p.eth.Dst)
		}
		said := func(kind uint8, group netip.Addr, sources []netip.Addr) {
			all = append(all, fmt.Sprint(p.src, " ", names[kind], " ", group, " ", sources))
		}
		if p.src.Is4() {
			var m ipv4.IGMP
			if err := m.Decode(p.text); err != nil {
				h.Error(err)
			}
			if m.Type != ipv4.IGMPReportV3 {
				all = append(all, fmt.Sprintf("%v %#x %v", p.src, m.Type, m.Group))
			}
			var r ipv4.GroupRecord
			for b := m.Records; len(b) > 0; {
				n, err := r.Decode(b)
				if err != nil {
					h.Fatal(err)
				}
				said(r.Type, r.Group, r.Sources)
				b = b[n:]
			}
			continue
		}
		var msg ipv6.ICMP
		var m ipv6.MLD
		if err := errors.Join(msg.Decode(p.text, p.src, p.dst), m.Decode(&msg)); err != nil {
			h.Error(err)
		}
		if m.Type != ipv6.ListenerReportV2 {
			all = append(all, fmt.Sprintf("%v %d %v", p.src, m.Type, m.Group))
		}
		var r ipv6.GroupRecord
		for b := m.Records; len(b) > 0; {
			n, err := r.Decode(b)
			if err != nil {
				h.Fatal(err)
			}
			said(r.Type, r.Group, r.Sources)
			b = b[n:]
		}
	}
	h.told = nil
	return all
}

// tells compares reports, in any order.
func (h *tester) tells(when string, want ...string) {
	h.Helper()
	got := h.reports()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		h.Errorf("%s: told\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// group is a group of the family that the test is about, and from whom the stack speaks of it.
func (h *tester) group() (group, from netip.Addr) {
	if h.us.Is4() {
		return group4, h.peer
	}
	from = netip.IPv6Unspecified()
	if h.eth {
		from = ipv6.LinkLocal(h.ifc.mac)
	}
	return group6, from
}

// queries asks as a router does, over the Internet layer's options.
func (h *tester) queries(group netip.Addr, tenths int, change func(l *letter)) {
	h.Helper()
	l := letter{dst: allHosts, proto: ipv4.ProtoIGMP, hops: 1, options: []byte{ipv4.OptionRouterAlert, 4, 0, 0}}
	if group.Is4() {
		if !group.IsUnspecified() {
			l.dst = group
		}
		m := ipv4.IGMP{Type: ipv4.IGMPQuery, Version: 3, Group: group, MaxResponse: tenths, Robustness: 2, Interval: 125}
		b := make([]byte, 100)
		l.text = b[:m.Encode(b)]
	} else {
		l = letter{src: netip.MustParseAddr("fe80::9"), dst: allNodes, proto: ipv6.ProtoHopByHop, hops: 1}
		if !group.IsUnspecified() {
			l.dst = group
		}
		m := ipv6.MLD{Type: ipv6.ListenerQuery, Version: 2, Group: group, MaxResponse: 100 * tenths, Robustness: 2, Interval: 125}
		alert := ipv6.RouterAlertMLD()
		l.text = append(alert[:], icmp6(l.src, l.dst, m.Encode(make([]byte, m.Len())))...)
	}
	if change != nil {
		change(&l)
	}
	l.mac = ethernet.Multicast(l.dst)
	h.mail(l)
}

// general is the group of a general query.
func (h *tester) general() netip.Addr {
	if h.us.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// TestC149C194Reports: who joins a group tells the routers, twice, answers them within the time that they give, and tells them when
// it leaves; of the solicited-node groups it does by itself.
func TestC149C194Reports(t *testing.T) {
	links(t, func(h *tester) {
		h.pass(time.Minute)
		attached := h.reports()
		var nodes, state []string
		if h.eth {
			ll := ipv6.LinkLocal(h.ifc.mac)
			for _, a := range []netip.Addr{ll, server6.Addr(), second6.Addr()} {
				nodes = append(nodes, fmt.Sprint(ll, " TO_EX ", ipv6.SolicitedNode(a), " []"))
				state = append(state, fmt.Sprint(ll, " IS_EX ", ipv6.SolicitedNode(a), " []"))
			}
		}
		nodes = append(nodes, nodes...)
		if slices.Sort(nodes); !slices.Equal(slices.Sorted(slices.Values(attached)), nodes) {
			t.Errorf("attached: told %q, want %q", attached, nodes)
		}
		group, from := h.group()
		said := func(what string) string { return fmt.Sprint(from, " ", what, " ", group, " []") }
		u := bound(t, h.stack, "udp", ":5000")
		if err := u.JoinGroup(nil, group); err != nil {
			t.Fatal(err)
		}
		h.tells("joined", said("TO_EX"))
		h.pass(time.Second)
		h.tells("a second later", said("TO_EX"))
		h.pass(time.Hour)
		h.tells("an hour later")

		h.queries(h.general(), 100, nil)
		h.idle()
		h.tells("asked just now")
		h.pass(10 * time.Second)
		if h.us.Is4() {
			state = nil
		}
		h.tells("asked of all", append(state, said("IS_EX"))...)
		h.queries(group, 10, nil)
		h.pass(time.Second)
		h.tells("asked of the group", said("IS_EX"))

		if err := u.LeaveGroup(nil, group); err != nil {
			t.Fatal(err)
		}
		h.tells("left", said("TO_IN"))
		u.JoinGroup(nil, group)
		h.pass(time.Minute)
		h.reports()
		u.Close()
		h.tells("closed", said("TO_IN"))
		h.pass(time.Hour)
		h.tells("a second time", said("TO_IN"))
		if slices.Contains(h.ifc.Groups(), group) {
			t.Errorf("the interface listens to %v", h.ifc.Groups())
		}
	})
}

// RFC 9776 §9.1, RFC 9777 §6.2: queries that no router of the link has sent are not answered.
func TestC149C194ForgedQueries(t *testing.T) {
	links(t, func(h *tester) {
		group, _ := h.group()
		u := bound(t, h.stack, "udp", ":5000")
		u.JoinGroup(nil, group)
		h.pass(time.Minute)
		h.reports()
		reason := "bad-mld"
		cases := map[string]func(l *letter){
			"a hop limit of 2":  func(l *letter) { l.hops = 2 },
			"a hop limit of 64": func(l *letter) { l.hops = 64 },
		}
		if h.us.Is4() {
			reason = "bad-igmp"
			cases["no Router Alert"] = func(l *letter) { l.options = nil }
			cases["general, to the group"] = func(l *letter) { l.dst = group }
			cases["a wrong checksum"] = func(l *letter) { l.text[1] ^= 1 }
			cases["cut off"] = func(l *letter) { l.text = l.text[:7] }
		} else {
			cases["no Router Alert"] = func(l *letter) { l.proto, l.text = ipv6.ProtoICMP, l.text[8:] }
			cases["another option"] = func(l *letter) { l.text[2] = 0x1e }
			cases["a global source"] = func(l *letter) {
				alert, m := ipv6.RouterAlertMLD(), ipv6.MLD{Type: ipv6.ListenerQuery, Version: 2, Group: h.general()}
				l.src = h.us
				l.text = append(alert[:], icmp6(l.src, l.dst, m.Encode(make([]byte, m.Len())))...)
			}
		}
		for name, change := range cases {
			before := h.drops(reason)
			h.queries(h.general(), 10, change)
			if n := h.drops(reason) - before; n != 1 {
				t.Errorf("%s: %d dropped", name, n)
			}
		}
		h.pass(time.Minute)
		h.tells("asked by strangers")
		if h.us.Is4() { // RFC 4541 §2.1.1: a switch asks from 0.0.0.0
			h.queries(h.general(), 10, func(l *letter) { l.src = netip.IPv4Unspecified() })
			h.pass(time.Second)
			if got := h.reports(); len(got) != 1 {
				t.Errorf("a switch was told %q", got)
			}
		}
	})
}

// RFC 9777 §5.2.14: before there is a valid link-local address, reports come from none; then they are made again.
func TestC194ReportsBeforeDAD(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := link.Pipe(link.PipeConfig{MTU: 1500, Ethernet: true})
		h := &tester{T: t, queue: b.Queues()[0], eth: true, mac: testerMAC, us: client6.Addr(), peer: server6.Addr()}
		h.stack = New(Config{})
		go h.read()
		t.Cleanup(func() { h.stack.Close(); b.Close() })
		h.ifc, _ = h.stack.Attach(a, server6)
		ll := ipv6.LinkLocal(h.ifc.mac)
		said := func(from netip.Addr) []string {
			return []string{fmt.Sprint(from, " TO_EX ", ipv6.SolicitedNode(ll), " []"), fmt.Sprint(from, " TO_EX ", ipv6.SolicitedNode(server6.Addr()), " []")}
		}
		h.tells("attached", said(netip.IPv6Unspecified())...)
		h.pass(999 * time.Millisecond)
		h.reports()
		h.pass(time.Minute)
		h.tells("after DAD", append(said(ll), said(ll)...)...)
		h.ifc.returned(h.stack.now())
		h.pass(time.Minute)
		if got := h.reports(); len(got) < 4 {
			t.Errorf("the link is back: told %q", got)
		}
		h.ifc.RemoveAddr(server6.Addr())
		h.tells("an address is gone", fmt.Sprint(ll, " TO_IN ", ipv6.SolicitedNode(server6.Addr()), " []"))
	})
}

// heard reads what sockets have got, each as one word of letters.
func heard(t *testing.T, sockets ...*UDPConn) string {
	t.Helper()
	synctest.Wait()
	var all []string
	for _, u := range sockets {
		var got []byte
		b := make([]byte, 10)
		for {
			u.mu.Lock()
			empty := u.head == len(u.queue)
			u.mu.Unlock()
			if empty {
				break
			}
			n, err := u.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, b[:n]...)
		}
		slices.Sort(got)
		all = append(all, string(got))
	}
	return strings.Join(all, ",")
}

// two is a network of two stacks, in a bubble, for each family.
func two(t *testing.T, f func(t *testing.T, client, server *Stack, group netip.Addr)) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			client, server := pair(t, link.PipeConfig{Ethernet: true, MTU: 1500}, Config{NoDAD: true})
			group := group4
			if to.Addr().Is6() {
				group = group6
			}
			f(t, client, server, group)
		})
	})
}

// at is the group with a port.
func at(group netip.Addr) netip.AddrPort { return netip.AddrPortFrom(group, 5000) }

// RFC 1112 §7.1, RFC 9776 §3.2: a datagram to a group comes to every socket that has joined it there and has the port, from the
// sources that it wants, and to nobody else.
func TestMulticastDelivery(t *testing.T) {
	two(t, func(t *testing.T, client, server *Stack, group netip.Addr) {
		absent := second4.Addr()
		if group.Is6() {
			absent = second6.Addr()
		}
		other := group.Next()
		wide, err := server.ListenMulticastUDP("udp", nil, at(group))
		if err != nil {
			t.Fatal(err)
		}
		open := func(address netip.AddrPort) *UDPConn { return bound(t, server, "udp", address.String()) }
		first, second, stranger := open(at(group)), open(at(group)), open(at(other))
		wrong := bound(t, server, "udp", ":5001")
		for _, u := range []*UDPConn{first, stranger, wrong} {
			if err := u.JoinGroup(nil, group); err != nil {
				t.Fatal(err)
			}
		}
		all := []*UDPConn{wide, first, second, stranger, wrong}
		u := bound(t, client, "udp", ":5000")
		send := func(text string, to netip.AddrPort, want string) {
			t.Helper()
			if _, err := u.WriteToUDPAddrPort([]byte(text), to); err != nil {
				t.Fatal(err)
			}
			if got := heard(t, all...); got != want {
				t.Errorf("%s to %v: heard %q, want %q", text, to, got, want)
			}
		}
		send("a", at(group), "a,a,,,")
		send("b", at(other), ",,,,") // stranger is bound there, and has joined only the other
		send("c", at(group.Next().Next()), ",,,,")

		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		check(second.JoinSourceSpecificGroup(nil, group, absent))
		send("d", at(group), "d,d,,,")
		check(second.JoinSourceSpecificGroup(nil, group, source(client, group)))
		check(first.ExcludeSourceSpecificGroup(nil, group, source(client, group)))
		send("e", at(group), "e,,e,,")
		check(first.IncludeSourceSpecificGroup(nil, group, source(client, group)))
		check(second.LeaveSourceSpecificGroup(nil, group, source(client, group)))
		send("f", at(group), "f,f,,,")
		check(wide.LeaveGroup(nil, group))
		send("g", at(group), ",g,,,")
		first.Close()
		all[1] = stranger
		send("h", at(group), ",,,,")
		if n := server.Stats().ICMPErrorsOut; n != 0 { // RFC 1122 §3.2.2: never about a multicast
			t.Errorf("%d errors", n)
		}
	})
}

// source is the address that a stack sends to a group from.
func source(s *Stack, group netip.Addr) netip.Addr {
	src, _, _, _, _ := s.path(netip.Addr{}, group)
	return src
}

// RFC 1112 §7.1, §6.1: what a host sends to a group comes back to its own sockets, unless they say not to; how far it goes is
// theirs to say, and it is no further than the link if they do not.
func TestMulticastSending(t *testing.T) {
	two(t, func(t *testing.T, client, server *Stack, group netip.Addr) {
		near, far := listening(t, client, group), listening(t, server, group)
		u := bound(t, client, "udp", at(group).String()) // bound to the group, it sends from an address of the host
		setHops, hops := u.SetMulticastTTL, u.MulticastTTL
		if group.Is6() {
			setHops, hops = u.SetMulticastHopLimit, u.MulticastHopLimit
		}
		send := func(text string, to netip.Addr, want string) {
			t.Helper()
			if n, err := u.WriteToUDPAddrPort([]byte(text), at(to)); n != 1 || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
			if got := heard(t, near, far); got != want {
				t.Errorf("%s: heard %q, want %q", text, got, want)
			}
		}
		send("a", group, "a,a")
		u.SetMulticastLoopback(false)
		send("b", group, ",b")
		u.SetMulticastLoopback(true)
		if err := setHops(0); err != nil || hops() != 0 {
			t.Errorf("%d hops, %v", hops(), err)
		}
		send("c", group, "c,")
		if err := setHops(256); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("256 hops: %v", err)
		}
		if group.Is6() { // RFC 4291 §2.7: interface-local
			inside := netip.MustParseAddr("ff11::db8:1")
			setHops(9)
			near.JoinGroup(nil, inside)
			far.JoinGroup(nil, inside)
			send("d", inside, "d,")
		}
		for _, n := range []int{1, 9} {
			if n > 1 {
				setHops(n)
			} else {
				u = bound(t, client, "udp", ":0")
				setHops = u.SetMulticastTTL
				if group.Is6() {
					setHops = u.SetMulticastHopLimit
				}
			}
			u.WriteToUDPAddrPort([]byte("e"), at(group))
			_, p, err := far.ReadPacket(make([]byte, 1))
			if err != nil || int(p.HopLimit) != n || p.To != group || p.From.Addr() != source(client, group) {
				t.Errorf("%+v, %v, want a hop limit of %d from %v to %v", p, err, n, source(client, group), group)
			}
			near.Read(make([]byte, 1))
		}
		long := make([]byte, 4000) // in fragments, and back in one piece
		if _, err := u.WriteToUDPAddrPort(long, at(group)); err != nil {
			t.Fatal(err)
		}
		for _, r := range []*UDPConn{near, far} {
			if n, err := r.Read(make([]byte, 5000)); n != len(long) || err != nil {
				t.Errorf("read %d octets of %d, %v", n, len(long), err)
			}
		}
	})
}

// listening is a socket that has joined the group, and is closed with the test.
func listening(t *testing.T, s *Stack, group netip.Addr) *UDPConn {
	t.Helper()
	u, err := s.ListenMulticastUDP("udp", nil, at(group))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// RFC 919 §7, Linux: a broadcast comes to every socket that is bound to all addresses, also of its sender's host, without leave
// (package net sets SO_BROADCAST).
func TestBroadcast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, link.PipeConfig{Ethernet: true, MTU: 1500}, Config{NoDAD: true})
		near, far := bound(t, client, "udp4", ":5000"), bound(t, server, "udp4", ":5000")
		single := bound(t, server, "udp4", netip.AddrPortFrom(server4.Addr(), 5001).String())
		u := bound(t, client, "udp4", ":0")
		u.SetMulticastLoopback(false) // is of groups alone
		for _, to := range []netip.Addr{broadcast4, lastAddr(server4)} {
			for port := uint16(5000); port < 5002; port++ {
				if _, err := u.WriteToUDPAddrPort([]byte("a"), netip.AddrPortFrom(to, port)); err != nil {
					t.Fatal(err)
				}
			}
			if got := heard(t, near, far, single); got != "a,a," {
				t.Errorf("to %v: heard %q", to, got)
			}
		}
		named := bound(t, server, "udp4", "255.255.255.255:5002")
		u.WriteToUDPAddrPort([]byte("b"), netip.AddrPortFrom(broadcast4, 5002))
		if got := heard(t, named); got != "b" {
			t.Errorf("bound to the broadcast address: heard %q", got)
		}
		if _, err := named.WriteToUDPAddrPort([]byte("c"), netip.AddrPortFrom(client4.Addr(), 5000)); err != nil || heard(t, near) != "c" {
			t.Errorf("it cannot answer: %v", err)
		}
	})
}

// A group is joined on one interface, and sent to over one: the socket's, the zone's, or the route's.
func TestMulticastInterfaces(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			group := group4
			if to.Addr().Is6() {
				group = netip.MustParseAddr("ff12::db8:1")
			}
			s := New(Config{NoDAD: true})
			defer s.Close()
			var ifcs []*Interface
			var far []*UDPConn
			for n := range 2 {
				a, b := link.Pipe(link.PipeConfig{Ethernet: true, MTU: 1500})
				i, err := s.Attach(a, netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(64*n + 1)}), 26),
					netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:5%d::1", n)), 64))
				if err != nil {
					t.Fatal(err)
				}
				ifcs = append(ifcs, i)
				peer := host(t, b, Config{NoDAD: true}, netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(64*n + 2)}), 26))
				far = append(far, listening(t, peer, group))
			}
			u := bound(t, s, "udp", ":5000")
			send := func(to netip.Addr, want string) {
				t.Helper()
				if _, err := u.WriteToUDPAddrPort([]byte("a"), at(to)); err != nil {
					t.Fatal(err)
				}
				if got := heard(t, far...); got != want {
					t.Errorf("to %v: heard %q, want %q", to, got, want)
				}
			}
			send(group, "a,")
			u.SetMulticastInterface(ifcs[1])
			send(group, ",a")
			if group.Is6() {
				send(group.WithZone(ifcs[0].Name()), "a,")
			}
			u.SetMulticastInterface(nil)
			send(group, "a,")

			if err := u.JoinGroup(ifcs[1], group); err != nil {
				t.Fatal(err)
			}
			for n, f := range far {
				f.WriteToUDPAddrPort([]byte{byte('0' + n)}, at(group))
			}
			if got := heard(t, u); got != "1" {
				t.Errorf("heard %q, want 1", got)
			}
		})
	})
}

// The errors are Linux's.
func TestMembershipErrors(t *testing.T) {
	two(t, func(t *testing.T, client, server *Stack, group netip.Addr) {
		u := bound(t, client, "udp", ":5000")
		src := source(server, group)
		join := func() error { return u.JoinGroup(nil, group) }
		leave := func() error { return u.LeaveGroup(nil, group) }
		joinSource := func() error { return u.JoinSourceSpecificGroup(nil, group, src) }
		leaveSource := func() error { return u.LeaveSourceSpecificGroup(nil, group, src) }
		exclude := func() error { return u.ExcludeSourceSpecificGroup(nil, group, src) }
		include := func() error { return u.IncludeSourceSpecificGroup(nil, group, src) }
		lone := bound(t, New(Config{}), "udp", ":5000")
		v4, v6 := bound(t, client, "udp4", ":0"), bound(t, client, "udp6", ":0")
		for _, c := range []struct {
			what string
			do   func() error
			want error
		}{
			{"leave what is not joined", leave, syscall.EADDRNOTAVAIL},
			{"exclude from what is not joined", exclude, syscall.EINVAL},
			{"leave a source of what is not joined", leaveSource, syscall.EADDRNOTAVAIL},
			{"join", join, nil},
			{"join again", join, syscall.EADDRINUSE},
			{"join a source of what is joined", joinSource, syscall.EINVAL},
			{"include what is not excluded", include, syscall.EADDRNOTAVAIL},
			{"exclude", exclude, nil},
			{"exclude again", exclude, syscall.EADDRNOTAVAIL},
			{"include", include, nil},
			{"leave", leave, nil},
			{"join a source", joinSource, nil},
			{"join a source again", joinSource, syscall.EADDRNOTAVAIL},
			{"exclude a source that is joined", exclude, syscall.EINVAL},
			{"leave the source", leaveSource, nil},
			{"leave, with the last source gone", leave, syscall.EADDRNOTAVAIL},
			{"a host", func() error { return u.JoinGroup(nil, src) }, syscall.EINVAL},
			{"a group as source", func() error { return u.JoinSourceSpecificGroup(nil, group, group) }, syscall.EINVAL},
			{"no address", func() error { return u.JoinGroup(nil, netip.Addr{}) }, syscall.EINVAL},
			{"another stack's interface", func() error { return u.JoinGroup(server.view.Load().ifaces[1], group) }, syscall.ENODEV},
			{"to send by it", func() error { return u.SetMulticastInterface(server.view.Load().ifaces[1]) }, syscall.ENODEV},
			{"no interface", func() error { return lone.JoinGroup(nil, group) }, syscall.ENODEV},
			{"IPv4 on an IPv6 socket", func() error { return v6.JoinGroup(nil, group4) }, syscall.EINVAL},
			{"IPv6 on an IPv4 socket", func() error { return v4.JoinGroup(nil, group6) }, syscall.EINVAL},
			{"too many groups", func() error {
				for g, n := group, 0; n <= maxMemberships; g, n = g.Next(), n+1 {
					if err := u.JoinGroup(nil, g); err != nil {
						return err
					}
				}
				return nil
			}, syscall.ENOBUFS},
			{"too many sources", func() error {
				for a, n := src, 0; n <= maxSources; a, n = a.Next(), n+1 {
					if err := u.ExcludeSourceSpecificGroup(nil, group, a); err != nil {
						return err
					}
				}
				return nil
			}, syscall.ENOBUFS},
			{"a port that is shared", func() error {
				_, err := client.ListenPacket("udp", at(group).String())
				return err
			}, syscall.EADDRINUSE}, // with u, which is bound to all
			{"closed", func() error { u.Close(); return join() }, net.ErrClosed},
		} {
			if err := c.do(); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", c.what, err, c.want)
			}
		}
		for _, i := range client.view.Load().ifaces {
			for _, g := range i.Groups() {
				if !slices.ContainsFunc(i.Addrs(), func(a Addr) bool { return a.Prefix.Addr().Is6() && g == ipv6.SolicitedNode(a.Prefix.Addr()) }) {
					t.Errorf("%v is still listened to", g)
				}
			}
		}
	})
}
