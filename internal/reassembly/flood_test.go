//go:build !race

package reassembly

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
)

// Floods take long under the race detector, and nothing in a Table is concurrent.

// attacks are what strangers send: the n-th fragment of an attack. Each attacker may forge its addresses or not.
var attacks = []struct {
	name string
	next func(s sender, n int, r *rand.Rand) []byte
}{
	{"A35 Rose: first and last alone", func(s sender, n int, r *rand.Rand) []byte {
		s.id = uint32(n / 2)
		if n%2 == 0 {
			return s.part(0, true, make([]byte, 32))
		}
		return s.part(64800, false, make([]byte, 32))
	}},
	{"A35 FragmentSmack: 8 octets anywhere", func(s sender, n int, r *rand.Rand) []byte {
		s.id = uint32(r.IntN(100))
		return s.part(8+8*r.IntN(8000), true, make([]byte, 8))
	}},
	{"A35 many identifications", func(s sender, n int, r *rand.Rand) []byte {
		s.id = r.Uint32()
		return s.part(8, true, make([]byte, 8))
	}},
	{"A35 long fragments", func(s sender, n int, r *rand.Rand) []byte {
		s.id = r.Uint32()
		return s.part(1480, true, make([]byte, 1480))
	}},
	{"A36 ping of death", func(s sender, n int, r *rand.Rand) []byte {
		s.id = uint32(r.IntN(1 << 16))
		return s.part(65528, false, make([]byte, 1400))
	}},
	{"A32 teardrop", func(s sender, n int, r *rand.Rand) []byte {
		s.id = uint32(n / 2)
		if n%2 == 0 {
			return s.part(0, true, make([]byte, 48))
		}
		return s.part(24, false, make([]byte, 4))
	}},
}

// forge is how an attacker shows itself.
var forge = []struct {
	name string
	from func(s sender, r *rand.Rand) netip.Addr
}{
	{"from one address", func(s sender, r *rand.Rand) netip.Addr { return s.src.Next().Next().Next() }},
	{"from all addresses", func(s sender, r *rand.Rand) netip.Addr {
		a := s.src.AsSlice()
		for k := range a {
			if k > 0 {
				a[k] = byte(r.Uint32())
			}
		}
		b, _ := netip.AddrFromSlice(a)
		return b
	}},
	{"from the honest address", func(s sender, r *rand.Rand) netip.Addr { return s.src }},
}

// TestA35Attacks: of 100 fragments that arrive, 99 are an attack's, and the table never holds more than it may; of the
// honest packets, of 21 fragments each, at least half arrive.
func TestA35Attacks(t *testing.T) {
	families(t, func(t *testing.T, s sender) {
		for _, a := range attacks {
			for _, from := range forge {
				t.Run(fmt.Sprintf("%s, %s", a.name, from.name), func(t *testing.T) {
					r := rand.New(rand.NewPCG(5, 6))
					table, evil, honest := New(Config{}), s, s
					whole, most, sent := 0, 0, 0
					const packets = 10
					for id := range packets {
						honest.id = 1<<31 + uint32(id)
						if s.src.Is4() {
							honest.id = uint32(id) + 40_000
						}
						want := random(uint64(id), 30_000)
						for _, b := range honest.cut(want, 1480) {
							for range 99 {
								evil.src = from.from(s, r)
								give(t, table, 0, a.next(evil, sent, r))
								sent++
								most = max(most, table.Octets())
							}
							res := give(t, table, 0, b)
							if res.Verdict == Whole && bytes.Equal(text(t, res.Packet), want) {
								whole++
							}
						}
					}
					t.Logf("%d of %d honest packets arrive; %d octets held at most", whole, packets, most)
					if whole < packets/2 {
						t.Errorf("%d of %d honest packets arrive", whole, packets)
					}
					if most > DefaultOctets {
						t.Errorf("%d octets held, of %d allowed", most, DefaultOctets)
					}
				})
			}
		}
	})
}

// TestA35Overhead: the heap holds no more than the table says that it does, and lets go of it.
func TestA35Overhead(t *testing.T) {
	families(t, func(t *testing.T, s sender) {
		heap := func() int {
			var m runtime.MemStats
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&m)
			return int(m.HeapAlloc)
		}
		for _, x := range []struct {
			name string
			size int
			each int // fragments of a packet
		}{{"8 octets", 8, 1}, {"8 octets, many of each", 8, 100}, {"1480 octets", 1480, 1}, {"1480 octets, many of each", 1480, 20}} {
			t.Run(x.name, func(t *testing.T) {
				r := rand.New(rand.NewPCG(1, 1))
				table, from := New(Config{Octets: 16 << 20}), s
				before := heap()
				for n := 0; n < 200_000 && table.Octets() < 15<<20; n++ {
					a := s.src.AsSlice()
					if s.src.Is4() {
						a[1], a[2], a[3] = byte(n>>16), byte(n>>8), byte(n)
						from.src = addr(a)
					} else {
						a[5], a[6], a[7] = byte(n>>16), byte(n>>8), byte(n)
						from.src = addr(a)
					}
					from.id = r.Uint32()
					for k := range x.each {
						give(t, table, 0, from.part(x.size*(2*k+1), true, make([]byte, x.size)))
					}
				}
				used := heap() - before
				t.Logf("%d packets, %d octets charged, %d of heap", table.Len(), table.Octets(), used)
				if used > table.Octets() {
					t.Errorf("%d octets of heap, and only %d are charged", used, table.Octets())
				}
				for {
					if _, ok := table.Expire(Timeout6); !ok {
						break
					}
				}
				if left := heap() - before; left > 100_000 {
					t.Errorf("%d octets of heap are left behind", left)
				}
				runtime.KeepAlive(table)
			})
		}
	})
}

func addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}
