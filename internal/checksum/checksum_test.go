package checksum

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// slow is RFC 1071 §1 said plainly: word by word, each overflow brought round at once.
func slow(b []byte, sum uint16) uint16 {
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		s := uint32(sum) + w
		if s > 0xffff {
			s -= 0xffff
		}
		sum = uint16(s)
	}
	return sum
}

func TestSum(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
		sum  uint16
		want uint16
	}{
		{"empty", nil, 0, 0},
		{"empty keeps the sum", nil, 0x1234, 0x1234},
		{"RFC 1071 §3 example", []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, 0, 0xddf2},
		{"odd octet is a high half", []byte{0x12}, 0, 0x1200},
		{"all ones", bytes.Repeat([]byte{0xff}, 64), 0, 0xffff},
		{"zeros", make([]byte, 64), 0, 0},
		{"carry out of the last word of 64 bits", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 1}, 0, 1},
		{"carry comes round", []byte{0xff, 0xff, 0, 1}, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Sum(c.b, c.sum); got != c.want {
				t.Errorf("Sum(%x, %#04x) = %#04x, want %#04x", c.b, c.sum, got, c.want)
			}
		})
	}
}

func TestSumIsThePlainSumAtEveryLength(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 300)
	for n := range b {
		for i := range b {
			b[i] = byte(r.Uint32())
			if n%3 == 0 {
				b[i] = 0xff // the most carries
			}
		}
		start := uint16(r.Uint32())
		if got, want := Sum(b[:n], start), slow(b[:n], start); got != want {
			t.Fatalf("length %d from %#04x: %#04x, want %#04x", n, start, got, want)
		}
	}
}

func TestVecIsTheSumOfTheWhole(t *testing.T) {
	b := make([]byte, 97)
	for i := range b {
		b[i] = byte(i*37 + 200)
	}
	for i := range b {
		for j := i; j <= len(b); j++ {
			bs := [][]byte{b[:i], b[i:j], nil, b[j:]}
			if got, want := Vec(bs, 0x8001), Sum(b, 0x8001); got != want {
				t.Fatalf("cut at %d and %d: %#04x, want %#04x", i, j, got, want)
			}
		}
	}
}

func TestPseudo(t *testing.T) {
	for _, c := range []struct {
		name, src, dst string
		proto          uint8
		length         int
		header         []byte
	}{
		{"RFC 9293 §3.1 IPv4", "198.51.100.1", "203.0.113.254", 6, 0xfff0,
			[]byte{198, 51, 100, 1, 203, 0, 113, 254, 0, 6, 0xff, 0xf0}},
		{"RFC 8200 §8.1 IPv6", "2001:db8::1", "2001:db8::2:ff", 58, 0x1_2345,
			[]byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
				0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0xff, 0, 1, 0x23, 0x45, 0, 0, 0, 58}},
		{"an IPv4-mapped address is IPv6", "::ffff:198.51.100.1", "::ffff:198.51.100.2", 17, 8,
			[]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, 1,
				0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, 2, 0, 0, 0, 8, 0, 0, 0, 17}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Pseudo(netip.MustParseAddr(c.src), netip.MustParseAddr(c.dst), c.proto, c.length)
			if want := slow(c.header, 0); got != want {
				t.Errorf("%#04x, want %#04x", got, want)
			}
		})
	}
	if got := Pseudo(netip.Addr{}, netip.Addr{}, 6, 20); got != 26 {
		t.Errorf("no addresses: %d, want 26", got)
	}
}

func TestUpdate(t *testing.T) {
	// RFC 1624 §4: with a checksum of 0xdd2f, a word that goes from 0x5555 to 0x3285 gives 0, where the older equation
	// of RFC 1141 gave 0xffff.
	if got := Update(0xdd2f, 0x5555, 0x3285); got != 0 {
		t.Errorf("RFC 1624 §4 example: %#04x, want 0", got)
	}
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, 20)
	for range 10000 {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		check := ^Sum(b, 0)
		old, new := binary.BigEndian.Uint16(b[6:]), uint16(r.Uint32())
		binary.BigEndian.PutUint16(b[6:], new)
		if got, want := Update(check, old, new), ^Sum(b, 0); got != want {
			t.Fatalf("Update(%#04x, %#04x, %#04x) = %#04x, want %#04x", check, old, new, got, want)
		}
	}
}

func FuzzVec(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint8(1), uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, i, j uint8) {
		x := min(int(i), len(b))
		y := min(x+int(j), len(b))
		want := slow(b, 0)
		if got := Vec([][]byte{b[:x], b[x:y], b[y:]}, 0); got != want {
			t.Errorf("%x cut at %d, %d: %#04x, want %#04x", b, x, y, got, want)
		}
		if got := Sum(b, 0); got != want {
			t.Errorf("%x: %#04x, want %#04x", b, got, want)
		}
	})
}

// A message of two words, its checksum, and what the receiver sees.
func ExampleSum() {
	message := []byte{0x45, 0x00, 0x00, 0x1c, 0, 0}
	binary.BigEndian.PutUint16(message[4:], ^Sum(message, 0))
	fmt.Printf("% x, received as %#x\n", message, Sum(message, 0))
	// Output: 45 00 00 1c ba e3, received as 0xffff
}
