package udp

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/seed87e66d9f/waybill/internal/checksum"
)

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
		want Header
		err  error
	}{
		{"RFC 768 no data", []byte{0, 53, 0x30, 0x39, 0, 8, 1, 2}, Header{53, 12345, 8, 0x0102}, nil},
		{"C160 shorter than the packet", []byte{0, 1, 0, 2, 0, 9, 0, 0, 'a', 'b'}, Header{1, 2, 9, 0}, nil},
		{"C160 length 0", []byte{0, 1, 0, 2, 0, 0, 0, 0}, Header{}, ErrLength},
		{"C160 length 7", []byte{0, 1, 0, 2, 0, 7, 0, 0}, Header{}, ErrLength},
		{"C160 longer than the packet", []byte{0, 1, 0, 2, 0, 9, 0, 0}, Header{}, ErrLength},
		{"C160 length 65535", []byte{0, 1, 0, 2, 0xff, 0xff, 0, 0}, Header{}, ErrLength},
		{"C165 source port 0", []byte{0, 0, 0, 2, 0, 8, 0, 0}, Header{0, 2, 8, 0}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h Header
			if err := h.Decode(c.b); err != c.err || err == nil && h != c.want {
				t.Errorf("Decode(%x) = %v, %+v, want %v, %+v", c.b, err, h, c.err, c.want)
			}
		})
	}
	for n := range HeaderLen {
		t.Run(fmt.Sprintf("C160 %d octets", n), func(t *testing.T) {
			var h Header
			if err := h.Decode(make([]byte, n)); err != ErrShort {
				t.Errorf("error %v, want %v", err, ErrShort)
			}
		})
	}
}

func TestEncode(t *testing.T) {
	b := make([]byte, MaxLen)
	for _, h := range []Header{{1, 65535, HeaderLen, 0}, {65535, 1, MaxLen, 0xffff}} {
		var got Header
		if n := h.Encode(b); n != HeaderLen {
			t.Errorf("Encode(%+v) = %d, want %d", h, n, HeaderLen)
		}
		if err := got.Decode(b); err != nil || got != h {
			t.Errorf("%+v came back as %+v, %v", h, got, err)
		}
	}
	for _, h := range []Header{{Length: HeaderLen - 1}, {Length: MaxLen + 1}} {
		if n := h.Encode(b); n != 0 {
			t.Errorf("Encode with length %d = %d, want 0", h.Length, n)
		}
	}
	h := Header{Length: HeaderLen}
	if n := h.Encode(b[:HeaderLen-1]); n != 0 {
		t.Errorf("Encode without room = %d, want 0", n)
	}
}

func TestChecksum(t *testing.T) {
	src, dst := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	pseudo := checksum.Pseudo(src, dst, 17, 10)
	b := make([]byte, 10)
	for word := range 1 << 16 { // every checksum there is, that which comes out as 0 among them
		h := Header{Src: 1, Dst: 2, Length: 10}
		h.Encode(b)
		b[8], b[9] = byte(word>>8), byte(word)
		h.Checksum = Checksum(checksum.Sum(b, pseudo))
		h.Encode(b)
		if h.Checksum == 0 || !Verify(b, pseudo) {
			t.Fatalf("C159 data %04x: checksum %#04x, verified %v", word, h.Checksum, Verify(b, pseudo))
		}
		b[word%len(b)] ^= 1 << (word % 8)
		if Verify(b, pseudo) {
			t.Fatalf("C159 data %04x: a flipped bit in octet %d passes", word, word%len(b))
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0, 53, 0x30, 0x39, 0, 9, 1, 2, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h, h2 Header
		if h.Decode(b) != nil {
			return
		}
		out := make([]byte, len(b))
		copy(out[h.Encode(out):], b[HeaderLen:])
		if string(out) != string(b) {
			t.Errorf("%+v: wrote %x, read %x", h, out, b)
		}
		if err := h2.Decode(out); err != nil || h2 != h {
			t.Errorf("%+v came back as %+v, %v", h, h2, err)
		}
		Verify(b[:h.Length], 0)
	})
}

// One datagram, ready for an IP header.
func ExampleHeader_Encode() {
	src, dst := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
	data := "hello"
	b := make([]byte, HeaderLen+len(data))
	copy(b[HeaderLen:], data)

	h := Header{Src: 4000, Dst: 53, Length: len(b)}
	h.Encode(b)
	pseudo := checksum.Pseudo(src, dst, 17, len(b))
	h.Checksum = Checksum(checksum.Sum(b, pseudo))
	h.Encode(b)
	fmt.Printf("% x %s, intact: %v\n", b[:HeaderLen], b[HeaderLen:], Verify(b, pseudo))
	// Output: 0f a0 00 35 00 0d 57 c2 hello, intact: true
}
