package stack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
	"github.com/seed87e66d9f/waybill/udp"
)

// These are the rows about IP, ICMP, ARP, Neighbor Discovery and UDP that a host on a wire shows.

// echo is an echo request from src to dst.
func (h *tester) echo(src, dst netip.Addr, body string) letter {
	if dst.Is4() {
		return letter{src: src, dst: dst, proto: ipv4.ProtoICMP, text: icmp4(ipv4.ICMP{Type: ipv4.Echo, ID: 7, Seq: 9, Body: []byte(body)})}
	}
	return letter{src: src, dst: dst, proto: ipv6.ProtoICMP, text: icmp6(src, dst, ipv6.ICMP{Type: ipv6.Echo, Rest: 7<<16 | 9, Body: []byte(body)})}
}

// udpText is a datagram with its checksum.
func udpText(src, dst netip.AddrPort, text string) []byte {
	hd := udp.Header{Src: src.Port(), Dst: dst.Port(), Length: udp.HeaderLen + len(text)}
	b := make([]byte, udp.HeaderLen, hd.Length)
	hd.Encode(b)
	b = append(b, text...)
	sum := ^checksum.Sum(b, checksum.Pseudo(src.Addr(), dst.Addr(), ipv4.ProtoUDP, len(b)))
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[6:], sum)
	return b
}

// datagram is a datagram from port 5000 of the tester to the stack's port.
func (h *tester) datagram(port uint16, text string) letter {
	return letter{proto: ipv4.ProtoUDP, text: udpText(netip.AddrPortFrom(h.us, 5000), netip.AddrPortFrom(h.peer, port), text)}
}

// bind is a UDP socket of the stack whose reads end at once.
func (h *tester) bind(port uint16) *UDPConn {
	h.Helper()
	u, err := h.stack.ListenUDP("udp", netip.AddrPortFrom(netip.Addr{}, port))
	if err != nil {
		h.Fatal(err)
	}
	return u
}

// got is what has arrived at a socket.
func (h *tester) got(u *UDPConn) (all []string) {
	h.idle()
	b := make([]byte, 1<<16)
	for {
		u.SetReadDeadline(time.Now().Add(time.Nanosecond))
		n, _, err := u.ReadFromUDPAddrPort(b)
		if err != nil {
			return all
		}
		all = append(all, string(b[:n]))
	}
}

// TestC133Header: a datagram whose header makes no sense is dropped in silence; what follows its end is padding.
func TestC133Header(t *testing.T) {
	links(t, func(h *tester) {
		l := h.echo(h.us, h.peer, "ping")
		good := h.build(l)
		set := func(at int, v byte) []byte { b := slices.Clone(good); b[at] = v; return b }
		bad := [][]byte{set(0, good[0]&0xf|0x50), set(0, good[0]&0xf), good[:len(good)-1], good[:1], good[:h.headerLen()-1]}
		if h.us.Is4() {
			bad = append(bad, set(0, 0x44), set(0, 0x40), set(0, 0x4f), set(3, 19), set(3, good[3]+1), set(10, good[10]^1))
		} else {
			bad = append(bad, set(5, good[5]+1))
		}
		for i, b := range bad {
			h.frame(ethernet.Addr{}, b)
			h.silent(fmt.Sprintf("malformed packet %d", i))
			if got := h.drops("bad-header"); got != uint64(i+1) {
				t.Errorf("malformed packet %d: %d counted", i, got)
			}
		}
		h.frame(ethernet.Addr{}, append(slices.Clone(good), "padding"...))
		if p := h.one("a padded echo"); !bytes.HasSuffix(p.text, []byte("ping")) {
			t.Errorf("the reply carries the padding: %q", p.text)
		}
	})
}

// TestC134C195Addresses: only what is for us, and from a single host, is taken; nothing is forwarded.
func TestC134C195Addresses(t *testing.T) {
	links(t, func(h *tester) {
		others := []string{"198.51.100.77", "203.0.113.9", "127.0.0.1", "0.0.0.0", "224.0.0.251"}
		from := []string{"198.51.100.255", "255.255.255.255", "224.0.0.1", "127.0.0.1", "0.0.0.0"}
		if h.us.Is6() {
			others = []string{"2001:db8:51::77", "2001:db8:99::9", "::1", "::", "ff02::fb", "::ffff:198.51.100.2"}
			from = []string{"ff02::1", "::1", "::ffff:198.51.100.9", "2001:db8:51::2"}
		}
		for _, a := range others {
			h.mail(h.echo(h.us, netip.MustParseAddr(a), "x"))
			h.mail(letter{dst: netip.MustParseAddr(a), proto: ipv4.ProtoUDP,
				text: udpText(netip.AddrPortFrom(h.us, 5000), netip.AddrPortFrom(netip.MustParseAddr(a), 5), "x")})
			h.silent("packets to " + a)
		}
		for _, a := range from {
			h.mail(h.echo(netip.MustParseAddr(a), h.peer, "x"))
			h.silent("an echo from " + a)
		}
	})
}

// TestC135TTL: what arrives with a TTL of 1, or 0, has arrived.
func TestC135TTL(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		for _, hops := range []uint8{1, 0} {
			l := h.echo(h.us, h.peer, "x")
			l.hops, l.zeroHops = hops, true
			h.mail(l)
			if p := h.one(fmt.Sprintf("a TTL of %d", hops)); p.hops != 64 {
				t.Errorf("the reply's TTL is %d", p.hops)
			}
		}
	})
}

// TestC141Options: what is unknown is passed over, what is malformed is dropped, and source routes are never followed.
func TestC141Options(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		if h.us.Is6() {
			return
		}
		for _, x := range []struct {
			options []byte
			ok      bool
		}{
			{[]byte{0, 9, 9, 9}, true}, {[]byte{1, 1, 1, 1}, true}, {[]byte{200, 3, 9, 0}, true}, {[]byte{7, 7, 12, 1, 2, 3, 4, 0}, true}, {[]byte{68, 4, 255, 0}, true},
			{[]byte{200, 0, 0, 0}, false}, {[]byte{200, 1, 0, 0}, false}, {[]byte{200, 5, 0, 0}, false}, {[]byte{1, 1, 1, 200}, false},
			{[]byte{131, 3, 4, 0}, false}, {[]byte{137, 7, 4, 1, 2, 3, 4, 0}, false},
		} {
			l := h.echo(h.us, h.peer, "x")
			l.options = x.options
			h.mail(l)
			if got := len(h.sent()) == 1; got != x.ok {
				t.Errorf("options % x: answered %v, want %v", x.options, got, x.ok)
			}
		}
	})
}

// TestC142C179Echo: the reply has the request's identifier, number and data, and comes from where the request went to.
func TestC142C179Echo(t *testing.T) {
	links(t, func(h *tester) {
		for _, size := range []int{0, 1, 56, 1000, 1500 - h.headerLen() - 8} {
			for _, to := range []netip.Addr{h.peer, h.second()} {
				body := string(bytes.Repeat([]byte("echo!"), size/5+1)[:size])
				h.mail(h.echo(h.us, to, body))
				p := h.one("an echo")
				want := h.echo(to, h.us, body).text
				want[0], want[2], want[3] = p.text[0], p.text[2], p.text[3]
				if p.src != to || p.dst != h.us || p.hops != 64 || !bytes.Equal(p.text, want) || p.text[0] != 0 && p.text[0] != ipv6.EchoReply {
					t.Errorf("an echo of %d octets to %v: %v, TTL %d", size, to, p, p.hops)
				}
			}
		}
		l := h.echo(h.us, h.peer, "x")
		l.text[3] ^= 1
		h.mail(l)
		h.silent("an echo whose checksum is wrong") // C176
		if h.us.Is4() {
			for _, a := range []string{"255.255.255.255", "198.51.100.255", "224.0.0.1"} { // RFC 1122 §3.2.2.6 lets one discard it
				h.mail(h.echo(h.us, netip.MustParseAddr(a), "x"))
				h.silent("an echo to " + a)
			}
			return
		}
		l = h.echo(h.us, allNodes, "x") // RFC 4443 §4.2: a reply to a group comes from a unicast address
		l.mac = ethernet.Multicast(allNodes)
		h.mail(l)
		if p := h.one("an echo to all nodes"); p.src != h.peer {
			t.Errorf("a reply from %v", p.src)
		}
	})
}

// isUnreachable checks an ICMP error about the packet that was sent.
func (h *tester) isUnreachable(p packetSeen, code4, code6 uint8, sent []byte) {
	h.Helper()
	typ, code := ipv4.Unreachable, code4
	if h.us.Is6() {
		typ, code = ipv6.Unreachable, code6
	}
	limit := 576
	if h.us.Is6() {
		limit = ipv6.MinMTU
	}
	quote := sent[:min(len(sent), limit-h.headerLen()-8)]
	if p.text[0] != typ || p.text[1] != code || !bytes.Equal(p.text[8:], quote) || p.src != h.peer || p.dst != h.us {
		h.Errorf("%v of type %d, code %d, with %d octets quoted; want type %d, code %d, %d octets", p, p.text[0], p.text[1], len(p.text)-8, typ, code, len(quote))
	}
}

// TestC143C161C167Unreachable: who talks to a port, or a protocol, that is not there is told, with a good part of what it said.
func TestC143C161C167Unreachable(t *testing.T) {
	links(t, func(h *tester) {
		for _, n := range []int{0, 8, 700, 1400} {
			l := h.datagram(5, string(make([]byte, n)))
			h.mail(l)
			h.isUnreachable(h.one("a datagram to nobody"), ipv4.CodePort, ipv6.CodePort, h.build(l))
		}
		l := letter{proto: 254, text: []byte("what is this?")}
		h.mail(l)
		p := h.one("an unknown protocol")
		if h.us.Is4() {
			h.isUnreachable(p, ipv4.CodeProtocol, 0, h.build(l))
		} else if p.text[0] != ipv6.ParamProblem || p.text[1] != ipv6.CodeNextHeader || binary.BigEndian.Uint32(p.text[4:]) != 6 {
			t.Errorf("% x, want a Parameter Problem that points to the next header", p.text[:8])
		}
	})
}

// TestC144C178NoError: no error about an error, a group, a later fragment, or from nobody.
func TestC144C178NoError(t *testing.T) {
	links(t, func(h *tester) {
		groups := []string{"255.255.255.255", "198.51.100.255", "224.0.0.1"}
		from := []string{"0.0.0.0", "255.255.255.255", "224.0.0.1"}
		if h.us.Is6() {
			groups = []string{"ff02::1", ipv6.SolicitedNode(h.peer).String()}
			from = []string{"::", "ff02::1"}
		}
		for _, g := range groups {
			to := netip.MustParseAddr(g)
			mac := ethernet.Broadcast
			if to.IsMulticast() {
				mac = ethernet.Multicast(to)
			}
			h.mail(letter{dst: to, mac: mac, proto: ipv4.ProtoUDP, text: udpText(netip.AddrPortFrom(h.us, 5000), netip.AddrPortFrom(to, 5), "x")})
			h.silent("a datagram to " + g)
			h.mail(letter{dst: to, mac: mac, proto: 254, text: []byte("x")})
			h.silent("an unknown protocol to " + g)
		}
		for _, a := range from {
			src := netip.MustParseAddr(a)
			h.mail(letter{src: src, proto: ipv4.ProtoUDP, text: udpText(netip.AddrPortFrom(src, 5000), netip.AddrPortFrom(h.peer, 5), "x")})
			h.silent("a datagram from " + a)
		}
		if h.eth {
			l := h.datagram(5, "x")
			l.mac = ethernet.Broadcast
			h.mail(l)
			h.silent("a datagram in a frame to all")
		}
		l := h.datagram(5, "x")
		h.mail(l)
		sorry := h.one("a datagram to nobody")
		h.icmp(ipv4.ICMP{Type: ipv4.Unreachable, Code: ipv4.CodePort, Body: sorry.packet}, ipv6.ICMP{Type: ipv6.Unreachable, Code: ipv6.CodePort, Body: sorry.packet})
		h.silent("an error about an error")
		if h.us.Is4() {
			l.flags = 1 // 8 octets from the beginning
			h.mail(l)
			h.silent("a later fragment")
		} else {
			h.mail(letter{next: ipv6.ProtoFragment, text: append([]byte{ipv4.ProtoUDP, 0, 0, 8, 0, 0, 0, 1}, l.text...)})
			h.silent("a later fragment")
		}
	})
}

// TestC145C148C180Types: the types that nobody answers, and errors cut short, are dropped in silence.
func TestC145C148C180Types(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		d := h.shakes()
		for typ := range 256 {
			for _, n := range []int{0, 4, 12, 19, 27, 40, 47} {
				body := make([]byte, n)
				if n > 0 {
					body[0] = 0x45
				}
				if h.us.Is6() && typ >= 128 && typ <= 137 || h.us.Is4() && typ == int(ipv4.Echo) {
					continue
				}
				h.icmp(ipv4.ICMP{Type: uint8(typ), Body: body}, ipv6.ICMP{Type: uint8(typ), Body: body})
			}
			h.idle()
		}
		h.silent("ICMP messages of all types")
		if d.state() != tcp.Established {
			t.Errorf("in %v", d.state())
		}
	})
}

// TestC146C181A43Redirect: redirects are ignored, and so are router advertisements so far.
func TestC146C181A43Redirect(t *testing.T) {
	links(t, func(h *tester) {
		before := fmt.Sprint(slices.Collect(h.stack.Routes()))
		d := h.shakes()
		d.conn.Write([]byte("x"))
		p := d.one("a write")
		if h.us.Is4() {
			h.mail(letter{proto: ipv4.ProtoICMP, text: icmp4(ipv4.ICMP{Type: ipv4.Redirect, Code: 1, ID: 0xc633, Seq: 0x6409, Body: p.packet})})
		} else if h.eth {
			router := netip.MustParseAddr("fe80::1")
			h.ndp(ethernet.Addr{}, router, h.peer, &ipv6.NDP{Type: ipv6.Redirect, Target: router, Dest: h.us})
		}
		h.silent("a redirect")
		if after := fmt.Sprint(slices.Collect(h.stack.Routes())); after != before {
			t.Errorf("routes %v became %v", before, after)
		}
	})
}

// TestC147ErrorsAreLimited: a host that sends 10,000 datagrams to nobody is told a few times, all hosts together get a burst
// of errors and a bounded rate after that, and who asks once in a while is always told.
func TestC147ErrorsAreLimited(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		l := h.datagram(5, "x")
		for range 10 {
			for range 1000 {
				h.mail(l)
			}
			h.pass(time.Millisecond)
		}
		if n := len(h.sent()); n != hostErrorBurst {
			t.Errorf("%d errors to one host within 10 ms, want %d", n, hostErrorBurst)
		}
		h.pass(10 * time.Second)
		if err := h.stack.AddRoute(netip.MustParsePrefix("2001:db8::/32"), netip.Addr{}, h.ifc); err != nil {
			t.Fatal(err)
		}
		for k := range 10 {
			for n := range 1000 {
				a := h.us.AsSlice() // others of our network, or of networks of their own
				if a[len(a)-1] = byte(3 + n%96); h.us.Is6() {
					a[7] = byte(n % 96)
				}
				src, _ := netip.AddrFromSlice(a)
				h.mail(letter{src: src, proto: ipv4.ProtoUDP, text: udpText(netip.AddrPortFrom(src, 5000), netip.AddrPortFrom(h.peer, 5), "x")})
			}
			if h.pass(time.Millisecond); k == 0 {
				h.idle()
			}
		}
		// an error takes none, one or two tokens, at random
		if n, mean := len(h.sent()), errorBurst+10*errorRate/1000; n < mean/2 || n > mean*2 {
			t.Errorf("%d errors to many hosts within 10 ms, want about %d", n, mean)
		}
		for range 20 {
			h.pass(2 * time.Second)
			h.mail(l)
			h.one("a datagram to nobody, every two seconds")
		}
	})
}

// TestA46ErrorsTellNothing: SAD DNS (CVE-2020-25705): that errors were sent to an address which is not his, an attacker does
// not see by what is left for him.
func TestA46ErrorsTellNothing(t *testing.T) {
	var quiet, noisy [2]float64 // errors that the attacker gets, and runs
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 1))
		var r rateLimit
		victim := netip.MustParseAddr("203.0.113.1")
		if seed%2 == 1 { // the port is closed, and 1000 probes in the victim's name are answered, as far as may be
			for range 1000 {
				r.allow(time.Second, victim, random.Uint64())
			}
		}
		got := 0
		for n := range 60 {
			if r.allow(time.Second, netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}), random.Uint64()) {
				got++
			}
		}
		if seed%2 == 1 {
			noisy[0], noisy[1] = noisy[0]+float64(got), noisy[1]+1
		} else {
			quiet[0], quiet[1] = quiet[0]+float64(got), quiet[1]+1
		}
	}
	// what the victim was sent is a host's burst, about 6, of 50 that are shared, and one run varies by as much
	if d := quiet[0]/quiet[1] - noisy[0]/noisy[1]; d > 2*hostErrorBurst || quiet[0]/quiet[1] < errorBurst/2 {
		t.Errorf("of 60 errors %.1f are sent, and %.1f after 1000 probes in another's name", quiet[0]/quiet[1], noisy[0]/noisy[1])
	}
	var r rateLimit
	for n := range 10 * maxErrorHosts {
		r.allow(time.Second, netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), 1)
	}
	if len(r.hosts) > maxErrorHosts {
		t.Errorf("%d hosts are remembered", len(r.hosts))
	}
}

// TestC151ARP: a request for us is answered and its sender learned; one for another host creates nothing.
func TestC151ARP(t *testing.T) {
	overWire(t, link.PipeConfig{MTU: 1500, Ethernet: true}, Config{}, func(h *tester) {
		if h.us.Is6() {
			return
		}
		known := func() int {
			n := 0
			for range h.stack.Neighbors() {
				n++
			}
			return n
		}
		a := ethernet.ARP{Op: ethernet.OpRequest, SenderHW: h.mac, SenderIP: h.us, TargetIP: netip.MustParseAddr("198.51.100.77")}
		h.arp(ethernet.Broadcast, a)
		if nd := h.neighbor(); len(nd) > 0 || known() > 0 {
			t.Errorf("a request for another host: answered by %v, %d neighbours", nd, known())
		}
		h.arp(h.ifc.mac, ethernet.ARP{Op: ethernet.OpReply, SenderHW: h.mac, SenderIP: h.us, TargetHW: ethernet.Addr{2}, TargetIP: a.TargetIP})
		if nd := h.neighbor(); len(nd) > 0 || known() > 0 {
			t.Errorf("a reply to another host: answered by %v, %d neighbours", nd, known())
		}
		a.TargetIP = h.peer
		h.arp(ethernet.Broadcast, a)
		nd := h.neighbor()
		want := ethernet.ARP{Op: ethernet.OpReply, SenderHW: h.ifc.mac, SenderIP: h.peer, TargetHW: h.mac, TargetIP: h.us}
		if len(nd) != 1 || nd[0].arp != want || nd[0].eth.Dst != h.mac || known() != 1 {
			t.Errorf("a request for us: answered by %+v, %d neighbours", nd, known())
		}
		for n := range 2 { // C152, C157: somebody else at our address; RFC 5227 §2.4 (c): we defend it once in ten seconds
			for k, from := range []netip.Addr{h.peer, h.second()} {
				h.arp(ethernet.Broadcast, ethernet.ARP{Op: ethernet.OpRequest, SenderHW: h.mac, SenderIP: from, TargetIP: h.peer})
				want := ethernet.ARP{Op: ethernet.OpRequest, SenderHW: h.ifc.mac, SenderIP: from, TargetIP: from}
				nd := h.neighbor()
				if len(nd) != 1-n || n == 0 && (nd[0].arp != want || nd[0].eth.Dst != ethernet.Broadcast) || h.drops("address-conflict") != uint64(2*n+k+1) {
					t.Errorf("conflict %d over %v: answered by %+v; drops %v", n, from, nd, h.stack.Stats().Drops)
				}
			}
		}
		// 10 octets more of Ethernet's padding, and 10 fewer
		for _, n := range []int{-10, 10} {
			var b [ethernet.HeaderLen + ethernet.ARPLen + 10]byte
			e := ethernet.Header{Dst: ethernet.Broadcast, Src: h.mac, Type: ethernet.TypeARP}
			a.Encode(b[e.Encode(b[:]):])
			h.raw(b[:ethernet.HeaderLen+ethernet.ARPLen+n])
			if nd := h.neighbor(); (len(nd) == 1) != (n > 0) {
				t.Errorf("an ARP packet %d octets longer: answered by %v", n, nd)
			}
		}
	})
}

// TestC155QueueWhileResolving: datagrams to a neighbour that is being asked for wait, and leave in order.
func TestC155QueueWhileResolving(t *testing.T) {
	overWire(t, link.PipeConfig{MTU: 1500, Ethernet: true}, Config{}, func(h *tester) {
		real := h.us
		h.mu.Lock()
		h.us = netip.Addr{} // silent for now
		h.mu.Unlock()
		u := h.bind(6000)
		for i := range 5 {
			if _, err := u.WriteToUDPAddrPort([]byte{byte(i)}, netip.AddrPortFrom(real, 7)); err != nil {
				t.Fatal(err)
			}
		}
		h.silent("datagrams to an unknown neighbour")
		h.mu.Lock()
		h.us = real
		h.mu.Unlock()
		h.pass(1100 * time.Millisecond) // it asks again
		seen := h.sent()
		if len(seen) != 5 {
			t.Fatalf("%d of 5 datagrams arrive", len(seen))
		}
		for i, p := range seen {
			if p.text[udp.HeaderLen] != byte(i) {
				t.Errorf("datagram %d arrives in place %d", p.text[udp.HeaderLen], i)
			}
		}
	})
}

// TestC158Frames: frames that are too short, for another station, of another VLAN or of 802.3 are dropped.
func TestC158Frames(t *testing.T) {
	overWire(t, link.PipeConfig{MTU: 1500, Ethernet: true}, Config{}, func(h *tester) {
		echo := h.build(h.echo(h.us, h.peer, "x"))
		typ := ethernet.TypeIPv4
		if h.us.Is6() {
			typ = ethernet.TypeIPv6
		}
		send := func(e ethernet.Header, body []byte) {
			b := make([]byte, e.Len())
			e.Encode(b)
			h.raw(append(b, body...))
		}
		for n := 1; n < ethernet.HeaderLen; n++ {
			h.raw(make([]byte, n))
		}
		for _, x := range []struct {
			name string
			e    ethernet.Header
			ok   bool
			drop string
		}{
			{"another station", ethernet.Header{Dst: ethernet.Addr{2, 9, 9, 9, 9, 9}, Src: h.mac, Type: typ}, false, "other-station"},
			{"a VLAN", ethernet.Header{Dst: h.ifc.mac, Src: h.mac, Type: typ, Tagged: true, VLAN: 7}, false, "vlan"},
			{"QinQ", ethernet.Header{Dst: h.ifc.mac, Src: h.mac, Type: ethernet.TypeQinQ}, false, "unknown-ethertype"},
			{"another type", ethernet.Header{Dst: h.ifc.mac, Src: h.mac, Type: 0x88cc}, false, "unknown-ethertype"},
			{"a length", ethernet.Header{Dst: h.ifc.mac, Src: h.mac, Type: 0x40}, false, "bad-frame"},
			{"a priority alone", ethernet.Header{Dst: h.ifc.mac, Src: h.mac, Type: typ, Tagged: true, VLAN: 5 << 13}, true, ""},
			{"ours", ethernet.Header{Dst: h.ifc.mac, Src: h.mac, Type: typ}, true, ""},
		} {
			before := h.drops(x.drop)
			send(x.e, echo)
			if got := len(h.sent()) == 1; got != x.ok {
				t.Errorf("%s: answered %v, want %v", x.name, got, x.ok)
			}
			if x.drop != "" && h.drops(x.drop) != before+1 {
				t.Errorf("%s: not counted as %s: %v", x.name, x.drop, h.stack.Stats().Drops)
			}
		}
	})
}

// TestC159C160C164C165C176UDP: what is damaged or malformed is dropped; a sum of 0 means none over IPv4 alone.
func TestC159C160C164C165C176UDP(t *testing.T) {
	links(t, func(h *tester) {
		u := h.bind(6000)
		edit := func(change func(b []byte) []byte) letter {
			l := h.datagram(6000, "hello")
			l.text = change(l.text)
			return l
		}
		zero := []string{"hello"} // what arrives where the checksum is 0
		if h.us.Is6() {
			zero = nil
		}
		for _, x := range []struct {
			name string
			l    letter
			want []string
		}{
			{"sound", h.datagram(6000, "hello"), []string{"hello"}},
			{"empty", h.datagram(6000, ""), []string{""}},
			{"wrong checksum", edit(func(b []byte) []byte { b[7] ^= 1; return b }), nil},
			{"wrong text", edit(func(b []byte) []byte { b[8] ^= 1; return b }), nil},
			{"no checksum", edit(func(b []byte) []byte { b[6], b[7] = 0, 0; return b }), zero},
			{"length 7", edit(func(b []byte) []byte { b[5] = 7; return b }), nil},
			{"length beyond the packet", edit(func(b []byte) []byte { b[5]++; return b }), nil},
			{"padding behind the length", edit(func(b []byte) []byte { return append(b, "trailer"...) }), []string{"hello"}},
			{"cut short", edit(func(b []byte) []byte { return b[:7] }), nil},
			{"from port 0", letter{proto: ipv4.ProtoUDP, text: udpText(netip.AddrPortFrom(h.us, 0), netip.AddrPortFrom(h.peer, 6000), "zero")}, []string{"zero"}},
			{"to port 0", h.datagram(0, "x"), nil},
		} {
			h.mail(x.l)
			if got := h.got(u); !slices.Equal(got, x.want) {
				t.Errorf("%s: %q arrives, want %q", x.name, got, x.want)
			}
			if x.name != "to port 0" {
				h.silent(x.name)
			}
			h.sent()
		}
		for _, a := range []string{"255.255.255.255", "224.0.0.1", "ff02::1"} { // C164
			if src := netip.MustParseAddr(a); src.Is4() == h.us.Is4() {
				h.mail(letter{src: src, proto: ipv4.ProtoUDP, text: udpText(netip.AddrPortFrom(src, 5), netip.AddrPortFrom(h.peer, 6000), "x")})
				if got := h.got(u); got != nil {
					t.Errorf("from %v: %q arrives", src, got)
				}
			}
		}
		if h.eth { // RFC 1122 §3.3.6: to one host, in a frame to all
			l := h.datagram(6000, "x")
			l.mac = ethernet.Broadcast
			h.mail(l)
			if got := h.got(u); got != nil || h.drops("link-broadcast") != 1 {
				t.Errorf("in a frame to all: %q arrives", got)
			}
		}
		// C159: text whose sum comes out as 0 is sent with one of all ones; the tester checks each sum
		zeros := 0
		for n := 0; n < 1<<16 && zeros == 0; n++ {
			text := []byte{byte(n >> 8), byte(n)}
			b := udpText(netip.AddrPortFrom(h.peer, 6000), netip.AddrPortFrom(h.us, 7), string(text))
			if b[6] == 0xff && b[7] == 0xff {
				zeros++
				u.WriteToUDPAddrPort(text, netip.AddrPortFrom(h.us, 7))
				if p := h.one("a datagram"); p.text[6] != 0xff || p.text[7] != 0xff {
					t.Errorf("a sum of 0 is sent as %x", p.text[6:8])
				}
			}
		}
		if zeros == 0 {
			t.Error("no text has a sum of 0")
		}
		u.WriteToUDPAddrPort(nil, netip.AddrPortFrom(h.us, 7))
		if p := h.one("an empty datagram"); len(p.text) != udp.HeaderLen {
			t.Errorf("%d octets", len(p.text))
		}
	})
}

// TestC162UDPErrors: packetimpact's udp_icmp_error_propagation in short, at length in TestC162UDPPropagation: an ICMP error
// reaches the connected socket that it is about, once, and no other.
func TestC162UDPErrors(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		peer := netip.AddrPortFrom(h.us, 7)
		u, err := h.stack.DialUDP("udp", netip.AddrPort{}, peer)
		if err != nil {
			t.Fatal(err)
		}
		other := h.bind(6000)
		refuse := badNews{t4: 3, c4: 3, t6: 1, c6: 4}
		u.Write([]byte("x"))
		refuse.quoting(h, h.one("a datagram").packet)
		h.idle()
		if _, err := u.Read(make([]byte, 9)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("connected: %v, want ECONNREFUSED", err)
		}
		if _, err := u.Write([]byte("x")); err != nil {
			t.Errorf("told twice: %v", err)
		}
		h.sent()
		other.WriteToUDPAddrPort([]byte("x"), peer)
		refuse.quoting(h, h.one("a datagram").packet)
		h.idle()
		if _, err := other.WriteToUDPAddrPort([]byte("x"), peer); err != nil {
			t.Errorf("not connected: %v", err)
		}
	})
}

// TestC163UDPSource: a socket that is bound to an address sends from it.
func TestC163UDPSource(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		u, err := h.stack.ListenUDP("udp", netip.AddrPortFrom(h.second(), 6000))
		if err != nil {
			t.Fatal(err)
		}
		u.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(h.us, 7))
		if p := h.one("a datagram"); p.src != h.second() {
			t.Errorf("from %v, want %v", p.src, h.second())
		}
	})
}

// TestC163ReplySource: a socket at all addresses answers from the one that was asked, and from no other's.
func TestC163ReplySource(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		u, err := h.stack.ListenUDP("udp", netip.AddrPortFrom(netip.Addr{}, 6000))
		if err != nil {
			t.Fatal(err)
		}
		asker := netip.AddrPortFrom(h.us, 7)
		group, _ := h.group()
		for _, c := range []struct{ asked, from netip.Addr }{
			{h.second(), h.second()}, {h.peer, h.peer}, {netip.Addr{}, h.peer}, {group, h.peer},
		} {
			if n, err := u.WriteFrom([]byte("x"), c.asked, asker); n != 1 || err != nil {
				t.Errorf("asked at %v: %d, %v", c.asked, n, err)
			}
			if p := h.one("a datagram"); p.src != c.from {
				t.Errorf("asked at %v: from %v, want %v", c.asked, p.src, c.from)
			}
		}
		if _, err := u.WriteFrom([]byte("x"), h.us, asker); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("from another's: %v", err)
		}
		bound, err := h.stack.ListenUDP("udp", netip.AddrPortFrom(h.peer, 6001))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bound.WriteFrom([]byte("x"), h.second(), asker); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("from another than where it is bound: %v", err)
		}
		if sent := h.sent(); len(sent) != 0 {
			t.Errorf("%d packets leave", len(sent))
		}
	})
}

// TestC177FlowLabel: RFC 6437: a connection's label is not zero and does not change; another's is another.
func TestC177FlowLabel(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		if h.us.Is4() {
			return
		}
		labels := map[uint32]bool{}
		d := h.answers()
		for port := range uint16(8) {
			d.ports.Src = 5000 + port
			d.open()
			for range 3 {
				d.conn.Write([]byte("x"))
			}
			seen := d.sent()
			for _, p := range seen {
				if p.label == 0 || p.label != seen[0].label {
					t.Errorf("labels %#x and %#x", seen[0].label, p.label)
				}
			}
			labels[seen[0].label] = true
		}
		if len(labels) < 7 {
			t.Errorf("8 connections have %d labels", len(labels))
		}
	})
}

// TestC181C182Solicitation: a Neighbor Solicitation for us is answered, one that RFC 4861 §7.1.1 calls invalid is not.
func TestC181C182Solicitation(t *testing.T) {
	overWire(t, link.PipeConfig{MTU: 1500, Ethernet: true}, Config{}, func(h *tester) {
		if h.us.Is4() {
			return
		}
		group := ipv6.SolicitedNode(h.peer)
		ask := func(src, dst netip.Addr, n ipv6.NDP, hops uint8) []packetSeen {
			n.Type = ipv6.NeighborSolicitation
			h.mail(letter{src: src, dst: dst, proto: ipv6.ProtoICMP, hops: hops, mac: ethernet.Multicast(group),
				text: icmp6(src, dst, n.Encode(make([]byte, n.Len())))})
			return h.neighbor()
		}
		good := ipv6.NDP{Target: h.peer, SourceLL: h.mac, HasSourceLL: true}
		advertised := func(p packetSeen) (n ipv6.NDP) {
			var m ipv6.ICMP
			if err := m.Decode(p.text, p.src, p.dst); err != nil || n.Decode(&m) != nil || p.hops != 255 {
				t.Errorf("% x: %v", p.text, err)
			}
			return n
		}
		nd := ask(h.us, group, good, 255)
		if len(nd) != 1 {
			t.Fatalf("a solicitation is answered by %v", nd)
		}
		if n := advertised(nd[0]); n.Type != ipv6.NeighborAdvertisement || !n.Solicited || !n.Override || n.Router || n.TargetLL != h.ifc.mac || n.Target != h.peer || nd[0].dst != h.us {
			t.Errorf("%+v", n)
		}
		nd = ask(netip.IPv6Unspecified(), group, ipv6.NDP{Target: h.peer}, 255) // somebody's duplicate address detection
		if len(nd) != 1 {
			t.Fatalf("a solicitation from :: is answered by %v", nd)
		}
		if n := advertised(nd[0]); n.Solicited || nd[0].dst != allNodes {
			t.Errorf("%+v to %v", n, nd[0].dst)
		}
		for name, nd := range map[string][]packetSeen{
			"hop limit 254":                  ask(h.us, group, good, 254),
			"target of another":              ask(h.us, group, ipv6.NDP{Target: netip.MustParseAddr("2001:db8:51::77"), SourceLL: h.mac, HasSourceLL: true}, 255),
			"a group as target":              ask(h.us, group, ipv6.NDP{Target: allNodes, SourceLL: h.mac, HasSourceLL: true}, 255),
			"from :: to a unicast address":   ask(netip.IPv6Unspecified(), h.peer, ipv6.NDP{Target: h.peer}, 255),
			"from :: with an address option": ask(netip.IPv6Unspecified(), group, good, 255),
		} {
			if len(nd) > 0 {
				t.Errorf("%s: answered by %v", name, nd)
			}
		}
	})
}

// TestC190DuplicateAddress: an address is asked for before it is valid, and is given up where somebody answers or asks as
// well (RFC 4862 §5.4, RFC 4429).
func TestC190DuplicateAddress(t *testing.T) {
	for _, by := range []string{"an advertisement", "a solicitation from ::", "silence"} {
		t.Run(by, func(t *testing.T) {
			overWire(t, link.PipeConfig{MTU: 1500, Ethernet: true}, Config{}, func(h *tester) {
				if h.us.Is4() {
					return
				}
				a, b := link.Pipe(link.PipeConfig{MTU: 1500, Ethernet: true})
				s := New(Config{})
				defer s.Close()
				defer b.Close()
				i, err := s.Attach(a, server6)
				if err != nil {
					t.Fatal(err)
				}
				far := &tester{T: t, queue: b.Queues()[0], eth: true, mac: testerMAC, peer: server6.Addr(), us: client6.Addr(), ifc: i, stack: s}
				go far.read()
				asked := 0
				for _, p := range far.neighbor() {
					if p.src.IsUnspecified() && p.dst == ipv6.SolicitedNode(far.peer) {
						asked++
					}
				}
				if asked != 1 {
					t.Errorf("asked %d times for %v, want once", asked, far.peer)
				}
				group := ipv6.SolicitedNode(far.peer)
				switch by {
				case "an advertisement":
					far.ndp(ethernet.Multicast(allNodes), far.peer, allNodes, &ipv6.NDP{Type: ipv6.NeighborAdvertisement, Target: far.peer, Override: true, TargetLL: testerMAC, HasTargetLL: true})
				case "a solicitation from ::":
					far.ndp(ethernet.Multicast(group), netip.IPv6Unspecified(), group, &ipv6.NDP{Type: ipv6.NeighborSolicitation, Target: far.peer})
				}
				far.pass(1100 * time.Millisecond)
				if by == "silence" { // RFC 4862 §5.4.4 leaves one that is valid alone
					far.ndp(ethernet.Multicast(allNodes), far.peer, allNodes, &ipv6.NDP{Type: ipv6.NeighborAdvertisement, Target: far.peer, Override: true, TargetLL: testerMAC, HasTargetLL: true})
					if n := far.drops("address-conflict"); n != 1 {
						t.Errorf("%d conflicts counted", n)
					}
				}
				if got, want := i.stateOf(far.peer), AddrValid; by == "silence" && got != want || by != "silence" && got != 0 {
					t.Errorf("the address is %v", got)
				}
			})
		})
	}
}
