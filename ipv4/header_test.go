package ipv4

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"github.com/seed87e66d9f/waybill/internal/checksum"
)

var (
	alice = netip.MustParseAddr("198.51.100.1")
	bob   = netip.MustParseAddr("203.0.113.2")
)

// packet is a good packet with those options and data, for the tests to break.
func packet(t *testing.T, options []byte, data string) []byte {
	t.Helper()
	h := Header{TTL: 64, Protocol: ProtoUDP, Src: alice, Dst: bob, Options: options}
	h.Length = h.Len() + len(data)
	b := make([]byte, h.Length)
	n := h.Encode(b)
	if n != h.Len() {
		t.Fatalf("Encode(%+v) = %d, want %d", h, n, h.Len())
	}
	copy(b[n:], data)
	return b
}

// sign makes the header checksum of b right again.
func sign(b []byte) {
	n := min(int(b[0]&15)*4, len(b))
	binary.BigEndian.PutUint16(b[10:], 0)
	binary.BigEndian.PutUint16(b[10:], ^checksum.Sum(b[:n], 0))
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(b []byte) []byte
		err   error
	}{
		{"RFC 791 as it should be", func(b []byte) []byte { return b }, nil},
		{"C133 version 6", func(b []byte) []byte { b[0] = 0x65; return b }, ErrVersion},
		{"C133 version 0", func(b []byte) []byte { b[0] = 0x05; return b }, ErrVersion},
		{"C133 IHL 0", func(b []byte) []byte { b[0] = 0x40; return b }, ErrHeaderLength},
		{"C133 IHL 4", func(b []byte) []byte { b[0] = 0x44; return b }, ErrHeaderLength},
		{"C133 IHL beyond the packet", func(b []byte) []byte { b[0] = 0x4f; return b }, ErrHeaderLength},
		{"C133 IHL beyond the total length", func(b []byte) []byte { b[0], b[3] = 0x46, 20; return b }, ErrLength},
		{"C133 total length 0", func(b []byte) []byte { b[3] = 0; return b }, ErrLength},
		{"C133 total length 19", func(b []byte) []byte { b[3] = 19; return b }, ErrLength},
		{"C133 total length beyond the frame", func(b []byte) []byte { b[3]++; return b }, ErrLength},
		{"C133 frame cut by one", func(b []byte) []byte { return b[:len(b)-1] }, ErrLength},
		{"C133 frame padded", func(b []byte) []byte { return append(b, 1, 2, 3) }, nil},
		{"RFC 791 §3.1 reserved flag", func(b []byte) []byte { b[6] |= 0x80; return b }, nil},
		{"RFC 791 §3.1 TTL 0", func(b []byte) []byte { b[8] = 0; return b }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.spoil(packet(t, nil, "data"))
			sign(b)
			var h Header
			n, err := h.Decode(b)
			if err != c.err {
				t.Fatalf("Decode(%x) = %v, want %v", b, err, c.err)
			}
			if err == nil && string(b[n:h.Length]) != "data" {
				t.Errorf("data %q of %+v, want %q", b[n:h.Length], h, "data")
			}
		})
	}
	b := packet(t, nil, "")
	for n := range MinHeaderLen {
		t.Run(fmt.Sprintf("C133 %d octets", n), func(t *testing.T) {
			var h Header
			if _, err := h.Decode(b[:n]); err != ErrShort {
				t.Errorf("error %v, want %v", err, ErrShort)
			}
		})
	}
}

func TestDecodeSeesEveryFlippedBit(t *testing.T) {
	good := packet(t, []byte{OptionRouterAlert, 4, 0, 0}, "data")
	for bit := range 24 * 8 {
		b := append([]byte{}, good...)
		b[bit/8] ^= 1 << (bit % 8)
		var h Header
		if _, err := h.Decode(b); err == nil {
			t.Errorf("C133 octet %d, bit %d flipped: accepted as %+v", bit/8, bit%8, h)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name    string
		options []byte
		route   bool
		err     error
	}{
		{"C141 none after the end", []byte{OptionEnd, 99, 0, 0}, false, nil},
		{"C141 no operation", []byte{OptionNop, OptionNop, OptionNop, OptionNop}, false, nil},
		{"C141 unknown is passed over", []byte{99, 3, 0xff, OptionEnd}, false, nil},
		{"C141 unknown to the last octet", []byte{OptionNop, 99, 3, 0xff}, false, nil},
		{"C141 length 0", []byte{99, 0, 0, 0}, false, ErrOptions},
		{"C141 length 1", []byte{99, 1, 0, 0}, false, ErrOptions},
		{"C141 length beyond the header", []byte{OptionNop, 99, 4, 0}, false, ErrOptions},
		{"C141 no room for a length", []byte{OptionNop, OptionNop, OptionNop, 99}, false, ErrOptions},
		{"C141 full record route", []byte{OptionRecordRoute, 7, 8, 1, 2, 3, 4, 0}, false, nil},
		{"C141 pointer beyond the timestamps", []byte{OptionTimestamp, 4, 255, 0}, false, nil},
		{"C141 LSRR", []byte{OptionLooseSourceRoute, 3, 4, 0}, true, nil},
		{"C141 SSRR behind another", []byte{OptionNop, 99, 2, OptionStrictSourceRoute, 3, 4, 0, 0}, true, nil},
		{"C141 LSRR after the end", []byte{OptionEnd, OptionLooseSourceRoute, 3, 4}, false, nil},
		{"C141 LSRR as another's data", []byte{99, 4, OptionLooseSourceRoute, 3}, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := packet(t, c.options, "x")
			var h Header
			n, err := h.Decode(b)
			if err != c.err {
				t.Fatalf("options %x: %v, want %v", c.options, err, c.err)
			}
			if got := h.SourceRoute(); got != c.route {
				t.Errorf("options %x: source route %v, want %v", c.options, got, c.route)
			}
			if err == nil && (n != MinHeaderLen+len(c.options) || string(h.Options) != string(c.options)) {
				t.Errorf("options %x came back as %x, header length %d", c.options, h.Options, n)
			}
		})
	}
}

func TestEncodeRoundTrip(t *testing.T) {
	b := make([]byte, MaxLen)
	for _, h := range []Header{
		{Length: 20, Src: alice, Dst: bob},
		{TOS: 0xb9, Length: MaxLen, ID: 0xffff, DF: true, TTL: 255, Protocol: 255, Src: bob, Dst: alice},
		{Length: 1000, MF: true, Offset: fragmentOffset * 8, Src: alice, Dst: bob},
		{Length: 64, Offset: 8, Src: alice, Dst: bob, Options: []byte{99, 8, 1, 2, 3, 4, 5, 6}},
		{Length: 60, Src: alice, Dst: bob, Options: make([]byte, 40)},
	} {
		n := h.Encode(b)
		var got Header
		if m, err := got.Decode(b); err != nil || m != n || n != h.Len() || !reflect.DeepEqual(got, h) {
			t.Errorf("%+v came back as %+v, %v; lengths %d, %d, %d", h, got, err, n, m, h.Len())
		}
		if want := h.MF || h.Offset > 0; h.IsFragment() != want {
			t.Errorf("%+v: fragment %v, want %v", h, h.IsFragment(), want)
		}
	}
}

func TestEncodePadsOptions(t *testing.T) {
	b := []byte("????????????????????????")
	h := Header{Length: 24, Src: alice, Dst: bob, Options: []byte{OptionNop}}
	if n := h.Encode(b); n != 24 || string(b[20:]) != "\x01\x00\x00\x00" {
		t.Errorf("wrote %x, want the option and three octets of 0 after 20", b[:n])
	}
}

func TestEncodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		h    Header
		room int
	}{
		{"no room", Header{Length: 20, Src: alice, Dst: bob}, 19},
		{"no room for options", Header{Length: 24, Src: alice, Dst: bob, Options: []byte{1}}, 23},
		{"41 octets of options", Header{Length: 99, Src: alice, Dst: bob, Options: make([]byte, 41)}, 99},
		{"length below the header", Header{Length: 19, Src: alice, Dst: bob}, 99},
		{"length of 17 bits", Header{Length: MaxLen + 1, Src: alice, Dst: bob}, 99},
		{"offset not of 8", Header{Length: 20, Offset: 4, Src: alice, Dst: bob}, 99},
		{"offset below 0", Header{Length: 20, Offset: -8, Src: alice, Dst: bob}, 99},
		{"offset of 14 bits", Header{Length: 20, Offset: 65536, Src: alice, Dst: bob}, 99},
		{"no source", Header{Length: 20, Dst: bob}, 99},
		{"IPv6 destination", Header{Length: 20, Src: alice, Dst: netip.IPv6LinkLocalAllNodes()}, 99},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := make([]byte, c.room)
			if n := c.h.Encode(b); n != 0 || string(b) != string(make([]byte, c.room)) {
				t.Errorf("Encode(%+v) = %d and %x, want 0 and nothing written", c.h, n, b)
			}
		})
	}
}

func TestDecodeQuoted(t *testing.T) {
	b := packet(t, nil, "12345678 and much more that a router leaves out")
	b[8]-- // a router on the way, and its checksum is not ours to judge
	for n := range len(b) {
		var h Header
		m, err := h.DecodeQuoted(b[:n])
		if n < MinHeaderLen {
			if err != ErrShort {
				t.Errorf("C145 %d octets: %v, want %v", n, err, ErrShort)
			}
			continue
		}
		if err != nil || m != MinHeaderLen || h.Length != len(b) || h.Dst != bob {
			t.Errorf("C145 %d octets: %d, %v, %+v", n, m, err, h)
		}
	}
	b[0] = 0x40
	var h Header
	if _, err := h.DecodeQuoted(b); err != ErrHeaderLength {
		t.Errorf("C145 IHL 0: %v, want %v", err, ErrHeaderLength)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x45\x00\x00\x15\x00\x00\x40\x00\x40\x11\x8a\xc5\xc6\x33\x64\x01\xcb\x00\x71\x02x"))
	f.Add([]byte("\x46\x00\x00\x18\x00\x01\x20\x01\x40\x11\x00\x00\xc6\x33\x64\x01\xcb\x00\x71\x02\x94\x04\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h, h2 Header
		h.DecodeQuoted(b)
		h.SourceRoute()
		if len(b) >= MinHeaderLen {
			b = append([]byte{}, b...)
			sign(b) // or hardly anything would come through
		}
		if n, err := h.Decode(b); err == nil {
			out := make([]byte, h.Length)
			if m := h.Encode(out); m != n {
				t.Fatalf("%+v: wrote %d octets, read %d", h, m, n)
			}
			if _, err := h2.Decode(out); err != nil || !reflect.DeepEqual(h, h2) {
				t.Errorf("%+v came back as %+v, %v", h, h2, err)
			}
		}
		var m, m2 ICMP
		if m.Decode(b) == nil {
			out := make([]byte, len(b))
			m.Encode(out)
			if err := m2.Decode(out); err != nil || !reflect.DeepEqual(m, m2) {
				t.Errorf("%+v came back as %+v, %v", m, m2, err)
			}
		}
	})
}

// The waybill of a parcel that holds "hello".
func ExampleHeader() {
	data := "hello"
	h := Header{TTL: 64, Protocol: ProtoUDP, DF: true,
		Src: netip.MustParseAddr("198.51.100.1"), Dst: netip.MustParseAddr("203.0.113.2")}
	h.Length = h.Len() + len(data)
	packet := make([]byte, h.Length)
	copy(packet[h.Encode(packet):], data)

	var got Header
	n, err := got.Decode(packet)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%v → %v, protocol %d: %s\n", got.Src, got.Dst, got.Protocol, packet[n:got.Length])
	// Output: 198.51.100.1 → 203.0.113.2, protocol 17: hello
}
