package ethernet

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
)

var (
	alice = Addr{0x02, 0, 0x5e, 0x10, 0, 1}
	bob   = Addr{0x02, 0, 0x5e, 0x10, 0, 2}
)

func TestAddr(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Addr
		err  error
	}{
		{"02:00:5e:10:00:01", alice, nil},
		{"02-00-5E-10-00-01", alice, nil},
		{"ff:ff:ff:ff:ff:ff", Broadcast, nil},
		{"", Addr{}, ErrAddress},
		{"02:00:5e:10:00:1", Addr{}, ErrAddress},
		{"02:00:5e:10:00:01:", Addr{}, ErrAddress},
		{"02:00-5e:10:00:01", Addr{}, ErrAddress},
		{"02.00.5e.10.00.01", Addr{}, ErrAddress},
		{"0g:00:5e:10:00:01", Addr{}, ErrAddress},
	} {
		got, err := ParseAddr(c.in)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("ParseAddr(%q) = %v, %v, want %v, %v", c.in, got, err, c.want, c.err)
		}
	}
	if s := alice.String(); s != "02:00:5e:10:00:01" {
		t.Errorf("String = %q", s)
	}
	for _, c := range []struct {
		a                          Addr
		multicast, broadcast, zero bool
	}{
		{Addr{}, false, false, true},
		{alice, false, false, false},
		{Broadcast, true, true, false},
		{Addr{0x33, 0x33, 0, 0, 0, 1}, true, false, false},
	} {
		if c.a.IsMulticast() != c.multicast || c.a.IsBroadcast() != c.broadcast || c.a.IsZero() != c.zero {
			t.Errorf("%v: multicast %v, broadcast %v, zero %v", c.a, c.a.IsMulticast(), c.a.IsBroadcast(), c.a.IsZero())
		}
	}
}

func TestMulticast(t *testing.T) {
	for _, c := range []struct{ ip, want string }{
		{"224.0.0.1", "01:00:5e:00:00:01"},
		{"239.255.255.250", "01:00:5e:7f:ff:fa"}, // the 24th bit from the right is dropped
		{"ff02::1:ff28:9c5a", "33:33:ff:28:9c:5a"},
	} {
		if got := Multicast(netip.MustParseAddr(c.ip)).String(); got != c.want {
			t.Errorf("Multicast(%s) = %s, want %s", c.ip, got, c.want)
		}
	}
}

func TestHeaderDecode(t *testing.T) {
	to := append(append([]byte{}, bob[:]...), alice[:]...)
	frame := func(b ...byte) []byte { return append(append([]byte{}, to...), b...) }
	for _, c := range []struct {
		name string
		b    []byte
		want Header
		n    int
		err  error
	}{
		{"IPv4", frame(8, 0), Header{Dst: bob, Src: alice, Type: TypeIPv4}, 14, nil},
		{"padding is not ours", frame(8, 6, 1, 2, 3), Header{Dst: bob, Src: alice, Type: TypeARP}, 14, nil},
		{"C158 tag", frame(0x81, 0, 0x60, 7, 0x86, 0xdd), Header{bob, alice, TypeIPv6, true, 0x6007}, 18, nil},
		{"C158 tag cut", frame(0x81, 0, 0x60, 7, 0x86), Header{}, 0, ErrShort},
		{"C158 two tags", frame(0x81, 0, 0, 7, 0x81, 0, 0, 8, 8, 0), Header{bob, alice, TypeVLAN, true, 7}, 18, nil},
		{"C158 QinQ", frame(0x88, 0xa8, 0, 7), Header{Dst: bob, Src: alice, Type: TypeQinQ}, 14, nil},
		{"C158 802.3 length", frame(5, 0xdc), Header{}, 0, ErrLength},
		{"C158 greatest length", frame(5, 0xff), Header{}, 0, ErrLength},
		{"C158 least type", frame(6, 0), Header{Dst: bob, Src: alice, Type: minType}, 14, nil},
		{"C158 length in a tag", frame(0x81, 0, 0, 7, 0, 46), Header{}, 0, ErrLength},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := Header{Tagged: true, VLAN: 99} // what stood there before must go
			n, err := h.Decode(c.b)
			if n != c.n || err != c.err || err == nil && h != c.want {
				t.Errorf("Decode(%x) = %d, %v, %+v, want %d, %v, %+v", c.b, n, err, h, c.n, c.err, c.want)
			}
		})
	}
	for n := range HeaderLen {
		t.Run(fmt.Sprintf("C158 %d octets", n), func(t *testing.T) {
			var h Header
			if _, err := h.Decode(frame(8, 0)[:n]); err != ErrShort {
				t.Errorf("error %v, want %v", err, ErrShort)
			}
		})
	}
}

func TestHeaderEncode(t *testing.T) {
	for _, h := range []Header{
		{Dst: bob, Src: alice, Type: TypeIPv4},
		{Dst: Broadcast, Src: alice, Type: TypeARP, Tagged: true, VLAN: 0xffff},
	} {
		b := make([]byte, 32)
		n := h.Encode(b)
		var got Header
		if m, err := got.Decode(b); err != nil || m != n || n != h.Len() || got != h {
			t.Errorf("%+v came back as %+v, %v; lengths %d, %d, %d", h, got, err, n, m, h.Len())
		}
		if n := h.Encode(b[:h.Len()-1]); n != 0 {
			t.Errorf("Encode without room = %d, want 0", n)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(make([]byte, 60))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x81\x00\x00\x01\x08\x00"))
	f.Add([]byte("\x00\x01\x08\x00\x06\x04\x00\x01\x02\x00\x00\x00\x00\x01\xc6\x33\x64\x01\x00\x00\x00\x00\x00\x00\xc6\x33\x64\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		out := make([]byte, 64)
		var h, h2 Header
		if n, err := h.Decode(b); err == nil {
			if m := h.Encode(out); m != n || string(out[:m]) != string(b[:n]) {
				t.Errorf("%+v: wrote %x, read %x", h, out[:m], b[:n])
			}
			if _, err := h2.Decode(out); err != nil || h2 != h {
				t.Errorf("%+v came back as %+v, %v", h, h2, err)
			}
		}
		var a, a2 ARP
		if a.Decode(b) == nil {
			if m := a.Encode(out); string(out[:m]) != string(b[:ARPLen]) {
				t.Errorf("%+v: wrote %x, read %x", a, out[:m], b[:ARPLen])
			}
			if err := a2.Decode(out); err != nil || a2 != a {
				t.Errorf("%+v came back as %+v, %v", a, a2, err)
			}
		}
	})
}

// A frame as a TAP device delivers it.
func ExampleHeader_Decode() {
	frame := []byte("\x02\x00\x5e\x10\x00\x02" + "\x02\x00\x5e\x10\x00\x01" + "\x08\x00" + "the packet")
	var h Header
	n, err := h.Decode(frame)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%v → %v, type %#04x: %s\n", h.Src, h.Dst, uint16(h.Type), frame[n:])
	// Output: 02:00:5e:10:00:01 → 02:00:5e:10:00:02, type 0x0800: the packet
}
