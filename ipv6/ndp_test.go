package ipv6

import (
	"fmt"
	"net/netip"
	"testing"
)

var mac = [6]byte{2, 0, 0x5e, 0x10, 0, 1}

// messages is one of each type with all that it can hold.
func messages() []NDP {
	ra := NDP{Type: RouterAdvertisement, HopLimit: 64, Managed: true, Lifetime: 1800, Reachable: 30000, Retrans: 1000,
		SourceLL: mac, HasSourceLL: true, MTU: 1400, NumPrefixes: MaxPrefixes}
	for i := range ra.Prefixes {
		ra.Prefixes[i] = Prefix{Prefix: netip.PrefixFrom(alice, i*8).Masked(), OnLink: i%2 == 0, Autonomous: i%3 == 0,
			Valid: Infinite, Preferred: uint32(i)}
	}
	return []NDP{
		{Type: RouterSolicitation, SourceLL: mac, HasSourceLL: true},
		ra,
		{Type: RouterAdvertisement, Other: true},
		{Type: NeighborSolicitation, Target: alice, SourceLL: mac, HasSourceLL: true},
		{Type: NeighborSolicitation, Target: alice, Nonce: [6]byte{1, 2, 3, 4, 5, 6}, HasNonce: true},
		{Type: NeighborAdvertisement, Target: alice, Router: true, TargetLL: mac, HasTargetLL: true},
		{Type: NeighborAdvertisement, Target: alice, Solicited: true},
		{Type: NeighborAdvertisement, Target: alice, Override: true},
		{Type: Redirect, Target: local, Dest: bob, TargetLL: mac, HasTargetLL: true},
		{Type: Redirect, Target: bob, Dest: bob},
	}
}

func TestNDPRoundTrip(t *testing.T) {
	for _, n := range messages() {
		b := make([]byte, n.Len())
		for i := range b {
			b[i] = 0xff // what stood there before
		}
		m := n.Encode(b)
		clean := n.Encode(make([]byte, n.Len())) // RFC 4861 §4: reserved fields are sent as zero
		if string(m.Body) != string(clean.Body) || m.Rest != clean.Rest {
			t.Errorf("type %d: what stood there before shows in %x, want %x", n.Type, m.Body, clean.Body)
		}
		var got NDP
		if err := got.Decode(&m); err != nil || got != n || len(m.Body) != n.Len() {
			t.Errorf("%d octets, %v\n got %+v\nwant %+v", len(m.Body), err, got, n)
		}
		if len(b) > 0 {
			if m := n.Encode(b[:len(b)-1]); m.Type != 0 || m.Body != nil {
				t.Errorf("type %d: Encode without room = %+v, want nothing", n.Type, m)
			}
		}
	}
	for _, n := range []NDP{{}, {Type: Echo}, {Type: NeighborSolicitation}, {Type: Redirect, Target: local}} {
		if m := n.Encode(make([]byte, 64)); m.Type != 0 {
			t.Errorf("Encode(%+v) = %+v, want nothing", n, m)
		}
	}
}

func TestNDPDecodeEveryTruncation(t *testing.T) {
	for _, n := range messages() {
		m := n.Encode(make([]byte, n.Len()))
		whole := m.Body
		fixed := fixedLen[n.Type-RouterSolicitation]
		for short := range len(whole) {
			m.Body = whole[:short:short]
			var got NDP
			err := got.Decode(&m)
			switch {
			case short < fixed && err != ErrNDPLength:
				t.Errorf("C181 type %d, %d octets: %v, want %v", n.Type, short, err, ErrNDPLength)
			case short >= fixed && short%8 != 0 && err != ErrNDPOption:
				t.Errorf("C181 type %d, %d octets: %v, want %v", n.Type, short, err, ErrNDPOption)
			}
		}
	}
}

func TestNDPDecodeRefuses(t *testing.T) {
	multicast := netip.MustParseAddr("ff02::1")
	target := func(a netip.Addr, options ...byte) []byte {
		b := a.As16()
		return append(b[:], options...)
	}
	redirect := func(to, dest netip.Addr) []byte { return append(target(to), target(dest)...) }
	for _, c := range []struct {
		name string
		m    ICMP
		err  error
	}{
		{"C181 echo", ICMP{Type: Echo, Body: make([]byte, 64)}, ErrNDPType},
		{"C181 type 138", ICMP{Type: 138, Body: make([]byte, 64)}, ErrNDPType},
		{"C181 RS code", ICMP{Type: RouterSolicitation, Code: 1}, ErrNDPCode},
		{"C181 RA code", ICMP{Type: RouterAdvertisement, Code: 1, Body: make([]byte, 8)}, ErrNDPCode},
		{"C181 NS code", ICMP{Type: NeighborSolicitation, Code: 1, Body: target(alice)}, ErrNDPCode},
		{"C181 NA code", ICMP{Type: NeighborAdvertisement, Code: 1, Body: target(alice)}, ErrNDPCode},
		{"C181 Redirect code", ICMP{Type: Redirect, Code: 1, Body: redirect(local, bob)}, ErrNDPCode},
		{"C181 NS target", ICMP{Type: NeighborSolicitation, Body: target(multicast)}, ErrNDPTarget},
		{"C181 NA target", ICMP{Type: NeighborAdvertisement, Body: target(multicast)}, ErrNDPTarget},
		{"C188 Redirect of a group", ICMP{Type: Redirect, Body: redirect(local, multicast)}, ErrNDPTarget},
		{"C188 Redirect to a group", ICMP{Type: Redirect, Body: redirect(multicast, multicast)}, ErrNDPTarget},
		{"C188 Redirect to a global router", ICMP{Type: Redirect, Body: redirect(alice, bob)}, ErrNDPTarget},
		{"C181 RS option of length 0", ICMP{Type: RouterSolicitation, Body: make([]byte, 8)}, ErrNDPOption},
		{"C181 RA option of length 0", ICMP{Type: RouterAdvertisement, Body: make([]byte, 16)}, ErrNDPOption},
		{"C181 NS option of length 0", ICMP{Type: NeighborSolicitation, Body: target(alice, make([]byte, 8)...)}, ErrNDPOption},
		{"C181 NA option of length 0", ICMP{Type: NeighborAdvertisement, Body: target(alice, 99, 0, 0, 0, 0, 0, 0, 0)}, ErrNDPOption},
		{"C181 Redirect option of length 0", ICMP{Type: Redirect, Body: append(redirect(local, bob), make([]byte, 8)...)}, ErrNDPOption},
		{"A57 link-layer address too long", ICMP{Type: NeighborSolicitation, Body: target(alice, append([]byte{1, 2}, make([]byte, 14)...)...)}, ErrNDPOption},
		{"A57 prefix too short", ICMP{Type: RouterAdvertisement, Body: append(make([]byte, 8), 3, 1, 64, 0, 0, 0, 0, 0)}, ErrNDPOption},
		{"A57 MTU too long", ICMP{Type: RouterAdvertisement, Body: append(make([]byte, 8), append([]byte{5, 2}, make([]byte, 14)...)...)}, ErrNDPOption},
		{"A57 option beyond the message", ICMP{Type: RouterSolicitation, Body: []byte{99, 2, 0, 0, 0, 0, 0, 0}}, ErrNDPOption},
	} {
		t.Run(c.name, func(t *testing.T) {
			var n NDP
			if err := n.Decode(&c.m); err != c.err {
				t.Errorf("Decode(%+v) = %v, want %v", c.m, err, c.err)
			}
		})
	}
}

func TestNDPDecodePassesOver(t *testing.T) {
	for _, c := range []struct {
		name string
		m    ICMP
		want NDP
	}{
		{"RFC 4861 §4.6 unknown option", ICMP{Type: RouterSolicitation, Body: []byte{99, 1, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0x5e, 0x10, 0, 1}},
			NDP{Type: RouterSolicitation, SourceLL: mac, HasSourceLL: true}},
		{"RFC 4861 §4.1 option of another message", ICMP{Type: RouterSolicitation, Body: []byte{2, 1, 1, 2, 3, 4, 5, 6}},
			NDP{Type: RouterSolicitation}},
		{"first of two addresses", ICMP{Type: RouterSolicitation, Body: []byte{1, 1, 2, 0, 0x5e, 0x10, 0, 1, 1, 1, 9, 9, 9, 9, 9, 9}},
			NDP{Type: RouterSolicitation, SourceLL: mac, HasSourceLL: true}},
		{"RFC 4861 §4.6.2 prefix of 129 bits", ICMP{Type: RouterAdvertisement, Body: append(make([]byte, 8), append([]byte{3, 4, 129}, make([]byte, 29)...)...)},
			NDP{Type: RouterAdvertisement}},
		{"RFC 3971 §5.3.2 long nonce", ICMP{Type: NeighborSolicitation, Body: append(make([]byte, 16), append([]byte{14, 2}, make([]byte, 14)...)...)},
			NDP{Type: NeighborSolicitation, Target: netip.IPv6Unspecified()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var n NDP
			if err := n.Decode(&c.m); err != nil || n != c.want {
				t.Errorf("%v\n got %+v\nwant %+v", err, n, c.want)
			}
		})
	}
	body := make([]byte, 8)
	for range MaxPrefixes + 1 {
		body = append(append(body, 3, 4, 64, 0), make([]byte, 28)...)
	}
	var n NDP
	if err := n.Decode(&ICMP{Type: RouterAdvertisement, Body: body}); err != nil || n.NumPrefixes != MaxPrefixes {
		t.Errorf("one prefix too many: %v, %d kept, want %d", err, n.NumPrefixes, MaxPrefixes)
	}
}

func TestNDPCheck(t *testing.T) {
	none, group := netip.IPv6Unspecified(), netip.MustParseAddr("ff02::1")
	for _, c := range []struct {
		name string
		n    NDP
		h    Header
		err  error
	}{
		{"RS", NDP{Type: RouterSolicitation, HasSourceLL: true}, Header{HopLimit: 255, Src: local}, nil},
		{"RS without an address", NDP{Type: RouterSolicitation}, Header{HopLimit: 255, Src: none}, nil},
		{"C181 RS hop limit", NDP{Type: RouterSolicitation}, Header{HopLimit: 254, Src: local}, ErrNDPHopLimit},
		{"C181 RS from :: with SLLA", NDP{Type: RouterSolicitation, HasSourceLL: true}, Header{HopLimit: 255, Src: none}, ErrNDPAddress},
		{"RA", NDP{Type: RouterAdvertisement}, Header{HopLimit: 255, Src: local, Dst: group}, nil},
		{"C181 RA hop limit", NDP{Type: RouterAdvertisement}, Header{HopLimit: 64, Src: local}, ErrNDPHopLimit},
		{"C181 RA from a global address", NDP{Type: RouterAdvertisement}, Header{HopLimit: 255, Src: alice}, ErrNDPAddress},
		{"NS", NDP{Type: NeighborSolicitation, Target: bob, HasSourceLL: true}, Header{HopLimit: 255, Src: alice, Dst: bob}, nil},
		{"C181 NS hop limit", NDP{Type: NeighborSolicitation, Target: bob}, Header{HopLimit: 0, Src: alice}, ErrNDPHopLimit},
		{"DAD NS", NDP{Type: NeighborSolicitation, Target: bob}, Header{HopLimit: 255, Src: none, Dst: SolicitedNode(bob)}, nil},
		{"C181 DAD NS to the address", NDP{Type: NeighborSolicitation, Target: bob}, Header{HopLimit: 255, Src: none, Dst: bob}, ErrNDPAddress},
		{"C181 DAD NS with SLLA", NDP{Type: NeighborSolicitation, Target: bob, HasSourceLL: true},
			Header{HopLimit: 255, Src: none, Dst: SolicitedNode(bob)}, ErrNDPAddress},
		{"NA to all", NDP{Type: NeighborAdvertisement}, Header{HopLimit: 255, Src: alice, Dst: group}, nil},
		{"C181 NA hop limit", NDP{Type: NeighborAdvertisement}, Header{HopLimit: 254, Src: alice}, ErrNDPHopLimit},
		{"C181 NA to all, solicited", NDP{Type: NeighborAdvertisement, Solicited: true}, Header{HopLimit: 255, Src: alice, Dst: group}, ErrNDPAddress},
		{"C181 NA from a group", NDP{Type: NeighborAdvertisement}, Header{HopLimit: 255, Src: group, Dst: alice}, ErrNDPAddress},
		{"Redirect", NDP{Type: Redirect}, Header{HopLimit: 255, Src: local, Dst: alice}, nil},
		{"C188 Redirect hop limit", NDP{Type: Redirect}, Header{HopLimit: 254, Src: local}, ErrNDPHopLimit},
		{"C188 Redirect from a global address", NDP{Type: Redirect}, Header{HopLimit: 255, Src: bob, Dst: alice}, ErrNDPAddress},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.n.Check(&c.h); err != c.err {
				t.Errorf("Check(%+v) = %v, want %v", c.h, err, c.err)
			}
		})
	}
}

// Who has 2001:db8::2? The question, as it goes into a packet to the group of that address.
func ExampleNDP() {
	me, you := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	question := NDP{Type: NeighborSolicitation, Target: you, SourceLL: [6]byte{2, 0, 0x5e, 0x10, 0, 1}, HasSourceLL: true}

	payload := make([]byte, ICMPLen+question.Len())
	m := question.Encode(payload[ICMPLen:])
	n := m.Encode(payload, me, SolicitedNode(you))
	fmt.Printf("to %v: type %d, target %x, option %x\n", SolicitedNode(you), payload[0], payload[8:24], payload[24:n])
	// Output: to ff02::1:ff00:2: type 135, target 20010db8000000000000000000000002, option 010102005e100001
}
