package tcp

import (
	"slices"
	"testing"
	"time"
)

func (s Seq) at() time.Duration { return time.Duration(s) * ms }

// sacking is a connection with SACK and without timestamps whose MSS is 1000; it has sent n segments, each 1 ms after
// the one before, and 20 of them at most are its window. The round trip is 100 ms.
func sacking(t *testing.T, n int, o Options) *script {
	t.Helper()
	c := Config{MTU: 1480, NoTimestamps: !o.HasTimestamps, NoScale: true, Congestion: NewReno}
	o.MSS, o.SACKPermitted = 1000, true
	if o.HasTimestamps {
		o.MSS = 1012
	}
	s := established(t, c, 65535, o)
	s.congestion(s.now).(*reno).cwnd = 20000
	for range n {
		s.now += ms
		s.write(1000)
	}
	if g := s.take(); len(g) != n {
		t.Fatalf("%d segments were sent, want %d", len(g), n)
	}
	s.now += 100*ms - time.Duration(n)*ms
	return s
}

// sack lets an acknowledgement arrive, with blocks, 1 ms later. Sequence numbers are against ISS+1.
func (s *script) sack(ack Seq, blocks ...Block) []Segment {
	s.t.Helper()
	s.now += ms
	g := Segment{Seq: s.rcv.nxt, Ack: 101 + ack, Flags: ACK, Window: 65535}
	for i, b := range blocks {
		g.Options.SACK[i] = Block{101 + b.Left, 101 + b.Right}
		g.Options.Blocks++
	}
	if s.ts {
		g.Options.HasTimestamps, g.Options.TSVal, g.Options.TSEcr = true, s.rcv.tsRecent, 1
	}
	s.arrive(g)
	return s.take()
}

// seqs are the sequence numbers against ISS+1 of those segments that were sent again.
func seqs(g []Segment) (list []int) {
	for i := range g {
		if g[i].Cause != CauseData && g[i].TextLen() > 0 {
			list = append(list, int(g[i].Seq)-101)
		}
	}
	return list
}

func wantSeqs(t *testing.T, what string, g []Segment, want ...int) {
	t.Helper()
	if got := seqs(g); !slices.Equal(got, want) {
		t.Fatalf("%s: sent again %v, want %v (%v)", what, got, want, g)
	}
}

// TestC102SACKRecovery: two of ten are lost: both are sent again within a round trip, in order, and nothing else is.
func TestC102SACKRecovery(t *testing.T) {
	s := sacking(t, 10, Options{})
	wantSeqs(t, "one above the hole", s.sack(2000, Block{3000, 4000}))
	wantSeqs(t, "two", s.sack(2000, Block{3000, 5000}))
	wantSeqs(t, "three (RFC 8985 §6.2, step 4)", s.sack(2000, Block{3000, 6000}), 2000)
	all := s.sack(2000, Block{7000, 8000}, Block{3000, 6000})
	all = append(all, s.sack(2000, Block{7000, 9000}, Block{3000, 6000})...)
	all = append(all, s.sack(2000, Block{7000, 10000}, Block{3000, 6000})...)
	wantSeqs(t, "the second hole", all, 6000)
	if i := s.Info(); i.Cwnd != 5000 && i.Ssthresh != i.Cwnd {
		t.Errorf("cwnd %d, ssthresh %d", i.Cwnd, i.Ssthresh)
	}
	wantSeqs(t, "all arrived", s.sack(10000))
	if s.snd.recovering {
		t.Error("recovery does not end")
	}
}

// TestC104NonsenseBlocks have no effect.
func TestC104NonsenseBlocks(t *testing.T) {
	for _, k := range []Block{{4000, 4000}, {5000, 4000}, {4000, 10001}, {2000, 4000}, {1000, 4000}, {0, 1 << 31}, {4000, 4000 + 1<<31},
		{1 << 31, 1<<31 + 5}, {50000, 60000}} {
		s := sacking(t, 10, Options{})
		s.sack(2000)
		for range 5 {
			wantSeqs(t, "nonsense", s.sack(2000, k))
		}
		if b := s.board; b.sacked != 0 || b.lost != 0 || s.snd.recovering {
			t.Errorf("%v: %d octets sacked, %d lost, recovering %v", k, b.sacked, b.lost, s.snd.recovering)
		}
	}
}

// TestA18DuplicatesWithoutSACK: RFC 6675 §2: where SACK is agreed on, an acknowledgement without news is no duplicate.
func TestA18DuplicatesWithoutSACK(t *testing.T) {
	s := sacking(t, 10, Options{})
	s.write(20000)
	s.take()
	for range 50 {
		if g := s.sack(0); len(g) > 0 {
			t.Fatalf("answered by %v", g)
		}
	}
	if s.snd.recovering {
		t.Error("in recovery")
	}
}

// TestC100Renege: the peer throws away what it had reported. It is sent again, whether the peer's acknowledgement or the
// timer shows it.
func TestC100Renege(t *testing.T) {
	s := sacking(t, 10, Options{})
	wantSeqs(t, "all but the first", s.sack(0, Block{1000, 10000}), 0)
	again := s.sack(1000) // just the hole
	for i := Seq(2); i <= 10; i++ {
		again = append(again, s.sack(i*1000)...)
	}
	wantSeqs(t, "reneged", again, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000)

	s = sacking(t, 10, Options{})
	s.sack(0, Block{1000, 10000})
	at := s.timers[timerRetransmit]
	s.wait(at - s.now)
	again = s.take()
	for i := Seq(1); i <= 10; i++ {
		again = append(again, s.sack(i*1000)...)
	}
	wantSeqs(t, "reneged after a timeout", again, 0, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000)
}

// TestC103C106LostRetransmission: what was sent after the retransmission has arrived, so that is lost as well (RFC 8985
// §6.2), and no timer is needed.
func TestC103C106LostRetransmission(t *testing.T) {
	s := sacking(t, 10, Options{})
	s.write(20000)
	s.take()
	wantSeqs(t, "the first time", s.sack(0, Block{1000, 5000}), 0)
	var last Seq
	for k := Seq(6); k <= 10; k++ {
		for _, g := range s.sack(0, Block{1000, k * 1000}) {
			last = g.End() - 101 // new text, sent behind the retransmission
		}
	}
	if last <= 10000 {
		t.Fatal("no new text was sent")
	}
	s.wait(100 * ms)
	s.take()
	wantSeqs(t, "the second time", s.sack(0, Block{1000, last}), 0)
	if s.snd.retries != 0 {
		t.Error("the timer expired")
	}
}

// TestC105Reordering: RFC 8985 §6.2: once reordering was seen, a quarter of the round trip passes before a segment is
// lost, and a timer finds it.
func TestC105Reordering(t *testing.T) {
	s := sacking(t, 10, Options{})
	s.sack(0, Block{1000, 2000})
	s.sack(2000) // the first comes late
	if !s.board.rack.reordering {
		t.Fatal("reordering is not seen")
	}
	wantSeqs(t, "seven above the hole", s.sack(2000, Block{3000, 10000}))
	if s.board.pending != pendingReorder {
		t.Fatalf("no timer waits for the reordering window: %v", s.board.pending)
	}
	s.wait(10 * ms)
	wantSeqs(t, "within the window", s.take())
	s.wait(30 * ms)
	wantSeqs(t, "after it", s.take(), 2000)

	s = sacking(t, 10, Options{})
	s.sack(0, Block{1000, 2000})
	s.sack(2000)
	s.sack(2000, Block{3000, 10000})
	s.wait(10 * ms)
	s.sack(10000) // it came
	s.wait(10 * time.Second)
	wantSeqs(t, "reordered by 10 ms", s.take())
}

// TestDSACKWidensTheReorderingWindow once a round trip, and 16 recoveries later it is narrow again.
func TestDSACKWidensTheReorderingWindow(t *testing.T) {
	s := sacking(t, 10, Options{})
	s.sack(0, Block{1000, 5000})
	s.sack(5000)
	s.sack(6000, Block{0, 1000})
	s.sack(7000, Block{0, 1000})
	if m := s.board.rack.windowMult; m != 2 {
		t.Errorf("the window is %d quarters after D-SACKs in one round trip, want 2", m)
	}
	k := s.board.rack
	for range persistRecoveries {
		if k.windowMult != 2 {
			t.Fatal("it is forgotten early")
		}
		k.recovered()
	}
	if k.windowMult != 1 {
		t.Errorf("after %d recoveries it is %d", persistRecoveries, k.windowMult)
	}
}

// TestC107TailLossProbe: RFC 8985 §7: one probe after 2 SRTT, before the retransmission timer; what was repaired by it
// counts as a loss, unless a D-SACK says that nothing was lost.
func TestC107TailLossProbe(t *testing.T) {
	for _, x := range []struct {
		name string
		then []Block
		cut  bool
	}{{"the tail was lost", nil, true}, {"only the acknowledgement was", []Block{{9000, 10000}}, false}} {
		s := sacking(t, 10, Options{})
		s.sack(9000)
		srtt, start := s.Info().SRTT, s.now
		at, ok := s.Deadline()
		if want := start + 2*srtt + probeSlack + maxAckDelay; !ok || at != min(want, start+s.rto()) {
			t.Fatalf("%s: the probe is due at %v, want %v", x.name, at, want)
		}
		s.wait(at - s.now)
		g := s.take()
		wantSeqs(t, x.name, g, 9000)
		if g[0].Cause != CauseTLP || s.Info().Backoff != 0 {
			t.Fatalf("%s: %v (%v), backed off %d times", x.name, g[0], g[0].Cause, s.Info().Backoff)
		}
		s.sack(10000, x.then...)
		s.write(1000)
		s.take()
		s.sack(11000)
		if got := s.Info().Ssthresh != 0; got != x.cut {
			t.Errorf("%s: the threshold is %d", x.name, s.Info().Ssthresh)
		}
	}
	s := sacking(t, 10, Options{})
	s.sack(8000) // two in flight: the peer does not delay
	at, _ := s.Deadline()
	if want := s.now + 2*s.Info().SRTT + probeSlack; at != want {
		t.Errorf("two in flight: the probe is due at %v, want %v", at, want)
	}
	s.wait(at - s.now)
	wantSeqs(t, "the probe", s.take(), 9000)
	s.wait(s.rto() - ms)
	wantSeqs(t, "only one", s.take())
	s.wait(ms)
	wantSeqs(t, "then the timer", s.take(), 8000)

	s = sacking(t, 10, Options{})
	s.congestion(s.now).(*reno).cwnd = 2000
	s.write(1000)
	s.take()
	s.sack(8000)
	s.wait(2*s.Info().SRTT + probeSlack)
	if g := s.take(); len(g) == 0 || g[0].Seq != 101+10000 || g[len(g)-1].TextLen() != 1000 {
		t.Errorf("with text that waits, the probe is %v", g)
	}
}

// TestUndoOfEarlierRetransmission: the timestamp of what a recovery before this one sent again is old, and says nothing of
// this one (RFC 3522 §3.2).
func TestUndoOfEarlierRetransmission(t *testing.T) {
	b := &scoreboard{}
	b.push(0, 1000, 0)
	b.resent(b.begin(), 1000, 950*ms)
	b.resent(b.begin(), 1000, 1100*ms)
	if got := b.head().resent; got != 950 {
		t.Fatalf("it was first sent again at %d, want 950", got)
	}
	s := sacking(t, 1, Options{HasTimestamps: true})
	for resent, want := range map[uint16]bool{950: false, 1000: true, 1001: true} {
		s.board.revert = revert{begun: true, stamped: true, again: true, left: 1000, stamp: 1000}
		d := delivery{headAgain: true, headResent: resent, advanced: true, hasEcho: true, echo: 940}
		if got := s.spurious(&d, false); got != want {
			t.Errorf("sent again at %d, in a recovery that sends again from 1000 on, and an echo of 940: spurious %v, want %v",
				resent, got, want)
		}
	}
}

// TestC95PRR: RFC 9937: one of twenty is lost, and about every second acknowledgement lets a segment go.
func TestC95PRR(t *testing.T) {
	s := sacking(t, 20, Options{})
	s.write(30000)
	s.take()
	var sent []int
	for k := Seq(2); k <= 20; k++ {
		g := s.sack(0, Block{1000, k * 1000})
		if !s.snd.recovering {
			continue
		}
		if sent = append(sent, len(g)); len(g) > 1 {
			t.Errorf("acknowledgement %d lets %d segments go", k, len(g))
		}
	}
	sum := 0
	for _, n := range sent {
		sum += n
	}
	if sum < len(sent)/2 || sum > len(sent)/2+1 {
		t.Errorf("sent %v, %d in flight, ssthresh %d", sent, s.board.pipe(), s.Info().Ssthresh)
	}
	s.sack(s.snd.recover - 101)
	if i := s.Info(); s.snd.recovering || i.Cwnd != i.Ssthresh || s.board.pipe() > i.Cwnd {
		t.Errorf("after recovery %d are in flight, cwnd %d", s.board.pipe(), i.Cwnd)
	}
}

// TestUndoByDSACK: RFC 3708: all that was sent again arrived twice.
func TestUndoByDSACK(t *testing.T) {
	s := sacking(t, 10, Options{})
	wantSeqs(t, "two holes", s.sack(0, Block{2000, 6000}), 0)
	s.sack(0, Block{2000, 8000})
	s.sack(0, Block{2000, 10000})
	if s.snd.una != 101 || s.board.lost != 0 || s.Info().Cwnd != 5000 {
		t.Fatalf("cwnd %d, %d octets lost", s.Info().Cwnd, s.board.lost)
	}
	s.sack(10000) // the originals
	s.sack(10000, Block{0, 1000})
	if got := s.Info().Cwnd; got != 5000 {
		t.Errorf("undone with half of the D-SACKs: %d", got)
	}
	s.write(1000)
	s.take()
	s.sack(10000, Block{1000, 2000})
	if got := s.Info().Cwnd; got < 20000 {
		t.Errorf("not undone: cwnd %d", got)
	}
}

// TestUndoByTimestamp is Eifel, RFC 3522: the acknowledgement of what was sent again echoes an older timestamp.
func TestUndoByTimestamp(t *testing.T) {
	for _, late := range []bool{false, true} {
		s := sacking(t, 10, Options{HasTimestamps: true, TSVal: 1})
		g := s.sack(0, Block{1000, 5000})
		wantSeqs(t, "the first", g, 0)
		stamp := g[0].Options.TSVal
		if late {
			stamp -= 50
		}
		s.now += 20 * ms
		s.arrive(Segment{Seq: 301, Ack: 101 + 5000, Flags: ACK, Window: 65535,
			Options: Options{HasTimestamps: true, TSVal: 1, TSEcr: stamp}})
		if got := s.Info().Cwnd >= 20000; got != late || got == s.snd.recovering {
			t.Errorf("an echo of %d: cwnd %d, recovering %v", stamp, s.Info().Cwnd, s.snd.recovering)
		}
	}
}

// TestC85FRTO: RFC 5682: every acknowledgement is delayed beyond the timer. Nothing but the first segment and a probe is
// sent again, and the window is restored.
func TestC85FRTO(t *testing.T) {
	for _, waits := range []bool{false, true} { // is there new text for step 2b? If not, nothing can be told
		s := sacking(t, 10, Options{})
		if waits {
			s.congestion(s.now).(*reno).cwnd = 10000
			s.write(5000)
			s.take()
		}
		cwnd := s.Info().Cwnd
		for s.Info().Backoff == 0 {
			at, _ := s.Deadline()
			s.wait(at - s.now)
		}
		g := s.take()
		if len(seqs(g)) == 0 || seqs(g)[len(seqs(g))-1] != 0 {
			t.Fatalf("the timer sends %v", g)
		}
		again := s.sack(1000) // of the original, or of what was sent again: who knows
		if waits {
			wantSeqs(t, "step 2b", again)
			again = nil
		}
		again = append(again, s.sack(4000)...)
		if waits {
			wantSeqs(t, "step 3", again)
		}
		again = append(again, s.sack(10000)...)
		if n := len(seqs(again)); waits && n > 0 {
			t.Errorf("%d segments are sent again", n)
		}
		if got := s.Info().Cwnd; waits && got < cwnd {
			t.Errorf("the window went from %d to %d", cwnd, got)
		}
	}
}

// TestTimeoutForReal: a flight is lost but for its end; F-RTO does not take the timeout for spurious.
func TestTimeoutForReal(t *testing.T) {
	s := sacking(t, 10, Options{})
	for s.Info().Backoff == 0 {
		at, _ := s.Deadline()
		s.wait(at - s.now)
	}
	s.take()
	again := []Segment{}
	for k := Seq(1); k <= 10; k++ {
		s.now += 100 * ms
		again = append(again, s.sack(k*1000)...)
	}
	wantSeqs(t, "all", again, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000)
	if s.Info().Cwnd >= 20000 {
		t.Error("undone")
	}
}

// TestC101DSACK: RFC 2883 §4: what arrives twice is the first block.
func TestC101DSACK(t *testing.T) {
	s := established(t, Config{MTU: 1480, NoTimestamps: true}, 65535, Options{MSS: 1460, SACKPermitted: true})
	blocks := func(want ...Block) {
		t.Helper()
		g := s.take()
		if len(g) != 1 {
			t.Fatalf("answered by %v, want %v", g, want)
		}
		if !slices.Equal(g[0].Options.SACK[:g[0].Options.Blocks], want) {
			t.Fatalf("answered by %v with %+v, want %v", g, g[0].Options.SACK, want)
		}
	}
	s.text(301, 100)
	s.wait(50 * ms)
	blocks()
	s.text(301, 100)
	blocks(Block{301, 401})
	s.text(351, 60) // half of it
	blocks(Block{351, 401})
	s.text(501, 100)
	blocks(Block{501, 601})
	s.text(521, 50)
	blocks(Block{521, 571}, Block{501, 601})
	s.text(301, 10)
	blocks(Block{301, 311}, Block{501, 601})
	s.text(411, 90)
	blocks()
}

// TestA19CrumbsAreNoNews: a peer that reports single octets of packets changes nothing.
func TestA19CrumbsAreNoNews(t *testing.T) {
	s := sacking(t, 10, Options{})
	for i := range Seq(4000) {
		s.sack(0, Block{2*i + 1, 2*i + 2})
	}
	if n := len(s.board.live()); n > 10 || s.board.sacked != 0 {
		t.Errorf("%d records of ten packets, %d octets count as delivered", n, s.board.sacked)
	}
	s = sacking(t, 10, Options{})
	s.sack(0, Block{500, 2500}) // a whole one beside parts
	if s.board.sacked != 1000 {
		t.Errorf("%d octets count as delivered, want 1000", s.board.sacked)
	}
}

// TestBoardIsDropped when nothing was in flight for an RTO.
func TestBoardIsDropped(t *testing.T) {
	s := sacking(t, 10, Options{})
	s.sack(10000)
	if s.board == nil {
		t.Fatal("it is gone at once: the next segment would allocate")
	}
	s.wait(s.rto())
	if at, ok := s.Deadline(); s.board != nil || ok {
		t.Errorf("it stays, with a deadline at %v", at)
	}
}

// TestSuperSegmentIsSplitBySACK: one record until SACK says which packets of it arrived.
func TestSuperSegmentIsSplitBySACK(t *testing.T) {
	s := established(t, Config{MTU: 1480, NoTimestamps: true, MaxText: 65000}, 65535, Options{MSS: 1000, SACKPermitted: true})
	s.write(10000)
	if g := s.take(); len(g) != 1 || g[0].Size != 1000 || len(s.board.live()) != 1 {
		t.Fatalf("sent %v, %d records", g, len(s.board.live()))
	}
	s.now += 100 * ms
	g := s.sack(2000, Block{5000, 9000})
	if len(g) == 0 || g[0].Seq != 101+2000 || g[0].TextLen() != 3000 {
		t.Fatalf("three packets in a row are sent again as %v", g)
	}
}
