package ipv6

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
)

var (
	alice = netip.MustParseAddr("2001:db8::1")
	bob   = netip.MustParseAddr("2001:db8::2")
	local = netip.MustParseAddr("fe80::1")
)

func TestHeaderDecode(t *testing.T) {
	h := Header{TrafficClass: 0xb9, FlowLabel: 0xabcde, PayloadLength: 4, NextHeader: 17, HopLimit: 64, Src: alice, Dst: bob}
	good := make([]byte, HeaderLen+4)
	if n := h.Encode(good); n != HeaderLen {
		t.Fatalf("Encode = %d, want %d", n, HeaderLen)
	}
	for _, c := range []struct {
		name string
		b    []byte
		err  error
	}{
		{"RFC 8200 §3 as it should be", good, nil},
		{"C158 padded frame", append(append([]byte{}, good...), 1, 2), nil},
		{"RFC 8200 §3 version 4", append([]byte{0x45}, good[1:]...), ErrVersion},
		{"RFC 8200 §3 payload cut", good[:HeaderLen+3], ErrLength},
		{"RFC 8200 §3 no payload", good[:HeaderLen], ErrLength},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got Header
			if err := got.Decode(c.b); err != c.err || err == nil && got != h {
				t.Errorf("Decode(%x) = %v, %+v, want %v, %+v", c.b, err, got, c.err, h)
			}
		})
	}
	for n := range HeaderLen {
		var got Header
		if err := got.Decode(good[:n]); err != ErrShort {
			t.Errorf("%d octets: %v, want %v", n, err, ErrShort)
		}
	}
	var quoted Header
	if err := quoted.DecodeQuoted(good[:HeaderLen]); err != nil || quoted != h {
		t.Errorf("C145 quoted without payload: %v, %+v", err, quoted)
	}
}

func TestHeaderEncodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		h    Header
		room int
	}{
		{"no room", Header{Src: alice, Dst: bob}, 39},
		{"payload of 17 bits", Header{Src: alice, Dst: bob, PayloadLength: MaxPayload + 1}, 40},
		{"payload below 0", Header{Src: alice, Dst: bob, PayloadLength: -1}, 40},
		{"flow label of 21 bits", Header{Src: alice, Dst: bob, FlowLabel: 1 << 20}, 40},
		{"IPv4 source", Header{Src: netip.MustParseAddr("198.51.100.1"), Dst: bob}, 40},
		{"no destination", Header{Src: alice}, 40},
	} {
		b := make([]byte, c.room)
		if n := c.h.Encode(b); n != 0 || string(b) != string(make([]byte, c.room)) {
			t.Errorf("%s: Encode = %d and %x, want 0 and nothing written", c.name, n, b)
		}
	}
	h := Header{Src: local.WithZone("tap0"), Dst: bob}
	b := make([]byte, HeaderLen)
	if n := h.Encode(b); n != HeaderLen || netip.AddrFrom16([16]byte(b[8:])) != local {
		t.Errorf("a zone in the source: Encode = %d, %x", n, b)
	}
}

func TestAddresses(t *testing.T) {
	// RFC 4291 §2.7.1 has this very example.
	a, want := netip.MustParseAddr("4037::01:800:200e:8c6c"), netip.MustParseAddr("ff02::1:ff0e:8c6c")
	if got := SolicitedNode(a); got != want {
		t.Errorf("SolicitedNode(%v) = %v, want %v", a, got, want)
	}
	// RFC 2464 §4 and §5: 34-56-78-9A-BC-DE has the identifier 36-56-78-FF-FE-9A-BC-DE.
	if got, want := LinkLocal([6]byte{2, 0, 0x5e, 0x10, 0, 1}), netip.MustParseAddr("fe80::5eff:fe10:1"); got != want {
		t.Errorf("LinkLocal of a locally administered card = %v, want %v", got, want)
	}
	mac, want := [6]byte{0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde}, netip.MustParseAddr("fe80::3656:78ff:fe9a:bcde")
	if got := LinkLocal(mac); got != want {
		t.Errorf("LinkLocal(%x) = %v, want %v", mac, got, want)
	}
}

func TestICMP(t *testing.T) {
	for _, m := range []ICMP{
		{Type: Echo, Rest: 0x0007_0005, Body: []byte("data")},
		{Type: EchoReply, Rest: 0x0007_0005, Body: []byte("odd")},
		{Unreachable, CodePort, 0, []byte{0x60}},
		{PacketTooBig, 0, 1400, []byte{0x60}},
		{PacketTooBig, 0, 1<<32 - 1, []byte{}},
		{ParamProblem, CodeNextHeader, 6, []byte{}},
	} {
		b := []byte("what stood there before")
		n := m.Encode(b, alice, bob)
		var got ICMP
		if err := got.Decode(b[:n], alice, bob); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v came back as %+v, %v", m, got, err)
		}
		if got.IsError() != (m.Type < Echo) {
			t.Errorf("type %d: error %v", m.Type, got.IsError())
		}
		if err := got.Decode(b[:n], alice, local); err != ErrChecksum {
			t.Errorf("C176 type %d to another address: %v, want %v", m.Type, err, ErrChecksum)
		}
		for i := range n * 8 {
			b[i/8] ^= 1 << (i % 8)
			if err := got.Decode(b[:n], alice, bob); err != ErrChecksum {
				t.Errorf("C176 type %d, octet %d, bit %d flipped: %v, want %v", m.Type, i/8, i%8, err, ErrChecksum)
			}
			b[i/8] ^= 1 << (i % 8)
		}
		for short := range ICMPLen {
			if err := got.Decode(b[:short], alice, bob); err != ErrShort {
				t.Errorf("type %d, %d octets: %v, want %v", m.Type, short, err, ErrShort)
			}
		}
		if n := m.Encode(b[:n-1], alice, bob); n != 0 {
			t.Errorf("Encode without room = %d, want 0", n)
		}
	}
	m := ICMP{Type: Echo, Rest: 0x0007_0005}
	if m.ID() != 7 || m.Seq() != 5 || m.MTU() != 0 {
		t.Errorf("echo: identifier %d, sequence %d, MTU %d, want 7, 5, 0", m.ID(), m.Seq(), m.MTU())
	}
	for rest, want := range map[uint32]int{600: 600, 1400: 1400, 1<<32 - 1: 1<<31 - 1} {
		m := ICMP{Type: PacketTooBig, Rest: rest}
		if m.MTU() != want {
			t.Errorf("C129 packet too big %d: MTU %d, want %d", rest, m.MTU(), want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x60\x00\x00\x00\x00\x10\x3a\xff\xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\xff\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" +
		"\x85\x00\x00\x00\x00\x00\x00\x00\x01\x01\x02\x00\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h, h2 Header
		if h.Decode(b) == nil {
			out := make([]byte, len(b))
			n := h.Encode(out)
			copy(out[n:], b[n:])
			if err := h2.Decode(out); err != nil || h2 != h || string(out) != string(b) {
				t.Errorf("%+v came back as %+v, %v", h, h2, err)
			}
		}
		if len(b) < ICMPLen {
			return
		}
		m := ICMP{b[0], b[1], 0, b[ICMPLen:]} // with a right checksum, or nothing would come through
		p := make([]byte, len(b))
		m.Encode(p, alice, bob)
		var m2 ICMP
		if err := m2.Decode(p, alice, bob); err != nil || !reflect.DeepEqual(m, m2) {
			t.Errorf("%+v came back as %+v, %v", m, m2, err)
		}
	})
}

func FuzzNDP(f *testing.F) {
	f.Add(NeighborSolicitation, uint32(0), append(make([]byte, 16), 1, 1, 2, 0, 0, 0, 0, 1, 14, 1, 1, 2, 3, 4, 5, 6))
	f.Add(RouterAdvertisement, uint32(64<<24), append(append(make([]byte, 8), 3, 4, 64, 0xc0), make([]byte, 28)...))
	f.Add(Redirect, uint32(0), append(make([]byte, 32), 2, 1, 2, 0, 0, 0, 0, 1))
	late := rich(f)
	m := late.Encode(make([]byte, late.Len()))
	f.Add(m.Type, m.Rest, m.Body)
	f.Fuzz(func(t *testing.T, kind uint8, rest uint32, body []byte) {
		var n, n2 NDP
		if n.Decode(&ICMP{Type: kind, Rest: rest, Body: body}) != nil {
			return
		}
		n.Check(&Header{HopLimit: 255, Src: local, Dst: bob})
		m := n.Encode(make([]byte, n.Len()))
		if err := n2.Decode(&m); err != nil || n2 != n {
			t.Errorf("%+v came back as %+v, %v", n, n2, err)
		}
	})
}

// The waybill of a parcel that holds "hello".
func ExampleHeader() {
	data := "hello"
	h := Header{PayloadLength: len(data), NextHeader: ProtoUDP, HopLimit: 64,
		Src: netip.MustParseAddr("2001:db8::1"), Dst: netip.MustParseAddr("2001:db8::2")}
	packet := make([]byte, HeaderLen+len(data))
	copy(packet[h.Encode(packet):], data)

	var got Header
	if err := got.Decode(packet); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%v → %v, %s\n", got.Src, got.Dst, packet[HeaderLen:HeaderLen+got.PayloadLength])
	// Output: 2001:db8::1 → 2001:db8::2, hello
}
