package tcp

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// outstanding are how many packets wait for the acknowledgements of a hostile peer.
var outstanding = []int{10, 100, 1000, 10000, 100000}

// flights measures acknowledgements of flights of n packets, burst of which leave at once. next makes the i-th of a
// flight, and is false where the flight is used up.
func flights(b *testing.B, burst int, next func(t *TCB, s *Segment, n, i int) bool) {
	for _, n := range outstanding {
		b.Run(fmt.Sprintf("outstanding=%d", n), func(b *testing.B) {
			var out Segment
			t, s, now := hostile(b, n, burst)
			i, segments := 0, 0
			b.ReportAllocs()
			for b.Loop() {
				if !next(t, s, n, i) {
					b.StopTimer()
					t, s, now = hostile(b, n, burst)
					i = 0
					next(t, s, n, i)
					b.StartTimer()
				}
				i++
				now += time.Microsecond
				t.Arrive(now, s)
				for t.Next(now, &out) {
					segments++
				}
			}
			b.ReportMetric(float64(segments)/float64(b.N), "segments/op")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N+segments), "ns/packet") // in or out
		})
	}
}

// shuffled are the packets of a flight that a peer reports, in random order.
type shuffled struct {
	step  int
	order []int
}

// blocks puts the next four into s.
func (x *shuffled) blocks(s *Segment, n, i int) bool {
	if len(x.order) != (n-2)/x.step+1 {
		x.order = rand.New(rand.NewPCG(1, 2)).Perm((n-2)/x.step + 1)
	}
	if 4*i+4 > len(x.order) {
		return false
	}
	s.Options.Blocks = 4
	for j := range s.Options.SACK {
		s.Options.SACK[j] = packet(1 + x.order[4*i+j]*x.step)
	}
	return true
}

// BenchmarkA17ACKDivision acknowledges octet by octet.
func BenchmarkA17ACKDivision(b *testing.B) {
	flights(b, 1, func(t *TCB, s *Segment, n, i int) bool {
		s.Ack++
		return i < n*small
	})
}

// BenchmarkA17SuperSegment does with super-segments.
func BenchmarkA17SuperSegment(b *testing.B) {
	flights(b, 45, func(t *TCB, s *Segment, n, i int) bool {
		s.Ack++
		return i < n*small
	})
}

// BenchmarkA19SACK is what an acknowledgement costs that a hostile peer sends, with n packets outstanding: four blocks
// each, of packets drawn at random among the odd ones, so that the holes between them are as many as they can be.
func BenchmarkA19SACK(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	flights(b, 1, func(t *TCB, s *Segment, n, i int) bool {
		s.Options.Blocks = 4
		for i := range s.Options.SACK {
			s.Options.SACK[i] = packet(1 + r.IntN(n/2-1)*2)
		}
		return true
	})
}

// BenchmarkA19Fill is the same where every block is news: all packets are reported in random order, so that holes come
// and go all over the scoreboard.
func BenchmarkA19Fill(b *testing.B) {
	x := shuffled{step: 1}
	flights(b, 1, func(t *TCB, s *Segment, n, i int) bool { return x.blocks(s, n, i) })
}

// BenchmarkA19Split reports every other packet, in random order, of super-segments of 45: each block divides a record.
func BenchmarkA19Split(b *testing.B) {
	x := shuffled{step: 2}
	flights(b, 45, func(t *TCB, s *Segment, n, i int) bool { return x.blocks(s, n, i) })
}

// BenchmarkA19SplitFill reports all packets of super-segments: records divide, and are joined again.
func BenchmarkA19SplitFill(b *testing.B) {
	x := shuffled{step: 1}
	flights(b, 45, func(t *TCB, s *Segment, n, i int) bool { return x.blocks(s, n, i) })
}

// BenchmarkA19Renege reports a packet, and then acknowledges all up to it and not itself, again and again.
func BenchmarkA19Renege(b *testing.B) {
	flights(b, 1, func(t *TCB, s *Segment, n, i int) bool {
		k := packet(i/2 + 2)
		if s.Options.Blocks = 0; i%2 == 0 {
			s.Options.Blocks, s.Options.SACK[0] = 1, k
		} else {
			s.Ack = k.Left
		}
		return i/2+3 < n
	})
}

// BenchmarkA19Undo reports one of the last packets, so that the others count as lost, and then says that all arrived
// twice, so that it is taken back, again and again.
func BenchmarkA19Undo(b *testing.B) {
	flights(b, 1, func(t *TCB, s *Segment, n, i int) bool {
		if s.Options.Blocks = 1; i%2 == 0 {
			s.Options.SACK[0] = packet(n - 1 - i/2%4)
		} else {
			s.Options.Blocks = 2
			s.Options.SACK[0] = Block{t.snd.una, t.snd.nxt}
			s.Options.SACK[1] = s.Options.SACK[0]
		}
		return true
	})
}
