package reassembly

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
)

var (
	client4 = netip.MustParseAddr("198.51.100.1")
	server4 = netip.MustParseAddr("198.51.100.2")
	client6 = netip.MustParseAddr("2001:db8::1")
	server6 = netip.MustParseAddr("2001:db8::2")
)

// sender cuts packets of one family by hand.
type sender struct {
	src, dst netip.Addr
	id       uint32
	tos      uint8
	options  int // octets of IPv4 options, or of an IPv6 header in front of the Fragment header; a multiple of 8
}

// part is the fragment with those octets at that place.
func (s sender) part(offset int, more bool, text []byte) []byte {
	if s.src.Is4() {
		h := ipv4.Header{TOS: s.tos, ID: uint16(s.id), MF: more, Offset: offset, TTL: 64, Protocol: ipv4.ProtoUDP, Src: s.src, Dst: s.dst,
			Options: bytes.Repeat([]byte{ipv4.OptionNop}, s.options)}
		h.Length = h.Len() + len(text)
		b := make([]byte, min(h.Length, 1<<16-1))
		h.Length = len(b)
		copy(b[h.Encode(b):], text)
		return b
	}
	var ext []byte
	next := ipv6.ProtoFragment
	if s.options > 0 {
		ext = append([]byte{ipv6.ProtoFragment, byte(s.options/8 - 1), ipv6.OptionPadN, byte(s.options - 4)}, make([]byte, s.options-4)...)
		next = ipv6.ProtoDestOpts
	}
	at := uint16(offset)
	if more {
		at |= 1
	}
	ext = append(ext, ipv4.ProtoUDP, 0, byte(at>>8), byte(at))
	ext = append(binary.BigEndian.AppendUint32(ext, s.id), text...)
	h := ipv6.Header{TrafficClass: s.tos, PayloadLength: len(ext), NextHeader: next, HopLimit: 64, Src: s.src, Dst: s.dst}
	b := make([]byte, ipv6.HeaderLen)
	h.Encode(b)
	return append(b, ext...)
}

// cut is a packet in fragments of so many octets.
func (s sender) cut(text []byte, size int) (all [][]byte) {
	for at := 0; at < len(text); at += size {
		end := min(at+size, len(text))
		all = append(all, s.part(at, end < len(text), text[at:end]))
	}
	return all
}

// give decodes a fragment and gives it to the table, as a stack does.
func give(t testing.TB, table *Table, now time.Duration, b []byte) Result {
	t.Helper()
	if b[0]>>4 == 4 {
		var h ipv4.Header
		if _, err := h.Decode(b); err != nil {
			t.Fatalf("% x: %v", b, err)
		}
		if !h.IsFragment() {
			return Result{}
		}
		return table.IPv4(now, &h, b, Way{Iface: 7}, nil)
	}
	var h ipv6.Header
	var c ipv6.Chain
	if err := h.Decode(b); err != nil {
		t.Fatalf("% x: %v", b, err)
	}
	if err := c.Walk(h.NextHeader, b[ipv6.HeaderLen:]); err != nil {
		return Result{Verdict: Malformed}
	}
	if !c.Fragment {
		return Result{}
	}
	return table.IPv6(now, &h, &c, b, Way{Iface: 7}, nil)
}

// text is what a packet that became whole carries.
func text(t testing.TB, b []byte) []byte {
	t.Helper()
	if b[0]>>4 == 4 {
		var h ipv4.Header
		n, err := h.Decode(b)
		if err != nil || h.IsFragment() || h.Length != len(b) {
			t.Fatalf("the whole is %+v, of %d octets, %v", h, len(b), err)
		}
		return b[n:]
	}
	var h ipv6.Header
	var c ipv6.Chain
	if err := h.Decode(b); err != nil || h.PayloadLength != len(b)-ipv6.HeaderLen {
		t.Fatalf("the whole is %+v, of %d octets, %v", h, len(b), err)
	}
	if err := c.Walk(h.NextHeader, b[ipv6.HeaderLen:]); err != nil || c.Fragment || c.Atomic || c.Protocol != ipv4.ProtoUDP {
		t.Fatalf("the whole has headers %+v, %v", c, err)
	}
	return b[ipv6.HeaderLen+c.Offset:]
}

// families runs a test for both.
func families(t *testing.T, f func(t *testing.T, s sender)) {
	t.Run("IPv4", func(t *testing.T) { f(t, sender{src: client4, dst: server4, id: 77}) })
	t.Run("IPv6", func(t *testing.T) { f(t, sender{src: client6, dst: server6, id: 77777}) })
}

// random is n octets of a seed.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return b
}

// TestC137AnyOrder: a packet becomes whole whichever way its five fragments come.
func TestC137AnyOrder(t *testing.T) {
	families(t, func(t *testing.T, s sender) {
		want := random(1, 99)
		for _, options := range []int{0, 8, 40} {
			s.options = options
			parts := s.cut(want, 24)
			var walk func(order []int)
			walk = func(order []int) {
				if len(order) < len(parts) {
					for k := range parts {
						if !slices.Contains(order, k) {
							walk(append(slices.Clone(order), k))
						}
					}
					return
				}
				table := New(Config{})
				for n, k := range order {
					r := give(t, table, 0, parts[k])
					if last := n == len(order)-1; r.Verdict != Waiting && !last || last && (r.Verdict != Whole || !bytes.Equal(text(t, r.Packet), want)) {
						t.Fatalf("order %v, fragment %d: %+v", order, k, r)
					}
				}
				if table.Len() != 0 || table.Octets() != 0 || len(table.sources) != 0 {
					t.Fatalf("%d packets, %d octets, %d sources are left", table.Len(), table.Octets(), len(table.sources))
				}
			}
			walk(nil)
		}
	})
}

// TestC137C171Timeout: what is missing for too long is given up, and the first fragment is there to be quoted, if it came.
func TestC137C171Timeout(t *testing.T) {
	families(t, func(t *testing.T, s sender) {
		wait := Timeout6
		if s.src.Is4() {
			wait = Timeout4
		}
		for _, withFirst := range []bool{true, false} {
			table, parts := New(Config{}), s.cut(random(1, 64), 16)
			send := parts[1:3]
			if withFirst {
				send = parts[:2]
			}
			for k, b := range send {
				give(t, table, time.Duration(k)*time.Second, b) // the second does not prolong it
			}
			if at, ok := table.Deadline(); !ok || at != wait {
				t.Errorf("the deadline is %v, %v; want %v", at, ok, wait)
			}
			if e, ok := table.Expire(wait - 1); ok {
				t.Errorf("expired early: %+v", e)
			}
			e, ok := table.Expire(wait)
			if !ok || e.Fragments != 2 || e.Iface != 7 || withFirst && !bytes.Equal(e.First, parts[0]) || !withFirst && e.First != nil {
				t.Errorf("expired %+v, %v", e, ok)
			}
			if _, ok := table.Deadline(); ok || table.Octets() != 0 {
				t.Errorf("%d octets are left", table.Octets())
			}
			for _, b := range parts[2:] { // too late: the beginning of another
				if r := give(t, table, wait, b); r.Verdict != Waiting {
					t.Errorf("a late fragment is %+v", r)
				}
			}
		}
	})
}

// TestC136C173Apart: packets that differ in identification, address, protocol or link do not meet.
func TestC136C173Apart(t *testing.T) {
	families(t, func(t *testing.T, s sender) {
		table := New(Config{})
		other, elsewhere := s, s
		other.id++
		elsewhere.src = elsewhere.src.Next().Next()
		all := []sender{s, other, elsewhere}
		for k, x := range all {
			give(t, table, 0, x.part(0, true, random(uint64(k), 16)))
		}
		for k, x := range all {
			r := give(t, table, 0, x.part(16, false, random(uint64(9+k), 8)))
			if r.Verdict != Whole || !bytes.Equal(text(t, r.Packet), append(random(uint64(k), 16), random(uint64(9+k), 8)...)) {
				t.Errorf("packet %d: %+v", k, r)
			}
		}
		scoped := func(link uint32, b []byte) Result {
			if b[0]>>4 == 4 {
				var h ipv4.Header
				h.Decode(b)
				return table.IPv4(0, &h, b, Way{Iface: link, Scoped: true}, nil)
			}
			var h ipv6.Header
			var c ipv6.Chain
			h.Decode(b)
			c.Walk(h.NextHeader, b[ipv6.HeaderLen:])
			return table.IPv6(0, &h, &c, b, Way{Iface: link, Scoped: true}, nil)
		}
		scoped(1, s.part(0, true, random(1, 16)))
		if r := scoped(2, s.part(16, false, random(2, 8))); r.Verdict != Waiting {
			t.Errorf("a fragment from another link: %+v", r)
		}
	})
}

// TestC138Impossible: A32, A36: what no sender makes is refused, and an IPv4 packet that it belongs to is given up.
func TestC138Impossible(t *testing.T) {
	s := sender{src: client4, dst: server4, id: 1}
	for _, x := range []struct {
		name   string
		offset int
		more   bool
		n      int
	}{
		{"C138 not a multiple of 8", 16, true, 9}, {"C138 empty", 16, true, 0}, {"C138 empty at the end", 16, false, 0},
		{"A36 beyond 65535", 65528, false, 8}, {"A36 far beyond 65535", 65528, false, 1480}, {"A36 with the header", 65512, false, 8},
	} {
		t.Run(x.name, func(t *testing.T) {
			table := New(Config{})
			b := s.part(x.offset, x.more, make([]byte, x.n))
			if r := give(t, table, 0, b); r.Verdict != Malformed || table.Octets() != 0 {
				t.Errorf("alone: %+v, %d octets kept", r, table.Octets())
			}
			give(t, table, 0, s.part(0, true, make([]byte, 16)))
			if r := give(t, table, 0, b); r.Verdict != Malformed || r.Lost != 1 || table.Octets() > packetOverhead {
				t.Errorf("after another: %+v, %d octets kept", r, table.Octets())
			}
			if r := give(t, table, 0, s.part(16, false, make([]byte, 16))); r.Verdict != Abandoned {
				t.Errorf("what comes later: %+v", r)
			}
		})
	}
}

// TestC139C172A33Overlap: two fragments that cover an octet both end the packet, whichever comes first, unless they are the same.
func TestC139C172A33Overlap(t *testing.T) {
	families(t, func(t *testing.T, s sender) {
		base := random(1, 96)
		same := s.part(32, true, base[32:64])
		for _, x := range []struct {
			name    string
			part    []byte
			verdict Verdict
		}{
			{"the same octets", same, Duplicate},
			{"the same place, other octets", s.part(32, true, random(2, 32)), Overlap},
			{"the same octets, as the last", s.part(32, false, base[32:64]), Overlap},
			{"within, at the left", s.part(32, true, base[32:40]), Overlap},
			{"within, in the middle", s.part(40, true, base[40:48]), Overlap},
			{"within, at the right", s.part(56, true, base[56:64]), Overlap},
			{"from the left", s.part(24, true, base[24:48]), Overlap},
			{"from the right", s.part(48, true, base[48:80]), Overlap},
			{"around", s.part(24, true, base[24:72]), Overlap},
			{"the end within", s.part(40, false, base[40:48]), Overlap},
			{"the end before", s.part(16, false, base[16:24]), Overlap}, // A32, teardrop: the last ends before another does
		} {
			for _, first := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, comes first: %v", x.name, first), func(t *testing.T) {
					table := New(Config{})
					a, b := same, x.part
					if first {
						a, b = b, a
					}
					give(t, table, 0, a)
					r := give(t, table, 0, b)
					if r.Verdict != x.verdict || r.Verdict == Overlap && r.Lost != 1 {
						t.Fatalf("%+v, want verdict %v", r, x.verdict)
					}
					rest := [][]byte{s.part(0, true, base[:32]), s.part(64, false, base[64:])}
					for k, b := range rest {
						r := give(t, table, 0, b)
						switch {
						case x.verdict == Overlap && r.Verdict != Abandoned:
							t.Errorf("a later fragment is %+v, want it abandoned", r)
						case x.verdict == Duplicate && k == 1 && (r.Verdict != Whole || !bytes.Equal(text(t, r.Packet), base)):
							t.Errorf("with a duplicate: %+v", r)
						}
					}
					if x.verdict == Overlap {
						if e, ok := table.Expire(time.Hour); !ok || e.First != nil || table.Len() != 0 {
							t.Errorf("RFC 8200 §4.5: no error is to be sent: %+v", e)
						}
					}
				})
			}
		}
	})
}

// TestC139End: fragments that disagree about the end of the packet end it.
func TestC139End(t *testing.T) {
	families(t, func(t *testing.T, s sender) {
		for name, b := range map[string][]byte{
			"another end, earlier": s.part(32, false, make([]byte, 8)),
			"another end, later":   s.part(72, false, make([]byte, 8)),
			"beyond the end":       s.part(72, true, make([]byte, 8)),
			"across the end":       s.part(56, true, make([]byte, 24)),
		} {
			table := New(Config{})
			give(t, table, 0, s.part(48, false, make([]byte, 16)))
			if r := give(t, table, 0, b); r.Verdict != Overlap {
				t.Errorf("%s: %+v", name, r)
			}
		}
	})
}

// TestECN: RFC 3168 §5.3: congestion is not lost with the fragment that met it, nor told to who would not understand.
func TestECN(t *testing.T) {
	families(t, func(t *testing.T, s sender) {
		for _, x := range []struct {
			a, b uint8
			v    Verdict
			want uint8
		}{{0, 0, Whole, 0}, {2, 2, Whole, 2}, {1, 1, Whole, 1}, {2, 3, Whole, 3}, {3, 2, Whole, 3}, {3, 3, Whole, 3}, {0, 3, Congested, 0}, {3, 0, Congested, 0}} {
			table := New(Config{})
			s.tos = 0xb8 | x.a
			give(t, table, 0, s.part(0, true, make([]byte, 8)))
			s.tos = 0xb8 | x.b
			r := give(t, table, 0, s.part(8, false, make([]byte, 8)))
			if r.Verdict != x.v {
				t.Errorf("ECN %d and %d: %+v, want verdict %d", x.a, x.b, r, x.v)
			}
			if r.Verdict == Whole {
				tos := r.Packet[1]
				if !s.src.Is4() {
					tos = r.Packet[0]<<4 | r.Packet[1]>>4
				}
				if text(t, r.Packet); tos != 0xb8|x.want {
					t.Errorf("ECN %d and %d give a class of %#x", x.a, x.b, tos)
				}
			}
		}
	})
}

// TestC165Longest: the longest packet there is goes through, and one octet more does not.
func TestC165Longest(t *testing.T) {
	families(t, func(t *testing.T, s sender) {
		longest := 1<<16 - 1
		if s.src.Is4() {
			longest -= ipv4.MinHeaderLen
		}
		want := random(3, longest)
		table := New(Config{})
		var r Result
		for _, b := range s.cut(want, 1400) {
			r = give(t, table, 0, b)
		}
		if r.Verdict != Whole || !bytes.Equal(text(t, r.Packet), want) {
			t.Errorf("%d octets: verdict %d, %d octets", longest, r.Verdict, len(r.Packet))
		}
		parts := s.cut(want, 1400)
		s.options = 8 // the first alone has headers that are longer
		long := s.part(0, true, want[:1400])
		for _, b := range append(parts[1:], long) {
			r = give(t, table, 0, b)
		}
		if r.Verdict != Malformed {
			t.Errorf("with 8 octets more: verdict %d", r.Verdict)
		}
	})
}

// TestA35ManyFragments: a packet comes in 128 fragments at most.
func TestA35ManyFragments(t *testing.T) {
	families(t, func(t *testing.T, s sender) {
		for _, n := range []int{MaxFragments, MaxFragments + 1} {
			table, want := New(Config{}), random(1, 8*n)
			var r Result
			for _, b := range s.cut(want, 8) {
				r = give(t, table, 0, b)
			}
			if n == MaxFragments && (r.Verdict != Whole || !bytes.Equal(text(t, r.Packet), want)) {
				t.Errorf("%d fragments: %+v", n, r)
			}
			if n > MaxFragments && (r.Verdict != Full || r.Lost != MaxFragments || table.Octets() != packetOverhead) {
				t.Errorf("%d fragments: %+v, %d octets held", n, r, table.Octets())
			}
		}
	})
}
