package tcp

import (
	"testing"
	"time"
)

// gaps lets d pass and returns the times between the segments that are sent meanwhile, the first from now on.
func (s *script) gaps(d time.Duration) (list []time.Duration) {
	s.t.Helper()
	end, last := s.now+d, s.now
	for s.State() != Closed {
		at, ok := s.Deadline()
		if !ok || at > end {
			break
		}
		s.wait(at - s.now)
		for range s.take() {
			list, last = append(list, s.now-last), s.now
		}
	}
	return list
}

func wantGaps(t *testing.T, got []time.Duration, first, most time.Duration) {
	t.Helper()
	for i, want := 0, first; i < len(got); i, want = i+1, min(2*want, most) {
		if got[i] != want {
			t.Fatalf("gap %d is %v, want %v (all: %v)", i, got[i], want, got)
		}
	}
}

// TestC28C29C84BackOff: 1:2:4:8, at most 2 minutes, and given up after R2 in silence.
func TestC28C29C84BackOff(t *testing.T) {
	s := plainly(t)
	s.write(100)
	s.take()
	start, rto := s.now, s.Info().RTO
	got := s.gaps(time.Hour)
	wantGaps(t, got, rto, maxRTO)
	if len(got) < 9 {
		t.Errorf("only %d retransmissions", len(got))
	}
	s.wantEnd(TimedOut)
	if d := s.now - start; d < 100*time.Second {
		t.Errorf("given up after %v", d)
	}
	s.want()
}

// TestC30UserTimeout: MUST-21.
func TestC30UserTimeout(t *testing.T) {
	s := plainly(t)
	s.SetUserTimeout(s.now, 3*time.Second)
	s.write(100)
	start := s.now
	for s.State() != Closed && s.now < start+time.Minute {
		s.wait(100 * ms)
	}
	s.wantEnd(TimedOut)
	if d := s.now - start; d < 3*time.Second || d > 4*time.Second {
		t.Errorf("given up after %v, want 3 s", d)
	}
	s = plainly(t)
	s.write(100)
	s.SetUserTimeout(s.now, 3*time.Second) // while it runs
	s.wait(4 * time.Second)
	s.wantEnd(TimedOut)
}

// TestC31R1IsTold after three retransmissions.
func TestC31R1IsTold(t *testing.T) {
	s := plainly(t)
	s.write(100)
	for n := 1; n <= 4; n++ {
		at, _ := s.Deadline()
		ev := s.wait(at - s.now)
		if ev.Has(SoftError) != (n == 3) {
			t.Errorf("retransmission %d: event %#x", n, ev)
		}
	}
	if s.Info().SoftErr != TimedOut {
		t.Errorf("Info says %v", s.Info().SoftErr)
	}
}

// TestC32SYN: sent again after 1, 2, 4, … s, for at least 3 minutes.
func TestC32SYN(t *testing.T) {
	s := opened(t, plain())
	got := s.gaps(time.Hour)
	wantGaps(t, got, time.Second, maxRTO)
	s.wantEnd(TimedOut)
	if s.now < 180*time.Second || len(got) < 7 {
		t.Errorf("given up after %v and %d retransmissions", s.now, len(got))
	}
	s = in(t, SynReceived)
	wantGaps(t, s.gaps(time.Hour), time.Second, maxRTO)
	s.wantEnd(TimedOut)
}

// TestC81RTOAfterLostSYN: RFC 6298 §5.7, and RFC 5681 §3.1 on the window.
func TestC81RTOAfterLostSYN(t *testing.T) {
	s := opened(t, plain())
	s.wait(time.Second)
	s.want("<SEQ=100><CTL=SYN>")
	s.arrive(Segment{Seq: 300, Ack: 101, Flags: SYN | ACK, Window: 65535, Options: Options{MSS: 1460}})
	s.take()
	if i := s.Info(); i.RTO != 3*time.Second || i.SRTT != 0 {
		t.Errorf("RTO %v, SRTT %v, want 3 s and none", i.RTO, i.SRTT)
	}
	s.write(10000)
	if n := len(s.take()); n != 1 {
		t.Errorf("an initial window of %d segments, want 1", n)
	}
}

// TestC27Karn: a segment that was sent twice measures nothing, and its acknowledgement leaves the RTO backed off.
func TestC27Karn(t *testing.T) {
	s := plainly(t)
	s.write(100)
	before := s.Info()
	s.wait(before.RTO)
	s.wait(300 * ms)
	s.ack(201)
	if i := s.Info(); i.SRTT != before.SRTT || i.RTO != 2*before.RTO {
		t.Errorf("SRTT %v, RTO %v, want %v and %v", i.SRTT, i.RTO, before.SRTT, 2*before.RTO)
	}
	s.take()
	s.write(100)
	s.wait(100 * ms)
	s.ack(301)
	if i := s.Info(); i.RTO > before.RTO {
		t.Errorf("a new measurement leaves the RTO at %v", i.RTO)
	}
}

// TestKarnWithTimestamps: TSecr tells which of the two was acknowledged.
func TestKarnWithTimestamps(t *testing.T) {
	s := established(t, full(), 65535, Options{MSS: 1460, HasTimestamps: true, TSVal: 1})
	s.write(100)
	rto := s.Info().RTO
	s.wait(rto)
	g := s.take()
	s.wait(100 * ms)
	s.arrive(Segment{Seq: 301, Ack: 201, Flags: ACK, Window: 65535,
		Options: Options{HasTimestamps: true, TSVal: 2, TSEcr: g[len(g)-1].Options.TSVal}})
	if i := s.Info(); i.RTO > rto || i.SRTT != 100*ms {
		t.Errorf("SRTT %v, RTO %v", i.SRTT, i.RTO)
	}
}

// TestTimestampOfNoTime: an echo within the same millisecond says that the path takes less, and no more.
func TestTimestampOfNoTime(t *testing.T) {
	s := opened(t, full())
	echo := func(flags Flags, seq, ack Seq) {
		g := s.take()
		s.arrive(Segment{Seq: seq, Ack: ack, Flags: flags, Window: 65535,
			Options: Options{MSS: 1460, HasTimestamps: true, TSVal: 1, TSEcr: g[len(g)-1].Options.TSVal}})
	}
	s.wait(time.Second) // it is sent twice, and not measured
	echo(SYN|ACK, 300, 101)
	if i := s.Info(); i.SRTT != ms || i.MinRTT != ms {
		t.Errorf("SRTT %v, the least %v, want 1 ms", i.SRTT, i.MinRTT)
	}
	s.write(100)
	s.wait(ms / 5)
	echo(ACK, 301, 201)
	before := s.Info()
	s.write(100)
	s.wait(before.RTO)
	echo(ACK, 301, 301)
	if i := s.Info(); i.SRTT != before.SRTT || i.MinRTT != ms/5 || i.InFlight != 0 {
		t.Errorf("SRTT %v, the least %v, %d in flight, want %v as it was and 0.2 ms", i.SRTT, i.MinRTT, i.InFlight, before.SRTT)
	}
}

// TestC83RTORestarts: an acknowledgement of something new starts the timer again.
func TestC83RTORestarts(t *testing.T) {
	s := plainly(t)
	s.write(2920)
	s.take()
	s.wait(100 * ms)
	s.ack(1561)
	at, ok := s.Deadline()
	if want := s.now + s.Info().RTO; !ok || at != want {
		t.Errorf("the timer expires at %v, want %v", at, want)
	}
	s.ack(3021)
	if at, ok := s.Deadline(); ok {
		t.Errorf("a timer runs until %v with nothing outstanding", at)
	}
}

// TestC28C86SlowStartAfterRTO: the loss window is one segment, and everything is sent again.
func TestC28C86SlowStartAfterRTO(t *testing.T) {
	s := plainly(t)
	s.write(14600)
	if n := len(s.take()); n != 10 {
		t.Fatalf("an initial window of %d segments, want 10", n)
	}
	s.wait(s.Info().RTO)
	g := s.want("<SEQ=101><ACK=301><DATA=1460><CTL=ACK>")
	if g[0].Cause != CauseRTO || s.Info().Cwnd != 1460 {
		t.Errorf("cause %v, cwnd %d", g[0].Cause, s.Info().Cwnd)
	}
	s.ack(1561)
	s.want("<SEQ=1561><ACK=301><DATA=1460><CTL=ACK>", "<SEQ=3021><ACK=301><DATA=1460><CTL=ACK>")
	s.ack(14701) // the peer had the rest
	s.want()
	s.write(100)
	s.want("<SEQ=14701><ACK=301><DATA=100><CTL=PSH,ACK>")
}

// TestC89C93NewReno: limited transmit, fast retransmit on the third duplicate, and a partial acknowledgement.
func TestC89C90C93NewReno(t *testing.T) {
	c := plain()
	c.Congestion = NewReno
	s := established(t, c, 65535, Options{MSS: 1000})
	s.write(50000)
	if n := len(s.take()); n != 10 {
		t.Fatalf("an initial window of %d segments", n)
	}
	dup := func() { s.ack(101) }
	s.arrive(Segment{Seq: 301, Ack: 101, Flags: ACK, Window: 65000}) // a window update is no duplicate
	s.want()
	s.ack(101)
	s.text(301, 1) // text is no duplicate
	s.take()
	s.snd.dups, s.snd.inflated = 0, 0
	for range dupThresh - 1 {
		dup()
		if g := s.take(); len(g) != 1 || g[0].Cause != CauseData || g[0].TextLen() != 1000 {
			t.Errorf("limited transmit: %v", g)
		}
	}
	s.wait(50 * ms)
	dup()
	g := s.take()
	if len(g) == 0 || g[0].Seq != 101 || g[0].TextLen() != 1000 || g[0].Cause != CauseFast {
		t.Fatalf("the third duplicate: %v", g)
	}
	if at, _ := s.Deadline(); at != s.now+s.Info().RTO {
		t.Errorf("the timer expires at %v, want an RTO from now, %v", at, s.now)
	}
	nxt := s.snd.nxt
	s.ack(3101) // partial: another is missing
	if g := s.take(); len(g) == 0 || g[0].Seq != 3101 || g[0].TextLen() != 1000 || g[0].Cause != CauseFast {
		t.Fatalf("a partial acknowledgement: %v", g)
	}
	s.ack(nxt)
	if s.snd.recovering || s.Info().Cwnd > 6000 {
		t.Errorf("after recovery: %v, cwnd %d", s.snd.recovering, s.Info().Cwnd)
	}
	for _, g := range s.take() {
		if g.Cause != CauseData {
			t.Errorf("after recovery: %v (%v)", g, g.Cause)
		}
	}
}

// TestC33C34KeepAlive: off by default; after silence only; several unanswered probes end the connection.
func TestC33C34KeepAlive(t *testing.T) {
	s := plainly(t)
	s.wait(10 * time.Hour)
	s.want()
	s.SetKeepAlive(s.now, KeepAlive{Idle: 5 * time.Second, Interval: time.Second, Count: 3})
	s.ack(101)
	s.wait(4 * time.Second)
	s.ack(101)
	s.wait(4999 * ms)
	s.want()
	s.wait(ms)
	s.want("<SEQ=100><ACK=301><CTL=ACK>")
	s.wait(time.Second) // the first is lost
	s.want("<SEQ=100><ACK=301><CTL=ACK>")
	s.ack(101)
	s.wait(4999 * ms)
	s.want()
	s.wait(ms)
	s.wait(3 * time.Second)
	probe := "<SEQ=100><ACK=301><CTL=ACK>"
	s.want(probe, probe, probe, "<SEQ=101><ACK=301><CTL=RST,ACK>")
	s.wantEnd(TimedOut)

	s = plainly(t)
	s.SetKeepAlive(s.now, DefaultKeepAlive)
	s.wait(2*time.Hour - 1)
	s.want()
	s.wait(1)
	s.want(probe)
	s.SetKeepAlive(s.now, KeepAlive{})
	s.wait(10 * time.Hour)
	s.want()
}

// TestC35AnswersKeepAlive: with and without an octet.
func TestC35AnswersKeepAlive(t *testing.T) {
	s := plainly(t)
	s.text(301, 5)
	s.read(5)
	s.wait(time.Second)
	s.take()
	for n := range 2 {
		s.wait(time.Second)
		s.text(305, n)
		s.want("<SEQ=101><ACK=306><CTL=ACK>")
	}
	if s.Buffered() != 0 {
		t.Error("the probe's octet is delivered")
	}
}

// TestUnacceptableAnswersAreLimited: two peers that refuse each other's acknowledgements do not go on for ever.
func TestUnacceptableAnswersAreLimited(t *testing.T) {
	s := plainly(t)
	for range 100 {
		s.text(200, 0)
	}
	s.want("<SEQ=101><ACK=301><CTL=ACK>")
	s.now += oowInterval
	s.text(200, 0)
	s.want("<SEQ=101><ACK=301><CTL=ACK>")
	for range 3 {
		s.text(200, 5) // text is a retransmission, and is answered
		s.want("<SEQ=101><ACK=301><CTL=ACK>")
	}
}

// stamped is an acknowledgement with a timestamp and n octets of text.
func stamped(seq Seq, n int, val uint32) Segment {
	return Segment{Seq: seq, Ack: 101, Flags: ACK, Window: 65535, Text: [][]byte{letters(seq, n)},
		Options: Options{HasTimestamps: true, TSVal: val}}
}

// TestC111C112PAWS: RFC 7323 §5.
func TestC111C112PAWS(t *testing.T) {
	s := established(t, full(), 65535, Options{MSS: 1460, HasTimestamps: true, TSVal: 1000})
	for _, old := range []uint32{1, 1<<31 - 1} {
		s.now += time.Second
		s.wantDropped(s.arrive(stamped(301, 5, 1000-old)), DropPAWS)
		s.want("<SEQ=101><ACK=301><CTL=ACK>")
	}
	s.wantDropped(s.text(301, 5), DropNoTimestamp)
	s.want()
	s.wantDropped(s.arrive(stamped(301, 5, 1000)), DropNone)
	s.wait(pawsIdle + time.Second)
	s.wantDropped(s.arrive(stamped(306, 5, 1)), DropNone) // TS.Recent is outdated
	s.wantDropped(s.arrive(stamped(311, 5, 2)), DropNone)
	s.arrive(Segment{Seq: 316, Flags: RST, Options: Options{HasTimestamps: true}}) // a reset is exempt
	s.wantEnd(Reset)
}

// TestC110TSRecent: the three cases of RFC 7323 §4.3.
func TestC109C110TSRecent(t *testing.T) {
	s := established(t, full(), 65535, Options{MSS: 1460, HasTimestamps: true, TSVal: 1})
	echo := func(want uint32) {
		t.Helper()
		g := s.take()
		if len(g) == 0 || !g[0].Options.HasTimestamps || g[0].Options.TSEcr != want {
			t.Fatalf("%v echoes %+v, want TSecr=%d", g, g, want)
		}
	}
	s.arrive(stamped(301, 5, 10)) // (A) a delayed acknowledgement echoes the first
	s.arrive(stamped(306, 5, 20))
	s.wait(time.Second)
	echo(10)
	s.arrive(stamped(316, 5, 30)) // (B) a segment behind a hole changes nothing
	echo(10)
	s.arrive(stamped(311, 5, 40)) // (C) one that fills the hole is echoed
	echo(40)
}

// TestC99SACK: the block that holds what came last stands first.
func TestC99SACK(t *testing.T) {
	s := established(t, full(), 65535, Options{MSS: 1460, SACKPermitted: true, HasTimestamps: true})
	for i, at := range []Seq{401, 601, 801, 1001, 1201} {
		s.arrive(stamped(at, 100, uint32(i)))
		g := s.take()
		o := g[0].Options
		if len(g) != 1 || o.Blocks == 0 || o.SACK[0] != (Block{at, at + 100}) || int(o.Blocks) != min(i+1, 4) {
			t.Errorf("segment at %v is answered by %+v", at, g)
		}
	}
	s.write(5000)
	if g := s.take(); g[0].TextLen()+g[0].Options.Len() != 1460 {
		t.Errorf("text of %d octets beside options of %d", g[0].TextLen(), g[0].Options.Len())
	}
}

// TestC126SetMTU: what is outstanding is sent again at once in smaller packets, without a smaller window.
func TestC126SetMTU(t *testing.T) {
	s := plainly(t)
	s.write(14600)
	s.take()
	cwnd := s.Info().Cwnd
	s.wantDropped(s.Notify(s.now, 101, Notice{Reason: TooBig, MTU: 1280}), DropNone)
	g := s.take()
	if len(g) == 0 || g[0].Seq != 101 || g[0].TextLen() != 1260 || g[0].Cause != CauseMTU {
		t.Fatalf("sent %v", g)
	}
	if i := s.Info(); i.Backoff != 0 || i.Cwnd < cwnd*8/10 {
		t.Errorf("%+v", i)
	}
	s.Notify(s.now, 101, Notice{Reason: TooBig, MTU: 1}) // A forged one does little harm
	if g := s.take(); g[0].TextLen() < 8 {
		t.Errorf("sent %v", g)
	}
	s.wantDropped(s.Notify(s.now, 50000, Notice{Reason: TooBig, MTU: 1280}), DropNotice)
}

// TestC91IdleRestart: after an idle RTO the window is at most the initial one.
func TestC91IdleRestart(t *testing.T) {
	s := plainly(t)
	for range 4 { // four round trips of slow start
		s.write(60000)
		for una := s.snd.una; una != s.snd.nxt; una = s.snd.una {
			s.ack(minSeq(una+1460, s.snd.nxt))
		}
		s.take()
	}
	if s.Info().Cwnd <= 14600 {
		t.Fatalf("cwnd %d did not grow", s.Info().Cwnd)
	}
	s.wait(10 * time.Second)
	s.write(60000)
	if n := s.Info().InFlight; n > 14600 {
		t.Errorf("%d octets leave after idleness, want at most 14600", n)
	}
}

// TestNewRenoAfterRTO: duplicates that retransmissions bring about are no loss (RFC 6582 §3.2 step 4), and what is sent
// after everything was acknowledged may be lost again.
func TestNewRenoAfterRTO(t *testing.T) {
	s := established(t, plain(), 65535, Options{MSS: 1000})
	s.write(10000)
	s.take()
	s.wait(s.Info().RTO)
	s.ack(1101)
	s.take()
	for range 5 {
		s.ack(1101)
	}
	for _, g := range s.take() {
		if g.Cause == CauseFast {
			t.Errorf("a fast retransmit of what the timer sends again: %v", g)
		}
	}
	s.ack(10101)
	s.write(10000)
	for len(s.take()) > 0 {
		s.ack(s.snd.una + 1000)
		s.write(5000)
		if s.Info().Cwnd > 5000 {
			break
		}
	}
	s.take()
	una := s.snd.una
	for range 3 {
		s.ack(una)
	}
	if g := s.take(); len(g) == 0 || g[len(g)-1].Seq != una || g[len(g)-1].Cause != CauseFast {
		t.Errorf("three duplicates after everything was acknowledged: %v", g)
	}
}

// TestFastRetransmitOfFirstAfterRecovery: recover is no bar once everything was acknowledged.
func TestFastRetransmitOfFirstAfterRecovery(t *testing.T) {
	s := established(t, plain(), 65535, Options{MSS: 1000})
	for range 2 {
		s.write(6000)
		s.take()
		una := s.snd.una
		for range 3 {
			s.ack(una)
		}
		again := 0
		for _, g := range s.take() {
			if g.Cause == CauseFast && g.Seq == una {
				again++
			}
		}
		if again != 1 {
			t.Fatalf("three duplicates at %v: sent again %d times", una, again)
		}
		s.ack(s.snd.nxt)
	}
}
