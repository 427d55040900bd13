package stack

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
)

// testerLocal is the tester's link-local address.
var testerLocal = netip.MustParseAddr("fe80::7e57")

// destinations are where the tables of these files have something sent to: by the tester up to loopback, and by the stack from
// broadcast on.
var destinations = strings.Fields("ours second link-local broadcast network hosts group loopback tester tester-local")

// place is the address of that name in the family at hand, with a zone where it needs one; not ok: there is none, or none on
// such a wire.
func (h *tester) place(name string) (a netip.Addr, ok bool) {
	six := h.us.Is6()
	switch name {
	case "any", "":
		return a, true
	case "ours":
		return h.peer, true
	case "second":
		return h.second(), true
	case "tester":
		return h.us, true
	case "loopback":
		return loopbackOf(h.us), true
	case "broadcast":
		return broadcast4, !six
	case "network":
		return lastAddr(server4), !six
	case "hosts":
		if six {
			return allNodes.WithZone(h.ifc.Name()), true
		}
		return allHosts, true
	case "group":
		if six {
			return group6, true
		}
		return group4, true
	case "link-local":
		a, ok = h.ifc.local6()
		return a.WithZone(h.ifc.Name()), ok && six
	case "tester-local":
		return testerLocal.WithZone(h.ifc.Name()), h.eth && six
	}
	panic(name)
}

// local6 is the interface's IPv6 link-local address.
func (i *Interface) local6() (netip.Addr, bool) {
	for _, a := range i.Addrs() {
		if addr := a.Prefix.Addr(); addr.Is6() && addr.IsLinkLocalUnicast() {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// station is the Ethernet address of what goes to a group or to all hosts; else zero.
func station(to netip.Addr) (mac ethernet.Addr) {
	switch {
	case to.IsMulticast():
		return ethernet.Multicast(to)
	case to == broadcast4, to == lastAddr(server4):
		return ethernet.Broadcast
	}
	return mac
}

// introduce lets the stack know the tester's link-local address, for which the tester does not answer by itself.
func (h *tester) introduce() {
	if to, ok := h.place("link-local"); ok {
		h.ndp(h.ifc.mac, testerLocal, to.WithZone(""), &ipv6.NDP{Type: ipv6.NeighborSolicitation, Target: to.WithZone(""), SourceLL: h.mac, HasSourceLL: true})
		h.neighbor()
	}
}

// elsewhere is a second link of the stack's, with a tester at its other end.
func (h *tester) elsewhere() *tester {
	a, b := link.Pipe(link.PipeConfig{MTU: 1500, Ethernet: h.eth})
	far := &tester{T: h.T, stack: h.stack, queue: b.Queues()[0], eth: h.eth, mac: testerMAC, us: netip.MustParseAddr("203.0.113.1"), peer: netip.MustParseAddr("203.0.113.2")}
	if h.us.Is6() {
		far.us, far.peer = netip.MustParseAddr("2001:db8:113::1"), netip.MustParseAddr("2001:db8:113::2")
	}
	var err error
	if far.ifc, err = h.stack.Attach(a, netip.MustParsePrefix("203.0.113.2/24"), netip.MustParsePrefix("2001:db8:113::2/64")); err != nil {
		h.Fatal(err)
	}
	go far.read()
	h.Cleanup(func() { b.Close() })
	far.neighbor()
	return far
}

// open binds a UDP socket to port 6000 of a place, over one interface alone where on is given.
func (h *tester) open(at netip.Addr, on *Interface) *UDPConn {
	h.Helper()
	listen := h.stack.ListenUDP
	if on != nil {
		listen = on.ListenUDP
	}
	u, err := listen("udp", netip.AddrPortFrom(at, 6000))
	if err != nil {
		h.Fatalf("bound to %v: %v", at, err)
	}
	return u
}

// hearings is what a socket hears that is bound somewhere, as on Linux. One departure stands with UDPConn.JoinGroup: a socket
// that has not joined a group does not hear it because another has (Linux's IP_MULTICAST_ALL).
var hearings = []struct{ bind, hears string }{
	{"any", "ours second link-local broadcast network hosts"},
	{"ours", "ours"},
	{"second", "second"},
	{"link-local", "link-local"},
	{"broadcast", "broadcast"},
	{"network", "network"},
	{"hosts", "hosts"},
	{"group", ""},
	{"loopback", ""}, // what comes from outside to 127.0.0.1 or ::1 never arrives
}

// TestUDPHears: packetimpact's udp_socket_send_recv and udp_any_addr_recv_unicast, what is received: where a socket is bound,
// and where a datagram was sent, decide whether they meet. Who sent to one host is told where they do not (RFC 1122 §4.1.3.1),
// who sent to many never is.
func TestUDPHears(t *testing.T) {
	links(t, func(h *tester) {
		try := func(name string, u *UDPConn, hears string) {
			t.Helper()
			defer u.Close()
			for _, dest := range destinations[:8] {
				to, ok := h.place(dest)
				if !ok {
					continue
				}
				to = to.WithZone("")
				h.pass(2 * time.Second) // else the tester would have been told enough
				h.mail(letter{dst: to, mac: station(to), proto: ipv4.ProtoUDP,
					text: udpText(netip.AddrPortFrom(h.us, 5000), netip.AddrPortFrom(to, 6000), dest)})
				got, want := h.got(u), slices.Contains(strings.Fields(hears), dest)
				if want && !slices.Equal(got, []string{dest}) || !want && len(got) > 0 {
					t.Errorf("%s hears %q of what was sent to %s, want it %v", name, got, dest, want)
				}
				refused := !want && station(to) == ethernet.Addr{} && dest != "loopback"
				seen := h.sent()
				if refused != (len(seen) == 1) || refused && (seen[0].text[0] != ipv4.Unreachable && seen[0].text[0] != ipv6.Unreachable) {
					t.Errorf("%s, and what was sent to %s: answered by %v", name, dest, seen)
				}
			}
		}
		matrix := func(name string, on *Interface, nothing bool) {
			for _, x := range hearings {
				at, ok := h.place(x.bind)
				if !ok {
					continue
				}
				if nothing {
					x.hears = ""
				}
				try("a socket bound to "+x.bind+name, h.open(at, on), x.hears)
			}
		}
		matrix("", nil, false)
		for _, joins := range []string{"any", "group"} {
			at, _ := h.place(joins)
			group, _ := h.place("group")
			u := h.open(at, nil)
			if err := u.JoinGroup(h.ifc, group); err != nil {
				t.Fatal(err)
			}
			hears := "group"
			if joins == "any" {
				hears = hearings[0].hears + " group"
			}
			try("a socket bound to "+joins+", which has joined the group,", u, hears)
		}
		for port, hears := range map[uint16]string{5000: "ours", 5001: ""} { // the peer's, and another
			u, err := h.stack.DialUDP("udp", netip.AddrPortFrom(h.peer, 6000), netip.AddrPortFrom(h.us, port))
			if err != nil {
				t.Fatal(err)
			}
			try("a connected socket", u, hears)
		}
		far := h.elsewhere()
		matrix(", on this link alone,", h.ifc, false)
		matrix(", on another link,", far.ifc, true)
	})
}

// sender is the place that a socket sends from that is bound to one place and sends to another, as on Linux; or the error. Two
// departures: what a socket at 127.0.0.1 sends to a group, or to all, is an error, where Linux lets it go as far as the host
// itself; and so is what one at ::1 sends elsewhere, where Linux lets it go.
func (h *tester) sender(bind, dest string) (from string, err error) {
	switch local := dest == "link-local" || dest == "tester-local" || dest == "hosts" && h.us.Is6() && h.eth; {
	case bind == "loopback" && dest != "loopback":
		return "", syscall.EINVAL // RFC 1122 §3.2.1.3 (g)
	case bind == "ours", bind == "second", bind == "link-local":
		return bind, nil
	case local: // RFC 6724 §5, rule 2
		return "link-local", nil
	}
	return "ours", nil
}

// TestUDPSpeaks: packetimpact's udp_socket_send_recv, what is sent: from which address, to which station, and how far.
func TestUDPSpeaks(t *testing.T) {
	links(t, func(h *tester) {
		h.introduce()
		try := func(name string, u *UDPConn, bind, dest string, write func(to netip.AddrPort) error) {
			t.Helper()
			defer u.Close()
			to, _ := h.place(dest)
			from, want := h.sender(bind, dest)
			if err := write(netip.AddrPortFrom(to, 7)); !errors.Is(err, want) {
				t.Errorf("%s sends to %s: %v, want %v", name, dest, err, want)
			}
			seen := h.sent()
			if want != nil || dest == "loopback" {
				if len(seen) > 0 {
					t.Errorf("%s sends to %s: %v, want nothing", name, dest, seen)
				}
				return
			}
			src, _ := h.place(from)
			mac, hops := station(to.WithZone("")), uint8(64)
			if mac.IsZero() {
				mac = h.mac
			}
			if to.IsMulticast() {
				hops = 1
			}
			if len(seen) != 1 || seen[0].src != src.WithZone("") || seen[0].dst != to.WithZone("") || h.eth && seen[0].eth.Dst != mac || seen[0].hops != hops {
				t.Errorf("%s sends to %s: %+v, want it from %v to %v at station %v, with a hop limit of %d", name, dest, seen, src, to, mac, hops)
			}
		}
		matrix := func(name string, on *Interface) {
			for _, x := range hearings {
				for _, dest := range destinations[3:] {
					at, ok := h.place(x.bind)
					if _, there := h.place(dest); !ok || !there || on != nil && dest == "loopback" {
						continue
					}
					u := h.open(at, on)
					try("a socket bound to "+x.bind+name, u, x.bind, dest, func(to netip.AddrPort) error {
						_, err := u.WriteToUDPAddrPort([]byte("x"), to)
						return err
					})
				}
			}
		}
		matrix("", nil)
		for _, dest := range destinations[3:] {
			if to, ok := h.place(dest); ok {
				u, err := h.stack.DialUDP("udp", netip.AddrPort{}, netip.AddrPortFrom(to, 7))
				if err != nil {
					t.Fatal(err)
				}
				try("a connected socket", u, "any", dest, func(netip.AddrPort) error { _, err := u.Write([]byte("x")); return err })
			}
		}
		far := h.elsewhere()
		matrix(", on this link alone,", h.ifc)
		for _, dest := range destinations[3:] {
			to, ok := h.place(dest)
			if !ok {
				continue
			}
			for _, on := range []*Interface{h.ifc, far.ifc} {
				u := h.open(netip.Addr{}, on)
				_, err := u.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(to, 7))
				if want := dest == "loopback" || to.Zone() != "" && on == far.ifc; errors.Is(err, syscall.EINVAL) != want || !want && err != nil {
					t.Errorf("on %s alone, to %s: %v", on.Name(), dest, err)
				}
				if seen := h.sent(); len(seen) > 0 && on == far.ifc || len(seen) == 0 && on == h.ifc && dest != "loopback" {
					t.Errorf("on %s alone, to %s: %v is on this link", on.Name(), dest, seen)
				}
				for _, p := range far.sent() {
					if on == h.ifc || p.src.IsLoopback() || p.dst.IsLoopback() {
						t.Errorf("on %s alone, to %s: %v is on another link", on.Name(), dest, p)
					}
				}
				u.Close()
			}
		}
	})
}

// TestUDPSecondLink: of several links, the address that a socket is bound to says which one is meant, where the destination does
// not, as on Linux: 255.255.255.255, which else needs a default route, and what is link-local.
func TestUDPSecondLink(t *testing.T) {
	links(t, func(h *tester) {
		far := h.elsewhere()
		to, unbound := broadcast4, error(syscall.ENETUNREACH)
		ours := []netip.Addr{h.peer, far.peer}
		if h.us.Is6() {
			if !h.eth {
				return // there are no link-local addresses
			}
			to, unbound = allNodes, nil // by the first
			for k, x := range []*tester{h, far} {
				a, _ := x.ifc.local6()
				ours[k] = a.WithZone(x.ifc.Name())
			}
		}
		u := h.bind(6000)
		if _, err := u.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(to, 7)); !errors.Is(err, unbound) {
			t.Errorf("to %v: %v, want %v", to, err, unbound)
		}
		u.Close()
		h.sent()
		network, echo := icmpNetwork(h.us)
		for k, at := range ours {
			u := h.open(at, nil)
			if _, err := u.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(to, 7)); err != nil {
				t.Errorf("from %v to %v: %v", at, to, err)
			}
			c, err := h.stack.ListenPacket(network, at.String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.WriteTo([]byte{echo, 0, 0, 0, 0, 1, 0, 1}, ipAddr(to)); err != nil {
				t.Errorf("an echo request from %v to %v: %v", at, to, err)
			}
			for n, x := range []*tester{h, far} {
				seen := x.sent()
				if (len(seen) == 2) != (n == k) || n == k && (seen[0].src != at.WithZone("") || seen[1].src != at.WithZone("")) {
					t.Errorf("what is sent from %v to %v comes to link %d as %v", at, to, n, seen)
				}
			}
			if h.us.Is6() { // a neighbour that nobody knows is asked for on that link
				u.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(netip.MustParseAddr("fe80::9"), 7))
				if on := [2]int{len(h.neighbor()), len(far.neighbor())}; on[k] == 0 || on[1-k] != 0 {
					t.Errorf("what is sent from %v to a neighbour has the links asked %d times", at, on)
				}
			}
			u.Close()
			c.Close()
		}
	})
}

// TestC164GroupSources: packetimpact's udp_discard_mcast_source_addr: what says that it comes from a group is dropped in silence,
// by whomever it could be heard.
func TestC164GroupSources(t *testing.T) {
	links(t, func(h *tester) {
		sources := "224.0.0.1 224.0.0.251 224.0.1.1 233.252.0.1 239.255.255.250 239.255.255.255"
		if h.us.Is6() {
			sources = "ff01::1 ff02::1 ff02::fb ff05::2 ff0e::1 ff15::db8:1 ff02::1:ff00:2"
		}
		u := h.bind(6000)
		group, _ := h.place("group")
		if err := u.JoinGroup(nil, group); err != nil {
			t.Fatal(err)
		}
		for _, s := range strings.Fields(sources) {
			src := netip.MustParseAddr(s)
			for _, dest := range destinations[:7] {
				to, ok := h.place(dest)
				if !ok {
					continue
				}
				to = to.WithZone("")
				before := h.drops("bad-source")
				for _, port := range []uint16{6000, 6001} { // a socket's, and nobody's
					h.mail(letter{src: src, dst: to, mac: station(to), proto: ipv4.ProtoUDP,
						text: udpText(netip.AddrPortFrom(src, 5000), netip.AddrPortFrom(to, port), "x")})
				}
				if got := h.got(u); len(got) > 0 || h.drops("bad-source") != before+2 {
					t.Errorf("from %v to %s: %q arrives, drops are %v", src, dest, got, h.stack.Stats().Drops)
				}
				h.silent("from " + s + " to " + dest)
			}
		}
		h.mail(h.datagram(6000, "a host's"))
		if got := h.got(u); !slices.Equal(got, []string{"a host's"}) {
			t.Errorf("from a host: %q arrives", got)
		}
	})
}

// TestC162UDPPropagation: packetimpact's udp_icmp_error_propagation: an error reaches the connected socket whose datagram it
// quotes, in the next Write, the next Read or the one under way, and once; and neither one that is not connected, nor any
// other. One departure: Linux keeps a Time Exceeded and its like to itself unless it is asked (IP_RECVERR), where RFC 1122
// §4.1.3.3 has it: "UDP MUST pass to the application layer all ICMP error messages that it receives from the IP layer."
func TestC162UDPPropagation(t *testing.T) {
	for _, n := range []badNews{
		{name: "port unreachable", t4: 3, c4: 3, t6: 1, c6: 4, errno: syscall.ECONNREFUSED},
		{name: "time exceeded", t4: 11, c4: 0, t6: 3, c6: 0, errno: syscall.EHOSTUNREACH},
		{name: "host unreachable", t4: 3, c4: 1, t6: 1, c6: 3, errno: syscall.EHOSTUNREACH},
	} {
		for _, connects := range []bool{true, false} {
			t.Run(n.name+map[bool]string{true: ", connected", false: ", not connected"}[connects], func(t *testing.T) {
				bare(t, Config{}, func(h *tester) { h.propagates(&n, connects) })
			})
		}
	}
}

// propagates sends datagrams, and has each way to hear of an error about them tried.
func (h *tester) propagates(n *badNews, connects bool) {
	dial := func(port uint16) *UDPConn {
		u, err := h.stack.DialUDP("udp", netip.AddrPort{}, netip.AddrPortFrom(h.us, port))
		if err != nil {
			h.Fatal(err)
		}
		return u
	}
	u, want := dial(7), error(n.errno)
	if !connects {
		u, want = h.bind(6000), nil
	}
	write := func() (err error) {
		if connects {
			_, err = u.Write([]byte("x"))
		} else {
			_, err = u.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(h.us, 7))
		}
		return err
	}
	others := []*UDPConn{dial(7), dial(8), h.bind(6001)} // connected to the same port, to another, and not
	fail := func() {
		h.Helper()
		if err := write(); err != nil {
			h.Errorf("before the error: %v", err)
		}
		n.quoting(h, h.one("a datagram").packet)
		h.idle()
	}
	read := func(u *UDPConn) error { // what there is at once
		u.SetReadDeadline(time.Now().Add(time.Nanosecond))
		_, err := u.Read(make([]byte, 9))
		u.SetReadDeadline(time.Time{})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		return err
	}
	fail()
	if err := write(); !errors.Is(err, want) {
		h.Errorf("the next Write: %v, want %v", err, want)
	}
	h.sent()
	if err := errors.Join(write(), read(u)); err != nil {
		h.Errorf("told twice: %v", err)
	}
	h.sent()
	fail()
	u.SetReadDeadline(time.Now().Add(time.Hour))
	if connects {
		if _, err := u.Read(make([]byte, 9)); !errors.Is(err, want) {
			h.Errorf("the next Read: %v, want %v", err, want)
		}
	}
	if err := errors.Join(read(u), write()); err != nil {
		h.Errorf("told twice: %v", err)
	}
	h.sent()
	for _, o := range append(others, u) {
		o.SetReadDeadline(time.Now().Add(time.Hour))
	}
	type told struct {
		u   *UDPConn
		err error
	}
	tell := make(chan told, 4)
	for _, o := range append(others, u) {
		go func() { _, err := o.Read(make([]byte, 9)); tell <- told{o, err} }()
	}
	h.idle()
	fail()
	if connects {
		if x := <-tell; x.u != u || !errors.Is(x.err, want) {
			h.Errorf("the Read under way: %v, want %v", x.err, want)
		}
	}
	h.idle()
	if len(tell) > 0 {
		h.Errorf("another socket is told: %v", (<-tell).err)
	}
	for _, o := range append(others, u) {
		if err := read(o); err != nil { // which ends the one under way as well
			h.Errorf("another socket is told: %v", err)
		}
	}
	h.idle()
}
