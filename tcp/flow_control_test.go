package tcp

import (
	"testing"
	"time"
)

// TestC1C75Window: the window is unsigned, scaled by 14 at most, and never in a SYN.
func TestC1C75Window(t *testing.T) {
	for shift, want := range map[uint8]int{0: 65535, 7: 65535 << 7, 14: 65535 << 14, 15: 65535 << 14, 255: 65535 << 14} {
		s := established(t, full(), 65535, Options{MSS: 1460, HasScale: true, WindowScale: shift})
		if got := s.Info().SndWnd; got != 65535 {
			t.Errorf("shift %d: the SYN-ACK's window is %d, want it unscaled", shift, got)
		}
		s.ack(101)
		if got := s.Info().SndWnd; got != want {
			t.Errorf("shift %d: window %d, want %d", shift, got, want)
		}
	}
	s := established(t, full(), 65535, Options{MSS: 1460}) // C108: no scale in the SYN-ACK
	s.ack(101)
	if i := s.Info(); i.SndWnd != 65535 || i.Scaled || i.RcvWnd > 65535 {
		t.Errorf("without the option: %+v", i)
	}
}

// TestC39WindowNeverShrinks, whatever is read, refused or set.
func TestC39WindowNeverShrinks(t *testing.T) {
	for _, buffer := range []int{3000, 65535, 1 << 20} {
		c := full()
		c.ReadBuffer = buffer
		s := established(t, c, 65535, Options{MSS: 1460, HasScale: true})
		edge, seq := s.rcv.nxt, Seq(301)
		for i := range 5000 {
			n := 1 + (i*i)%1460
			s.arrive(Segment{Seq: seq, Ack: 101, Flags: ACK, Window: 65535, Text: [][]byte{make([]byte, n)}})
			seq = s.rcv.nxt
			if i%3 == 0 {
				s.read(i % 4000)
			}
			if i == 2500 {
				s.SetBuffers(s.now, 2000, 0)
			}
			for _, g := range s.take() {
				e := g.Ack + Seq(g.Window)<<s.rcv.scale
				if e.Less(edge) {
					t.Fatalf("buffer %d: the right edge moves from %v to %v", buffer, edge, e)
				}
				edge = e
			}
		}
	}
}

// TestWindowOfSingleOctets: a peer that sends octet by octet cannot advance the window for ever.
func TestWindowOfSingleOctets(t *testing.T) {
	c := full()
	c.ReadBuffer = 1 << 18
	s := established(t, c, 65535, Options{MSS: 1460, HasScale: true})
	limit := 1<<18 + 65535/4<<s.rcv.scale
	for range 1 << 19 {
		s.text(s.rcv.nxt, 1)
		s.sent = s.sent[:0]
	}
	if n := s.Buffered(); n > limit {
		t.Errorf("%d octets wait, want at most %d", n, limit)
	}
}

// TestC40C41C42ZeroWindow: probes, at first after an RTO and then twice as late each time, for as long as they are
// answered.
func TestC40C41C42ZeroWindow(t *testing.T) {
	s := established(t, plain(), 0, Options{MSS: 1460})
	s.write(100)
	s.want()
	rto := s.Info().RTO
	var gaps []time.Duration
	for last := s.now; len(gaps) < 12; {
		at, ok := s.Deadline()
		if !ok {
			t.Fatal("no timer runs at a zero window")
		}
		s.wait(at - s.now)
		s.want("<SEQ=100><ACK=301><CTL=ACK>")
		gaps, last = append(gaps, s.now-last), s.now
		s.arrive(Segment{Seq: 301, Ack: 101, Flags: ACK})
	}
	for i, want := 0, rto; i < len(gaps); i, want = i+1, min(2*want, maxRTO) {
		if gaps[i] != want {
			t.Errorf("probe %d came after %v, want %v (all: %v)", i, gaps[i], want, gaps)
		}
	}
	for end := s.now + 2*time.Hour; s.now < end; { // MUST-37
		s.wait(maxRTO)
		s.arrive(Segment{Seq: 301, Ack: 101, Flags: ACK})
	}
	s.wantState(Established)
	s.take()
	s.ack(101) // a pure window update
	s.want("<SEQ=101><ACK=301><DATA=100><CTL=PSH,ACK>")

	s = established(t, plain(), 0, Options{MSS: 1460})
	s.write(100)
	s.wait(20 * time.Minute) // nobody answers
	s.wantEnd(TimedOut)
}

// TestC43ZeroReceiveWindow: acknowledgements and resets are obeyed where no text is.
func TestC43ZeroReceiveWindow(t *testing.T) {
	c := plain()
	c.ReadBuffer = 1000
	s := established(t, c, 65535, Options{MSS: 1460})
	s.write(10)
	s.text(301, 1000)
	s.wait(50 * ms)
	s.take()
	if w := s.Info().RcvWnd; w != 0 {
		t.Fatalf("window %d, want 0", w)
	}
	s.arrive(Segment{Seq: 1301, Ack: 111, Flags: ACK | PSH, Window: 1000, Text: [][]byte{{'x'}}})
	s.want("<SEQ=111><ACK=1301><CTL=ACK>")
	if s.Info().SndUna != 111 {
		t.Error("the acknowledgement in a segment that probes is not taken")
	}
	if got := s.read(2000); got != string(letters(301, 1000)) {
		t.Errorf("read %d octets", len(got))
	}
	if g := s.take(); len(g) != 1 || g[0].Window != 1000 || g[0].Cause != CauseWindowUpdate {
		t.Errorf("after reading all: %v", g)
	}
	s.text(1301, 1000)
	s.wait(50 * ms)
	s.arrive(Segment{Seq: 2301, Flags: RST})
	s.wantEnd(Reset)
}

// TestC37C38Shrink: the peer takes its window back.
func TestC37C38Shrink(t *testing.T) {
	s := established(t, plain(), 8000, Options{MSS: 1000})
	s.write(20000)
	if n := s.Info().InFlight; n != 8000 {
		t.Fatalf("%d octets in flight, want 8000", n)
	}
	s.take()
	s.arrive(Segment{Seq: 301, Ack: 1101, Flags: ACK, Window: 2500}) // edge 3601, and 8101 were sent
	s.want()
	s.wait(3 * time.Second)
	for _, g := range s.take() {
		if g.Cause != CauseRTO || Seq(3601).Less(g.End()) {
			t.Errorf("%v (%v) goes beyond the window's edge at 3601", g, g.Cause)
		}
	}
	s.arrive(Segment{Seq: 301, Ack: 1101, Flags: ACK, Window: 0})
	s.take()
	for end := s.now + 10*time.Minute; s.now < end; {
		s.wait(10 * time.Second)
		for _, g := range s.take() {
			if g.String() != "<SEQ=1100><ACK=301><CTL=ACK>" {
				t.Fatalf("at a window that shrank to nothing: %v", g)
			}
		}
		s.arrive(Segment{Seq: 301, Ack: 1101, Flags: ACK, Window: 0})
	}
	s.wantState(Established)
	s.arrive(Segment{Seq: 301, Ack: 1101, Flags: ACK, Window: 8000})
	s.wait(10 * time.Second)
	if g := s.take(); len(g) == 0 || g[0].Seq != 1101 {
		t.Errorf("the window opened again: %v", g)
	}
}

// TestC44SenderSWS: a window that opens in crumbs is not used in crumbs.
func TestC44SenderSWS(t *testing.T) {
	s := established(t, plain(), 1000, Options{MSS: 1000})
	s.write(10000)
	s.want("<SEQ=101><ACK=301><DATA=1000><CTL=ACK>")
	s.arrive(Segment{Seq: 301, Ack: 1101, Flags: ACK, Window: 0})
	for w := uint16(10); w < 500; w += 60 {
		s.arrive(Segment{Seq: 301, Ack: 1101, Flags: ACK, Window: w})
		s.want()
	}
	start := s.now
	for len(s.sent) == 0 {
		s.wait(10 * ms)
		if s.now > start+time.Second {
			t.Fatal("the override timeout never comes")
		}
	}
	if d := s.now - start; d < 100*ms {
		t.Errorf("the override timeout comes after %v", d)
	}
	s.take()
	s = established(t, plain(), 1000, Options{MSS: 1000})
	s.write(10000)
	s.take()
	s.arrive(Segment{Seq: 301, Ack: 1101, Flags: ACK, Window: 500})
	s.want("<SEQ=1101><ACK=301><DATA=500><CTL=ACK>") // half the largest window
}

// TestC45ReceiverSWS: a user who reads octet by octet does not open the window octet by octet.
func TestC45ReceiverSWS(t *testing.T) {
	for buffer, step := range map[int]int{1000: 500, 65535: 1460} {
		c := plain()
		c.ReadBuffer = buffer
		s := established(t, c, 65535, Options{MSS: 1460})
		for s.Info().RcvWnd > 0 {
			s.text(s.rcv.nxt, min(1460, s.Info().RcvWnd))
			s.wait(50 * ms)
		}
		s.take()
		for i := 1; len(s.sent) == 0; i++ {
			s.read(1)
			if len(s.sent) > 0 && i < step {
				t.Errorf("buffer %d: an update after %d octets: %v", buffer, i, s.sent)
			}
			if i > step {
				t.Fatalf("buffer %d: no update after %d octets", buffer, i)
			}
		}
		if w := int(s.sent[0].Window); w < step {
			t.Errorf("buffer %d: the update says %d, want at least %d", buffer, w, step)
		}
	}
}

// TestC46C47Nagle: one short segment in flight, unless the user turned that off.
func TestC46C47Nagle(t *testing.T) {
	c := plain()
	c.Nagle = true
	s := established(t, c, 65535, Options{MSS: 1460})
	for range 10 {
		s.write(1)
	}
	s.want("<SEQ=101><ACK=301><DATA=1><CTL=PSH,ACK>")
	s.ack(102)
	s.want("<SEQ=102><ACK=301><DATA=9><CTL=PSH,ACK>")
	s.write(2000)
	s.want("<SEQ=111><ACK=301><DATA=1460><CTL=ACK>")
	s.Close(s.now)
	s.want("<SEQ=1571><ACK=301><DATA=540><CTL=FIN,PSH,ACK>") // nothing will be added any more

	s = established(t, c, 65535, Options{MSS: 1460})
	s.SetNoDelay(true)
	for range 10 {
		s.write(1)
	}
	if n := len(s.take()); n != 10 {
		t.Errorf("%d segments for ten writes without Nagle", n)
	}
}

// TestC48C49DelayedACK: less than 500 ms for one segment, at once for every second.
func TestC48C49DelayedACK(t *testing.T) {
	s := plainly(t)
	s.text(301, 10)
	s.want()
	s.wait(delayedACK)
	s.want("<SEQ=101><ACK=311><CTL=ACK>")
	if delayedACK >= 500*ms {
		t.Errorf("acknowledgements wait for %v", delayedACK)
	}
	for range 50 {
		s.text(s.rcv.nxt, 1460)
		s.read(5000)
	}
	s.take() // quick at the beginning
	for range 10 {
		s.text(s.rcv.nxt, 1460)
		s.read(5000)
	}
	if n := len(s.take()); n != 5 {
		t.Errorf("%d acknowledgements of ten full-sized segments, want 5", n)
	}
	s.text(s.rcv.nxt, 65535)
	if n := len(s.take()); n != 1 {
		t.Errorf("%d acknowledgements of a super-segment, want 1", n)
	}
	s.read(1 << 20)
	s.text(s.rcv.nxt, 10)
	s.take()
	s.write(10)
	if g := s.take(); len(g) != 1 || g[0].Ack != s.rcv.nxt {
		t.Errorf("the acknowledgement does not ride on text: %v", g)
	}
	s.wait(time.Second)
	for _, g := range s.take() {
		if g.Cause == CauseAck {
			t.Errorf("it is sent once more: %v", g)
		}
	}
}

// TestC50OneACKForABatch: MUST-58.
func TestC50OneACKForABatch(t *testing.T) {
	s := plainly(t)
	for i := range 32 {
		at := 301 + Seq(1000*i)
		s.Arrive(s.now, &Segment{Seq: at, Ack: 101, Flags: ACK, Window: 65535, Text: [][]byte{letters(at, 1000)}})
	}
	s.want("<SEQ=101><ACK=32301><CTL=ACK>")
}

// TestC51C92OutOfOrder: segments 3, 2, 4, 1. Each is acknowledged at once, and what came first is kept.
func TestC51C92OutOfOrder(t *testing.T) {
	s := plainly(t)
	for _, at := range []Seq{501, 401, 601} {
		s.text(at, 100)
		s.want("<SEQ=101><ACK=301><CTL=ACK>")
	}
	s.arrive(Segment{Seq: 401, Ack: 101, Flags: ACK, Window: 65535, Text: [][]byte{make([]byte, 150)}}) // another text
	s.take()
	s.text(301, 100)
	s.want("<SEQ=101><ACK=701><CTL=ACK>")
	if got, want := s.read(1000), string(letters(301, 400)); got != want {
		t.Errorf("read %q, want %q", got, want)
	}
}

// TestC52C53SendsFullSegments: all are full but the last, which says PSH.
func TestC52C53SendsFullSegments(t *testing.T) {
	s := plainly(t)
	s.write(4000)
	s.want("<SEQ=101><ACK=301><DATA=1460><CTL=ACK>", "<SEQ=1561><ACK=301><DATA=1460><CTL=ACK>",
		"<SEQ=3021><ACK=301><DATA=1080><CTL=PSH,ACK>")
}

// TestSuperSegments: as much as MaxText, in whole packets but for the last.
func TestSuperSegments(t *testing.T) {
	c := plain()
	c.MaxText = 6000
	s := established(t, c, 65535, Options{MSS: 1460})
	s.write(10000)
	g := s.want("<SEQ=101><ACK=301><DATA=5840><CTL=ACK>", "<SEQ=5941><ACK=301><DATA=4160><CTL=PSH,ACK>")
	if g[0].Size != 1460 || g[1].Size != 1460 {
		t.Errorf("packets of %d and %d octets, want 1460", g[0].Size, g[1].Size)
	}
	s.ack(10101)
	s.write(1460)
	if g := s.want("<SEQ=10101><ACK=301><DATA=1460><CTL=PSH,ACK>"); g[0].Size != 0 {
		t.Errorf("one packet says a size of %d", g[0].Size)
	}
}

// TestMemoryRefuses: what finds no memory is not acknowledged, and the window does not grow.
func TestMemoryRefuses(t *testing.T) {
	c := plain()
	m := &meanMemory{}
	c.Memory = m
	s := established(t, c, 65535, Options{MSS: 1460})
	s.wantDropped(s.text(301, 100), DropMemory)
	s.wait(time.Second)
	s.want()
	s.wantDropped(s.text(501, 100), DropMemory)
	s.want("<SEQ=101><ACK=301><CTL=ACK>")
	if n := s.Write(s.now, make([]byte, 10)); n != 0 {
		t.Errorf("%d octets were written into no memory", n)
	}
	m.left = 1
	s.text(301, 100)
	s.wait(time.Second)
	s.want("<SEQ=101><ACK=401><CTL=ACK>")
}

type meanMemory struct{ left int }

func (m *meanMemory) Borrow(n int) *Chunk {
	if m.left == 0 {
		return nil
	}
	m.left--
	return NewChunk(n)
}

func (m *meanMemory) Return(*Chunk) { m.left++ }

// TestGiveAndTake: chunks pass through without a copy.
func TestGiveAndTake(t *testing.T) {
	s := plainly(t)
	c := NewChunk(SmallChunk)
	copy(c.Bytes, "hello")
	if !s.Give(s.now, c, 5) || s.Give(s.now, NewChunk(SmallChunk), 0) {
		t.Fatal("Give")
	}
	if g := s.want("<SEQ=101><ACK=301><DATA=5><CTL=PSH,ACK>"); string(g[0].Text[0]) != "hello" {
		t.Errorf("sent %q", g[0].Text)
	}
	s.text(301, 5)
	s.text(310, 5)
	if c, p := s.Take(s.now); c == nil || string(p) != string(letters(301, 5)) {
		t.Errorf("took %q", p) // by copying, since the chunk holds what stands behind the hole
	}
	if c, _ := s.Take(s.now); c != nil {
		t.Error("took something out of nothing")
	}
	s.SetBuffers(s.now, 0, 5)
	if s.Give(s.now, NewChunk(SmallChunk), 5) {
		t.Error("Give into a full pipe")
	}
}

// TestOldSegmentsSetNoWindow: SND.WL1 and SND.WL2.
func TestOldSegmentsSetNoWindow(t *testing.T) {
	s := plainly(t)
	s.text(301, 10)
	s.write(1000)
	s.ack(601)
	for _, g := range []Segment{
		{Seq: 305, Ack: 601, Text: [][]byte{letters(305, 10)}}, // an older SEG.SEQ
		{Seq: 311, Ack: 301, Text: [][]byte{letters(311, 10)}}, // an older SEG.ACK
	} {
		g.Flags, g.Window = ACK, 5
		s.arrive(g)
		if w := s.Info().SndWnd; w != 65535 {
			t.Errorf("%v sets the window to %d", g, w)
		}
	}
}

// TestDuplicateACKGoesBeforeText: a peer that counts duplicates counts none that carries text (RFC 5681 §2).
func TestDuplicateACKGoesBeforeText(t *testing.T) {
	s := plainly(t)
	s.Write(s.now, make([]byte, 100))
	s.text(401, 100)
	s.want("<SEQ=101><ACK=301><CTL=ACK>", "<SEQ=101><ACK=301><DATA=100><CTL=PSH,ACK>")
}

// TestFINNeedsWindow: it occupies an octet of it.
func TestFINNeedsWindow(t *testing.T) {
	s := established(t, plain(), 100, Options{MSS: 1460})
	s.Write(s.now, make([]byte, 100))
	s.Close(s.now)
	s.want("<SEQ=101><ACK=301><DATA=100><CTL=PSH,ACK>")
	s.arrive(Segment{Seq: 301, Ack: 201, Flags: ACK, Window: 0})
	s.want()
	s.arrive(Segment{Seq: 301, Ack: 201, Flags: ACK, Window: 1})
	s.want("<SEQ=201><ACK=301><CTL=FIN,ACK>")
}

// TestWindowWithoutMemory: once Memory refused, the window grows no more until it lends again or something was read.
func TestWindowWithoutMemory(t *testing.T) {
	c := plain()
	m := &meanMemory{left: 1}
	c.Memory, c.ReadBuffer = m, 20000
	s := established(t, c, 65535, Options{MSS: 1460})
	for s.Buffered() < SmallChunk {
		s.text(s.rcv.nxt, 512)
	}
	s.take()
	s.wantDropped(s.text(s.rcv.nxt, 512), DropMemory)
	edge := s.rcv.edge
	s.buf.read = 60000
	s.text(s.rcv.nxt-512, 512)
	if g := s.take(); len(g) != 1 || g[0].Ack+Seq(g[0].Window) != edge {
		t.Errorf("without memory the edge moves from %v: %v with a window of %d", edge, g, g[0].Window)
	}
	s.read(SmallChunk)
	s.text(s.rcv.nxt-512, 512)
	if g := s.take(); len(g) == 0 || !edge.Less(g[0].Ack+Seq(g[0].Window)) {
		t.Errorf("after a read the edge stays at %v: %v", edge, g)
	}
}
