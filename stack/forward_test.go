package stack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/udp"
)

// Two links with a router between them: near is client4's and client6's, with the router at server4 and server6, and
// far is these.
var (
	far4, far6         = netip.MustParsePrefix("203.0.113.1/24"), netip.MustParsePrefix("2001:db8:113::1/64")
	farHost4, farHost6 = netip.MustParsePrefix("203.0.113.2/24"), netip.MustParsePrefix("2001:db8:113::2/64")
	everywhere4        = netip.MustParsePrefix("0.0.0.0/0")
	everywhere6        = netip.MustParsePrefix("::/0")
)

// labelled is a device with a name, as a firewall's rules need it.
type labelled struct {
	link.Device
	name string
}

func (d labelled) Caps() link.Caps {
	c := d.Device.Caps()
	c.Name = d.name
	return c
}

// routedHosts is a host a, a router, and a host b, with default routes.
func routedHosts(t testing.TB, near, far link.PipeConfig, c Config) (a, router, b *Stack) {
	t.Helper()
	n0, n1 := link.Pipe(near)
	f0, f1 := link.Pipe(far)
	a = host(t, n0, Config{NoDAD: true}, client4, client6)
	c.Forwarding.Enabled, c.NoDAD = true, true
	router = host(t, labelled{n1, "lan"}, c, server4, server6)
	if _, err := router.Attach(labelled{f0, "wan"}, far4, far6); err != nil {
		t.Fatal(err)
	}
	b = host(t, f1, Config{NoDAD: true}, farHost4, farHost6)
	for _, x := range []struct {
		s      *Stack
		v4, v6 netip.Prefix
	}{{a, server4, server6}, {b, far4, far6}} {
		if err := errors.Join(x.s.AddRoute(everywhere4, x.v4.Addr(), nil), x.s.AddRoute(everywhere6, x.v6.Addr(), nil)); err != nil {
			t.Fatal(err)
		}
	}
	return a, router, b
}

// farHosts runs a test towards the far host's address of each family.
func farHosts(t *testing.T, f func(t *testing.T, to netip.Addr)) {
	t.Run("IPv4", func(t *testing.T) { f(t, farHost4.Addr()) })
	t.Run("IPv6", func(t *testing.T) { f(t, farHost6.Addr()) })
}

// carry sends n octets over a new connection, and compares what arrives.
func carry(t testing.TB, from, to *Stack, at netip.AddrPort, n int) {
	t.Helper()
	l, err := to.ListenTCP("tcp", netip.AddrPortFrom(netip.Addr{}, at.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	text := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(text)
	done := make(chan [32]byte, 1)
	go func() {
		h := sha256.New()
		if c, err := l.Accept(); err == nil {
			io.Copy(h, c)
			c.Close()
		}
		done <- [32]byte(h.Sum(nil))
	}()
	c, err := from.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(c, bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := <-done, sha256.Sum256(text); got != want {
		t.Errorf("sha256 of what arrived is %x, want %x", got, want)
	}
}

// What goes through a router whose links differ: with super-segments on both sides, on one side only, behind Ethernet and
// not. The far MTU is the smaller one, so the path's is found, and where the far device takes no super-segments they are cut.
func TestForwarding(t *testing.T) {
	for _, x := range []struct {
		name      string
		near, far link.PipeConfig
		rules     string
	}{
		{"IP to IP", link.PipeConfig{MTU: 1500}, link.PipeConfig{MTU: 1500}, ""},
		{"Ethernet to Ethernet", link.PipeConfig{Ethernet: true, MTU: 1500}, link.PipeConfig{Ethernet: true, MTU: 1500}, ""},
		{"IP to Ethernet", link.PipeConfig{MTU: 1500}, link.PipeConfig{Ethernet: true, MTU: 1500}, ""},
		{"Ethernet to IP", link.PipeConfig{Ethernet: true, MTU: 1500}, link.PipeConfig{MTU: 1500}, ""},
		{"GSO whole", link.PipeConfig{MTU: 1500, GSO: 65535}, link.PipeConfig{Ethernet: true, MTU: 1500, GSO: 65535}, ""},
		{"GSO cut", link.PipeConfig{Ethernet: true, MTU: 1500, GSO: 65535}, link.PipeConfig{Ethernet: true, MTU: 1500}, ""},
		{"GSO cut, IP to Ethernet", link.PipeConfig{MTU: 1500, GSO: 65535}, link.PipeConfig{Ethernet: true, MTU: 1500}, ""},
		{"GSO, smaller MTU", link.PipeConfig{MTU: 1500, GSO: 65535}, link.PipeConfig{MTU: 1300, GSO: 65535}, ""},
		{"smaller MTU", link.PipeConfig{MTU: 1500}, link.PipeConfig{Ethernet: true, MTU: 1300}, ""},
		{"through a firewall", link.PipeConfig{MTU: 1500}, link.PipeConfig{Ethernet: true, MTU: 1300}, "policy forward drop\nallow forward on lan"},
		{"masquerade", link.PipeConfig{Ethernet: true, MTU: 1500}, link.PipeConfig{MTU: 1300}, "policy forward drop\nallow forward on lan\nnat on wan"},
		{"masquerade, GSO cut", link.PipeConfig{Ethernet: true, MTU: 1500, GSO: 65535}, link.PipeConfig{MTU: 1500}, "policy in drop\nnat on wan"},
		{"masquerade, GSO whole", link.PipeConfig{Ethernet: true, MTU: 1500, GSO: 65535}, link.PipeConfig{MTU: 1500, GSO: 65535}, "policy in drop\nnat on wan"},
	} {
		t.Run(x.name, func(t *testing.T) {
			farHosts(t, func(t *testing.T, to netip.Addr) {
				synctest.Test(t, func(t *testing.T) {
					a, router, b := routedHosts(t, x.near, x.far, Config{})
					useRules(t, router, x.rules)
					if r, err := a.Ping(t.Context(), to, PingConfig{}); err != nil || r.HopLimit != 63 {
						t.Errorf("ping: hop limit %d, %v; want 63", r.HopLimit, err)
					}
					carry(t, a, b, netip.AddrPortFrom(to, 80), 500_000)
					echoUDP(t, a, b, netip.AddrPortFrom(to, 7), 100)
					echoUDP(t, a, b, netip.AddrPortFrom(to, 8), 4000) // in fragments, which are cut once more where need be
					if st := router.Stats(); st.Forwarded == 0 || st.Drops["device-full"]+st.Drops["bad-header"] > 0 {
						t.Errorf("the router: %+v", st)
					}
				})
			})
		})
	}
}

// echoUDP sends a datagram of n octets there and back.
func echoUDP(t testing.TB, from, to *Stack, at netip.AddrPort, n int) {
	t.Helper()
	server, err := to.ListenUDP("udp", netip.AddrPortFrom(netip.Addr{}, at.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := from.DialUDP("udp", netip.AddrPort{}, at)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	go func() {
		b := make([]byte, 65535)
		for {
			n, from, err := server.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			server.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	text, b := make([]byte, n), make([]byte, 65535)
	rand.NewChaCha8([32]byte{2}).Read(text)
	client.SetReadDeadline(time.Now().Add(time.Second))
	for range 5 { // the first may be lost, as the MTU of the path is found
		if _, err = client.Write(text); err != nil && !errors.Is(err, syscall.EMSGSIZE) {
			t.Fatal(err)
		}
		client.SetReadDeadline(time.Now().Add(time.Second))
		var got int
		if got, err = client.Read(b); err == nil {
			if !bytes.Equal(b[:got], text) {
				t.Errorf("%d octets came back of %d", got, n)
			}
			return
		}
	}
	t.Errorf("a datagram of %d octets does not come back: %v", n, err)
}

// What a router answers instead of passing a packet on (RFC 1812 §4.3.3, RFC 4443 §3), quoting it as it came.
func TestForwardErrors(t *testing.T) {
	for _, x := range []struct {
		name  string
		rules string
		set   func(t *testing.T, router *Stack)
		ping  PingConfig
		to    netip.Addr
		want  [2]uint8 // type and code
	}{
		{name: "TTL", ping: PingConfig{HopLimit: 1}, to: farHost4.Addr(), want: [2]uint8{ipv4.TimeExceeded, 0}},
		{name: "hop limit", ping: PingConfig{HopLimit: 1}, to: farHost6.Addr(), want: [2]uint8{ipv6.TimeExceeded, 0}},
		{name: "TTL before a port forward", rules: "forward udp on lan port 9 to 203.0.113.2:9\nnat on wan", ping: PingConfig{HopLimit: 1}, to: farHost4.Addr(), want: [2]uint8{ipv4.TimeExceeded, 0}},
		{name: "no route, IPv4", to: netip.MustParseAddr("192.0.2.9"), want: [2]uint8{ipv4.Unreachable, ipv4.CodeNet}},
		{name: "no route, IPv6", to: netip.MustParseAddr("2001:db8:ffff::9"), want: [2]uint8{ipv6.Unreachable, ipv6.CodeNoRoute}},
		{name: "prohibited", to: netip.MustParseAddr("192.0.2.9"), want: [2]uint8{ipv4.Unreachable, ipv4.CodeProhibited},
			set: func(t *testing.T, r *Stack) { addRoute(t, r, Route{Dst: everywhere4, Type: RouteProhibited}) }},
		{name: "unreachable", to: netip.MustParseAddr("2001:db8:ffff::9"), want: [2]uint8{ipv6.Unreachable, ipv6.CodeAddress},
			set: func(t *testing.T, r *Stack) { addRoute(t, r, Route{Dst: everywhere6, Type: RouteUnreachable}) }},
		{name: "too big, IPv4", ping: PingConfig{Data: make([]byte, 1400), DontFragment: true}, to: farHost4.Addr(), want: [2]uint8{ipv4.Unreachable, ipv4.CodeFragNeeded}},
		{name: "too big, IPv6", ping: PingConfig{Data: make([]byte, 1400), DontFragment: true}, to: farHost6.Addr(), want: [2]uint8{ipv6.PacketTooBig, 0}},
		{name: "rejected", rules: "reject forward icmp to 203.0.113.2 with host", to: farHost4.Addr(), want: [2]uint8{ipv4.Unreachable, ipv4.CodeHost}},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, router, _ := routedHosts(t, link.PipeConfig{Ethernet: true, MTU: 1500}, link.PipeConfig{MTU: 1300}, Config{})
				useRules(t, router, x.rules)
				if x.set != nil {
					x.set(t, router)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := a.Ping(ctx, x.to, x.ping)
				var e *ICMPError
				if !errors.As(err, &e) || [2]uint8{e.Type, e.Code} != x.want {
					t.Fatalf("%v, want ICMP error %d; router: %v", err, x.want, router.Stats().Drops)
				}
				if want := map[bool]netip.Addr{true: server4.Addr(), false: server6.Addr()}[x.to.Is4()]; e.From != want {
					if x.name != "rejected" { // which comes from whom the packet was for
						t.Errorf("the error comes from %v, want %v", e.From, want)
					}
				}
			})
		})
	}
}

// RFC 1812 §4.3.3.1: nobody answers for an address of the far link, and the sender hears of it.
func TestForwardToNobody(t *testing.T) {
	for _, x := range []struct {
		to   netip.Addr
		want [2]uint8
	}{
		{netip.MustParseAddr("203.0.113.99"), [2]uint8{ipv4.Unreachable, ipv4.CodeHost}},
		{netip.MustParseAddr("2001:db8:113::99"), [2]uint8{ipv6.Unreachable, ipv6.CodeAddress}},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, router, _ := routedHosts(t, link.PipeConfig{MTU: 1500}, link.PipeConfig{Ethernet: true, MTU: 1500}, Config{})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := a.Ping(ctx, x.to, PingConfig{})
			if e := (*ICMPError)(nil); !errors.As(err, &e) || [2]uint8{e.Type, e.Code} != x.want {
				t.Errorf("%v, want ICMP error %d; router: %v", err, x.want, router.Stats().Drops)
			}
		})
	}
}

func addRoute(t *testing.T, s *Stack, r Route) {
	t.Helper()
	if err := s.AddRouteWith(r); err != nil {
		t.Fatal(err)
	}
}

// useRules gives a stack the firewall's rules; "": none.
func useRules(t testing.TB, s *Stack, text string) {
	t.Helper()
	if text == "" {
		return
	}
	r, err := firewall.Parse(text)
	if err == nil {
		err = s.SetFirewall(r)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// raw is a router of which a test holds the other ends of the wires.
type raw struct {
	router    *Stack
	near, far link.Device
}

func newRaw(t testing.TB, near, far link.PipeConfig, c Config) *raw {
	t.Helper()
	r := new(raw)
	var n, f link.Device
	n, r.near = link.Pipe(near)
	f, r.far = link.Pipe(far)
	c.Forwarding.Enabled, c.NoDAD = true, true
	r.router = host(t, labelled{n, "lan"}, c, server4, server6)
	if _, err := r.router.Attach(labelled{f, "wan"}, far4, far6); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.near.Close(); r.far.Close() })
	return r
}

// datagramOf is a UDP datagram as an IP packet.
func datagramOf(src, dst netip.AddrPort, hops uint8, text []byte) []byte {
	b := make([]byte, udp.HeaderLen, udp.HeaderLen+len(text))
	h := udp.Header{Src: src.Port(), Dst: dst.Port(), Length: udp.HeaderLen + len(text)}
	h.Encode(b)
	b = append(b, text...)
	h.Checksum = udp.Checksum(checksum.Sum(b, checksum.Pseudo(src.Addr(), dst.Addr(), ipv4.ProtoUDP, len(b))))
	h.Encode(b)
	if src.Addr().Is4() {
		p := make([]byte, ipv4.MinHeaderLen)
		ip := ipv4.Header{Length: len(p) + len(b), TTL: hops, Protocol: ipv4.ProtoUDP, Src: src.Addr(), Dst: dst.Addr()}
		ip.Encode(p)
		return append(p, b...)
	}
	p := make([]byte, ipv6.HeaderLen)
	ip := ipv6.Header{PayloadLength: len(b), NextHeader: ipv4.ProtoUDP, HopLimit: hops, Src: src.Addr(), Dst: dst.Addr()}
	ip.Encode(p)
	return append(p, b...)
}

// Packets that a router does not pass on, each with the reason that it counts.
func TestNotForwarded(t *testing.T) {
	ap := netip.MustParseAddrPort
	for _, x := range []struct {
		name, src, dst, reason string
		any                    bool
	}{
		{"reverse path, from the far network", "203.0.113.7:1", "203.0.113.2:2", "reverse-path", false},
		{"reverse path, IPv6", "[2001:db8:113::7]:1", "[2001:db8:113::2]:2", "reverse-path", false},
		{"no way back", "192.0.2.1:1", "203.0.113.2:2", "reverse-path", false},
		{"any source", "192.0.2.1:1", "203.0.113.2:2", "", true},
		{"from the router itself", "198.51.100.2:1", "203.0.113.2:2", "bad-source", false},
		{"from loopback", "127.0.0.1:1", "203.0.113.2:2", "bad-source", false},
		{"from nobody", "0.0.0.0:1", "203.0.113.2:2", "bad-source", false},
		{"from class E", "240.0.0.1:1", "203.0.113.2:2", "bad-source", true},
		{"from a group", "224.0.0.5:1", "203.0.113.2:2", "bad-source", true},
		{"from link-local", "169.254.1.1:1", "203.0.113.2:2", "not-forwarded", false},
		{"to link-local", "198.51.100.1:1", "169.254.1.1:2", "not-forwarded", false},
		{"from link-local, IPv6", "[fe80::1]:1", "[2001:db8:113::2]:2", "not-forwarded", false},
		{"to link-local, IPv6", "[2001:db8:51::1]:1", "[fe80::77]:2", "not-forwarded", false},
		{"to loopback", "198.51.100.1:1", "127.0.0.1:2", "not-forwarded", false},
		{"directed broadcast", "198.51.100.1:1", "203.0.113.255:2", "not-forwarded", false},
		{"multicast", "198.51.100.1:1", "239.1.1.1:2", "other-host", false},
		{"to the router's other address", "198.51.100.1:1", "203.0.113.1:2", "no-socket", false},
		{"passes", "198.51.100.1:1", "203.0.113.2:2", "", false},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRaw(t, link.PipeConfig{}, link.PipeConfig{}, Config{Forwarding: Forwarding{AnySource: x.any}})
				r.near.Queues()[0].Write([]link.Packet{{Head: datagramOf(ap(x.src), ap(x.dst), 9, []byte("text"))}})
				synctest.Wait()
				st := r.router.Stats()
				if want := map[bool]uint64{true: 1}[x.reason == ""]; st.Forwarded != want || x.reason != "" && st.Drops[x.reason] != 1 {
					t.Errorf("%d forwarded, drops %v; want %q", st.Forwarded, st.Drops, x.reason)
				}
			})
		})
	}
}

// The hop count goes down by one, and the checksum follows it whatever it was (RFC 1624).
func TestLessHops(t *testing.T) {
	for ttl := 2; ttl < 256; ttl++ {
		for id := range 1 << 12 {
			b := make([]byte, ipv4.MinHeaderLen)
			h := ipv4.Header{Length: len(b), TTL: uint8(ttl), ID: uint16(id * 17), Src: client4.Addr(), Dst: server4.Addr()}
			h.Encode(b)
			lessHops(b)
			if _, err := h.Decode(b); err != nil || int(h.TTL) != ttl-1 {
				t.Fatalf("TTL %d, ID %d: %d, %v", ttl, id*17, h.TTL, err)
			}
		}
	}
}

// RFC 792 and RFC 4861 §4.5: the first packet to a host on the sender's own link goes on, and the sender is told.
func TestRedirect(t *testing.T) {
	for _, on := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRaw(t, link.PipeConfig{Ethernet: true}, link.PipeConfig{}, Config{Forwarding: Forwarding{Redirects: on}})
			var got []uint8
			go func() {
				p := make([]link.Packet, 16)
				for {
					n, err := r.near.Queues()[0].Read(p)
					if err != nil {
						return
					}
					for _, p := range p[:n] {
						b := p.Head[ethernet.HeaderLen:]
						if b[0]>>4 == 4 && b[9] == ipv4.ProtoICMP && b[20] == 5 && netip.AddrFrom4([4]byte(b[24:28])) == netip.MustParseAddr("198.51.100.77") {
							got = append(got, 4)
						}
						if b[0]>>4 == 6 && b[6] == ipv6.ProtoICMP && b[40] == ipv6.Redirect && b[7] == 255 && netip.AddrFrom16([16]byte(b[48:64])) == netip.MustParseAddr("2001:db8:51::77") {
							got = append(got, 6)
						}
					}
				}
			}()
			i := r.router.view.Load().ifaces[1]
			for _, x := range [][2]string{{"198.51.100.1:1", "198.51.100.77:2"}, {"[2001:db8:51::1]:1", "[2001:db8:51::77]:2"}} {
				src, dst := netip.MustParseAddrPort(x[0]), netip.MustParseAddrPort(x[1])
				for _, a := range []netip.Addr{src.Addr(), dst.Addr()} {
					if err := i.SetNeighbor(a, net.HardwareAddr{2, 0, 0, 0, 0, 1}); err != nil {
						t.Fatal(err)
					}
				}
				f := make([]byte, ethernet.HeaderLen)
				h := ethernet.Header{Dst: i.mac, Src: ethernet.Addr{2, 0, 0, 0, 0, 1}, Type: ethernet.TypeIPv4}
				if src.Addr().Is6() {
					h.Type = ethernet.TypeIPv6
				}
				h.Encode(f)
				r.near.Queues()[0].Write([]link.Packet{{Head: append(f, datagramOf(src, dst, 9, []byte("text"))...)}})
				synctest.Wait()
			}
			if want := map[bool]string{true: "\x04\x06"}[on]; string(got) != want {
				t.Errorf("redirects %v of families %v, drops %v", on, got, r.router.Stats().Drops)
			}
			if n := r.router.Stats().Forwarded; n != 2 {
				t.Errorf("%d forwarded, want both", n)
			}
		})
	}
}
