package tcp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// These are attacks on what a receiver keeps.

// smacked is a connection with a window of 4 MB that its peer may fill.
func smacked(tb testing.TB, m Memory) (*TCB, time.Duration) {
	tb.Helper()
	t := Open(0, 100, &Config{MTU: 1480, NoTimestamps: true, Memory: m, ReadBuffer: 4 << 20})
	var g Segment
	t.Next(0, &g)
	t.SetBuffers(0, 4<<20, 0)
	t.Arrive(100*ms, &Segment{Seq: 300, Ack: 101, Flags: SYN | ACK, Window: 65535,
		Options: Options{MSS: 1460, SACKPermitted: true, HasScale: true, WindowScale: 14}})
	for t.Next(100*ms, &g) {
	}
	return t, 100 * ms
}

// counted is a Memory that counts what it has lent.
type counted struct{ octets, most int }

func (m *counted) Borrow(n int) *Chunk {
	m.octets += n
	m.most = max(m.most, m.octets)
	return NewChunk(n)
}

func (m *counted) Return(c *Chunk) { m.octets -= len(c.Bytes) }

// TestA21SegmentSmack: CVE-2018-5390: single octets, each behind a hole, in whatever order, take neither more blocks than
// maxRanges nor more memory than the window and a chunk at each end; the last octet, which fills all, still delivers.
func TestA21SegmentSmack(t *testing.T) {
	for _, x := range []struct {
		name string
		step Seq
	}{{"every other octet", 2}, {"one in 40", 40}} {
		for _, order := range []string{"upwards", "downwards", "at random"} {
			m := &counted{}
			s, now := smacked(t, m)
			const n = 100000
			at := rand.New(rand.NewPCG(1, 3)).Perm(n)
			var out Segment
			for i := range n {
				k := at[i]
				switch order {
				case "upwards":
					k = i
				case "downwards":
					k = n - 1 - i
				}
				seq := 302 + Seq(k)*x.step
				now += time.Microsecond
				s.Arrive(now, &Segment{Seq: seq, Ack: 101, Flags: ACK, Window: 65535, Text: [][]byte{{'x'}}})
				for s.Next(now, &out) {
				}
				if s.ooo.len() > maxRanges {
					t.Fatalf("%s %s: %d blocks, want at most %d", x.name, order, s.ooo.len(), maxRanges)
				}
			}
			if most := 4<<20 + 2*LargeChunk; m.most > most {
				t.Errorf("%s %s: %d octets borrowed for a window of %d", x.name, order, m.most, 4<<20)
			}
			if s.rcv.nxt != 301 {
				t.Fatalf("%s %s: RCV.NXT is %v", x.name, order, s.rcv.nxt)
			}
			text := make([]byte, 1400)
			b := make([]byte, 64<<10)
			for got := 0; got < n*int(x.step); {
				s.Arrive(now, &Segment{Seq: s.rcv.nxt, Ack: 101, Flags: ACK, Window: 65535, Text: [][]byte{text}})
				for s.Next(now, &out) {
				}
				k := s.Read(now, b)
				if got += k; k == 0 {
					t.Fatalf("%s %s: after %d octets nothing arrives any more", x.name, order, got)
				}
			}
			s.Abort()
			for s.Next(now, &out) {
			}
			if m.octets != 0 {
				t.Errorf("%s %s: %d octets stay borrowed", x.name, order, m.octets)
			}
		}
	}
}

// TestA22OverlapKeepsWhatCameFirst: what is queued is never changed by what arrives over it later, in part or whole.
func TestA22OverlapKeepsWhatCameFirst(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 9))
		s := established(t, Config{MTU: 1480, NoTimestamps: true}, 65535, Options{MSS: 1460, SACKPermitted: true})
		const n = 3000
		want := make([]byte, n)
		for i := range byte(100) {
			at := 1 + r.IntN(n-1)
			k := 1 + r.IntN(min(n-at, 600))
			s.arrive(Segment{Seq: 301 + Seq(at), Ack: 101, Flags: ACK, Window: 65535, Text: [][]byte{bytes.Repeat([]byte{'A' + i%50}, k)}})
			for j := range k {
				if want[at+j] == 0 {
					want[at+j] = 'A' + i%50
				}
			}
		}
		s.arrive(Segment{Seq: 301, Ack: 101, Flags: ACK, Window: 65535, Text: [][]byte{bytes.Repeat([]byte{'z'}, n)}})
		for j := range want {
			if want[j] == 0 {
				want[j] = 'z'
			}
		}
		if got := s.read(n); got != string(want) {
			t.Fatalf("seed %d: read\n%s\nwant\n%s", seed, got, want)
		}
	}
}

// TestA23BeyondTheWindow: a segment, be it one that a device has joined out of many, is cut at the right edge of the
// window; what stands behind it does not arrive, and RCV.NXT does not pass it.
func TestA23BeyondTheWindow(t *testing.T) {
	for _, n := range []int{1001, 2000, 65000} {
		for _, ahead := range []Seq{0, 1, 999} {
			c := plain()
			c.ReadBuffer = 1000
			s := established(t, c, 65535, Options{MSS: 1460})
			edge := s.rcv.edge
			s.text(301+ahead, n)
			if s.rcv.edge != edge || edge.Less(s.rcv.nxt) || edge.Less(s.recvq.end) {
				t.Fatalf("%d octets at RCV.NXT+%d: RCV.NXT %v and %v stored, the edge was at %v", n, ahead, s.rcv.nxt, s.recvq.end, edge)
			}
			s.text(301, int(ahead))
			if got := s.read(65535); got != string(letters(301, 1000)) {
				t.Errorf("%d octets at RCV.NXT+%d: read %d octets, want 1000", n, ahead, len(got))
			}
			s.wantDropped(s.text(s.rcv.edge, 100), DropWindow)
		}
	}
}

// TestA24TimestampPoisoning: a segment whose timestamp lies far ahead sets TS.Recent only where it passes the checks of
// sequence and acknowledgement, and does not stand behind a hole: RFC 7323 §4.3. Otherwise all that follows would be old.
func TestA24TimestampPoisoning(t *testing.T) {
	const far = 1000 + 1<<31 - 1
	for _, x := range []struct {
		name     string
		seq, ack Seq
		n        int
	}{
		{"in the window, behind a hole", 401, 101, 100},
		{"an acknowledgement of the future", 301, 5000, 100},
		{"an acknowledgement of the past", 301, 1<<32 - 70000, 100},
		{"no text, an acknowledgement of the future", 301, 5000, 0},
		{"no text, behind a hole", 350, 101, 0},
		{"left of the window", 201, 101, 100},
		{"right of the window", 301 + 1<<20, 101, 100},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := established(t, full(), 65535, Options{MSS: 1460, SACKPermitted: true, HasTimestamps: true, TSVal: 1000})
			s.take()
			for range 1000 {
				g := stamped(x.seq, x.n, far)
				g.Ack = x.ack
				s.arrive(g)
			}
			if s.rcv.tsRecent != 1000 {
				t.Fatalf("TS.Recent is %d, want 1000", s.rcv.tsRecent)
			}
			s.wantDropped(s.arrive(stamped(301, 100, 1001)), DropNone)
			if len(s.read(100)) != 100 {
				t.Error("the peer's text does not arrive")
			}
		})
	}
}

// held are how many single octets lie behind holes when an attack is measured.
var held = []int{10, 100, 1000, 4096, 10000, 100000}

// BenchmarkA21Smack is what an octet behind a hole costs that is not there yet, at a random place, and BenchmarkA21Again
// one that is there already: with n of them held, as far as they are. A run ends with a new connection.
func BenchmarkA21Smack(b *testing.B) { smack(b, false) }

// BenchmarkA21Again is the refresh.
func BenchmarkA21Again(b *testing.B) { smack(b, true) }

func smack(b *testing.B, again bool) {
	for _, n := range held {
		b.Run(fmt.Sprintf("octets=%d", n), func(b *testing.B) {
			order := rand.New(rand.NewPCG(1, 3)).Perm(n)
			m := new(chunks)
			text := [][]byte{{'x'}}
			var out Segment
			t, now := smacked(b, m)
			put := func(i int) {
				now += time.Microsecond
				t.Arrive(now, &Segment{Seq: 302 + Seq(order[i])*40, Ack: 101, Flags: ACK, Window: 65535, Text: text})
				for t.Next(now, &out) {
				}
			}
			if again {
				for i := range n {
					put(i)
				}
			}
			at := 0
			for b.Loop() {
				if at == n {
					if at = 0; !again {
						b.StopTimer()
						t.Abort()
						for t.Next(now, &out) {
						}
						t, now = smacked(b, m)
						b.StartTimer()
					}
				}
				put(at)
				at++
			}
			b.ReportMetric(float64(t.ooo.len()), "blocks")
		})
	}
}

// BenchmarkA21Drain is what an octet costs that fills the first hole of many, and one behind the last that makes another.
func BenchmarkA21Drain(b *testing.B) {
	for _, n := range held {
		b.Run(fmt.Sprintf("octets=%d", n), func(b *testing.B) {
			t, now := smacked(b, new(chunks))
			var out Segment
			text, got := [][]byte{{'x'}}, make([]byte, 100)
			put := func(at Seq) {
				now += time.Microsecond
				t.Arrive(now, &Segment{Seq: at, Ack: 101, Flags: ACK, Window: 65535, Text: text})
				for t.Next(now, &out) {
				}
			}
			end := Seq(302)
			for ; t.ooo.len() < min(n, maxRanges-1); end += 2 {
				put(end)
			}
			for first := true; b.Loop(); first = !first {
				if first {
					put(end)
					end += 2
				} else {
					put(t.rcv.nxt)
					t.Read(now, got)
				}
			}
			b.ReportMetric(float64(t.ooo.len()), "blocks")
		})
	}
}

// BenchmarkAttack is what a segment costs that is to achieve nothing.
func BenchmarkAttack(b *testing.B) {
	for _, x := range []struct {
		name string
		make func(s *Segment, i Seq)
	}{
		{"A5ResetInTheWindow", func(s *Segment, i Seq) { s.Flags, s.Seq = RST, 302+i%60000 }},
		{"A6SYN", func(s *Segment, i Seq) { s.Flags, s.Seq = SYN, i*1000 }},
		{"A7OldAcknowledgement", func(s *Segment, i Seq) { s.Ack = 1<<32 - 70000 - i%1000000 }},
		{"A16FutureAcknowledgement", func(s *Segment, i Seq) { s.Ack = 1<<20 + i%1000000 }},
		{"A18Duplicate", func(s *Segment, i Seq) {}},
		{"A23BeyondTheWindow", func(s *Segment, i Seq) { s.Seq = 1 << 30 }},
		{"A24OldTimestamp", func(s *Segment, i Seq) { s.Options.TSVal = 1<<31 + 5 }},
		{"A27WindowProbe", func(s *Segment, i Seq) { s.Seq = 300 }},
	} {
		b.Run(x.name, func(b *testing.B) {
			t := Open(0, 100, &Config{MTU: 1480, Memory: new(chunks)})
			var g Segment
			t.Next(0, &g)
			o := Options{MSS: 1460, SACKPermitted: true, HasTimestamps: true, TSVal: 1000}
			t.Arrive(100*ms, &Segment{Seq: 300, Ack: 101, Flags: SYN | ACK, Window: 65535, Options: o})
			now := 100 * ms
			t.Write(now, make([]byte, 10000))
			for t.Next(now, &g) {
			}
			b.ReportAllocs()
			for i := Seq(0); b.Loop(); i++ {
				now += time.Microsecond
				s := Segment{Seq: 301, Ack: 101, Flags: ACK, Window: 65535, Options: Options{HasTimestamps: true, TSVal: 1001}}
				x.make(&s, i)
				t.Arrive(now, &s)
				for t.Next(now, &g) {
				}
			}
		})
	}
}
