package reassembly

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// TestC137TenThousand: 10,000 packets are cut, shuffled, doubled and mixed, and some of their fragments lost: each arrives
// exactly, once, or not at all; those that lost nothing arrive.
func TestC137TenThousand(t *testing.T) {
	families(t, func(t *testing.T, s sender) {
		const packets, together = 10_000, 50
		r := rand.New(rand.NewPCG(1, 2))
		table := New(Config{Octets: 16 << 20})
		whole, damaged, now := 0, 0, time.Duration(0)
		for base := 0; base < packets; base += together {
			type piece struct {
				packet int
				b      []byte
			}
			var wire []piece
			lost, done := [together]bool{}, [together]bool{}
			want := [together][]byte{}
			for k := range together {
				s.id = uint32(base + k)
				s.options = 8 * r.IntN(2)
				want[k] = random(uint64(base+k), 1+r.IntN(4000))
				size := max(8+8*r.IntN(100), (len(want[k])/MaxFragments+8)&^7)
				for len(want[k]) <= size { // one fragment is none
					want[k] = append(want[k], want[k]...)
				}
				for n, b := range s.cut(want[k], size) {
					switch p := r.IntN(100); {
					case p == 0:
						lost[k] = true
						continue
					case p < 10 && n > 0: // were all doubled, the packet would be
						wire = append(wire, piece{k, b})
					}
					wire = append(wire, piece{k, b})
				}
			}
			r.Shuffle(len(wire), func(i, j int) { wire[i], wire[j] = wire[j], wire[i] })
			for _, x := range wire {
				res := give(t, table, now, x.b)
				switch res.Verdict {
				case Waiting, Duplicate:
				case Whole:
					if done[x.packet] || lost[x.packet] || !bytes.Equal(text(t, res.Packet), want[x.packet]) {
						t.Fatalf("packet %d is whole, twice %v, though fragments were lost %v, or not what it was", base+x.packet, done[x.packet], lost[x.packet])
					}
					done[x.packet] = true
					whole++
				default:
					t.Fatalf("packet %d: %+v", base+x.packet, res)
				}
			}
			for k := range together {
				if !done[k] && !lost[k] {
					t.Fatalf("packet %d has lost nothing, and is not whole", base+k)
				}
				if lost[k] {
					damaged++
				}
			}
			now += 2 * time.Minute // identifications come again only after the lifetime of a packet
			for {
				if _, ok := table.Expire(now); !ok {
					break
				}
			}
			if table.Octets() != 0 {
				t.Fatalf("%d octets are left", table.Octets())
			}
		}
		t.Logf("%d whole, %d damaged and never delivered", whole, damaged)
	})
}

// TestA32A33Inconsistent: fragments of random places and octets, of a few packets over and over: what becomes whole is made
// of what was sent for that packet alone, and each octet of it was sent there.
func TestA32A33Inconsistent(t *testing.T) {
	families(t, func(t *testing.T, s sender) {
		r := rand.New(rand.NewPCG(3, 4))
		table, whole := New(Config{}), 0
		for id := range 2000 {
			s.id = uint32(id)
			var sent [][]byte // fragments' octets, each of one value that no other has
			var places []int
			for n := range 12 {
				at, size := 8*r.IntN(6), 8*(1+r.IntN(3))
				sent, places = append(sent, bytes.Repeat([]byte{byte(n)}, size)), append(places, at)
				res := give(t, table, 0, s.part(at, r.IntN(3) > 0, sent[n]))
				if table.Octets() < 0 || table.Octets() > DefaultOctets {
					t.Fatalf("%d octets", table.Octets())
				}
				if res.Verdict != Whole {
					continue
				}
				whole++
				b := text(t, res.Packet)
				for len(b) > 0 {
					k := int(b[0])
					if k > n || !bytes.HasPrefix(b, sent[k]) || places[k] != len(text(t, res.Packet))-len(b) {
						t.Fatalf("a whole of % x", text(t, res.Packet))
					}
					b = b[len(sent[k]):]
				}
				break
			}
		}
		if whole == 0 {
			t.Error("nothing became whole: the test is blind")
		}
	})
}

// TestA35OneSource: who does not forge its address gets a quarter of the room, and takes none of another's.
func TestA35OneSource(t *testing.T) {
	families(t, func(t *testing.T, s sender) {
		table := New(Config{})
		give(t, table, 0, s.part(0, true, make([]byte, 1480))) // waits through it all
		evil := s
		for n := range 100_000 {
			evil.id = uint32(n)
			evil.src = s.src.Next().Next()
			if s.src.Is6() { // all addresses of a network of 64 bits are one source
				a := s.src.As16()
				a[7], a[14], a[15] = 9, byte(n>>8), byte(n)
				evil.src = netip.AddrFrom16(a)
			}
			give(t, table, 0, evil.part(8, true, make([]byte, 8)))
		}
		if table.Octets() > DefaultOctets/4+Cost(1540) || table.Octets() < DefaultOctets/8 {
			t.Errorf("%d octets held", table.Octets())
		}
		if r := give(t, table, 0, s.part(1480, false, make([]byte, 8))); r.Verdict != Whole {
			t.Errorf("the packet that waited: %+v", r)
		}
	})
}

// FuzzTable gives a table fragments made of arbitrary octets: it stays within its bounds, and what becomes whole decodes.
func FuzzTable(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x02\x01\x00\x02\x01\x01\x00\x01\x03\x00\x04\x00\x09"), false)
	f.Add(random(1, 200), true)
	f.Fuzz(func(t *testing.T, data []byte, six bool) {
		s := sender{src: client4, dst: server4}
		if six {
			s = sender{src: client6, dst: server6}
		}
		table := New(Config{Octets: 8000, PerSource: 4000})
		now := time.Duration(0)
		for ; len(data) >= 4; data = data[4:] {
			s.id, s.tos = uint32(data[0]&3), data[0]>>6
			s.options = int(data[0] >> 2 & 1 * 8)
			now += time.Duration(data[0]>>3&7) * time.Second
			offset := int(data[1]) * 8
			if data[2] >= 250 {
				offset = 65528 - int(data[1])
			}
			b := s.part(offset&^7, data[3]&1 != 0, random(uint64(data[2]), 8*int(data[3]>>1)+int(data[2]&1)))
			if six && offset < 8 && data[3]&1 == 0 || !six && b[6]&0x3f == 0 && b[7] == 0 {
				continue // no fragment
			}
			r := give(t, table, now, b)
			if r.Verdict == Whole {
				text(t, r.Packet)
			}
			if r.Lost < 0 || table.Octets() < 0 || table.Octets() > 8000 || (table.Len() == 0) != (table.Octets() == 0) {
				t.Fatalf("%+v, %d octets of %d packets", r, table.Octets(), table.Len())
			}
			for {
				if _, ok := table.Expire(now); !ok {
					break
				}
			}
			if at, ok := table.Deadline(); ok && (at <= now || at > now+Timeout6) {
				t.Fatalf("at %v the deadline is %v", now, at)
			}
		}
	})
}
