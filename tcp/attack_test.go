package tcp

import (
	"testing"
	"time"
)

// These are attacks by a peer, or by somebody who writes in its name. A number such as A16 is that of a row in the
// project's list of them.

// small is the MSS of those who would have many packets outstanding.
const small = 200

// hostile is a connection that has sent n packets of small octets, each burst of them in its own microsecond, to a peer that
// is up to no good: it is told of a window that holds them all, and congestion control of one as well.
func hostile(tb testing.TB, n, burst int) (*TCB, *Segment, time.Duration) {
	tb.Helper()
	c := &Config{MTU: 1480, MaxText: 65000, NoTimestamps: true, Congestion: NewReno, Memory: new(chunks)}
	o := Options{MSS: small, SACKPermitted: true, HasScale: true, WindowScale: 14}
	t := Open(0, 100, c)
	var g Segment
	t.Next(0, &g)
	t.Arrive(100*ms, &Segment{Seq: 300, Ack: 101, Flags: SYN | ACK, Window: 65535, Options: o})
	t.Arrive(100*ms, &Segment{Seq: 301, Ack: 101, Flags: ACK, Window: 65535})
	now := 100 * ms
	t.congestion(now).(*reno).cwnd = 1 << 30
	t.SetBuffers(now, 0, n*small+1)
	text := make([]byte, burst*small)
	for at := 0; at < n; at += burst {
		now += time.Microsecond
		t.Write(now, text[:min(burst, n-at)*small])
		for t.Next(now, &g) {
		}
	}
	if got := t.snd.nxt.From(t.snd.una); got != small*n {
		tb.Fatalf("%d octets are outstanding, want %d", got, small*n)
	}
	return t, &Segment{Seq: 301, Ack: 101, Flags: ACK, Window: 65535}, now + 100*ms
}

// packet is the block of the i-th packet that hostile sent.
func packet(i int) Block { return Block{101 + Seq(i)*small, 101 + Seq(i+1)*small} }

// TestA16OptimisticACK: RFC 5961 §5.2: an acknowledgement of what was not sent is dropped, however many come; one of what
// was sent and cannot have arrived yet opens the congestion window by no more than it would had it arrived.
func TestA16OptimisticACK(t *testing.T) {
	for _, cc := range []func(int) Congestion{NewReno, NewCubic, NewBBR} {
		s := established(t, Config{MTU: 1480, Congestion: cc}, 65535, Options{MSS: 1460, SACKPermitted: true})
		s.write(14600)
		s.take()
		before, name := s.Info(), s.Info().Congestion
		for i := range Seq(100000) {
			ev := s.ack(s.snd.nxt + 1 + i*1000%(1<<30))
			s.wantDropped(ev, DropFutureACK)
		}
		if g := s.take(); len(g) > challengeLimit {
			t.Errorf("%s: %d answers to acknowledgements of the future, want at most %d", name, len(g), challengeLimit)
		}
		if got := s.Info(); got.SndUna != before.SndUna || got.Cwnd != before.Cwnd || got.InFlight != before.InFlight {
			t.Errorf("%s: they changed %+v to %+v", name, before, got)
		}
		for range 2000 { // at once, at what the sender believes is no round-trip time at all
			s.write(65535)
			for _, g := range s.take() {
				s.ack(g.End())
				if i := s.Info(); i.InFlight > 65535 {
					t.Fatalf("%s: %d octets in flight, the peer's window is 65535", name, i.InFlight)
				}
			}
		}
		if i := s.Info(); i.Cwnd > 4*65535 {
			t.Errorf("%s: the congestion window is %d where 65535 octets could ever be in flight", name, i.Cwnd)
		}
	}
}

// TestA17ACKDivision: RFC 3465 §2.1: what is acknowledged counts by octets; an acknowledgement in a thousand pieces opens
// the window no further than it does whole.
func TestA17ACKDivision(t *testing.T) {
	for _, cc := range []func(int) Congestion{NewReno, NewCubic, NewBBR} {
		for _, o := range []Options{{MSS: 1460}, {MSS: 1460, SACKPermitted: true}} {
			grown := func(piece Seq) int {
				s := established(t, Config{MTU: 1480, NoTimestamps: true, Congestion: cc}, 65535, o)
				s.write(14600)
				s.take()
				cwnd := s.Info().Cwnd
				s.now += 100 * ms
				for at := piece; at <= 14600; at += piece {
					s.ack(101 + at)
				}
				return s.Info().Cwnd - cwnd
			}
			if whole, pieces := grown(1460), grown(1); pieces > whole {
				t.Errorf("SACK %v: 10 acknowledgements open the window by %d octets, and 14600 of the same by %d", o.SACKPermitted,
					whole, pieces)
			}
		}
	}
}

// TestA18DuplicateACKSpoofing: RFC 6582 §3.2 inflates the window with each duplicate: by no more than what was in flight,
// which is all that duplicates can honestly tell of.
func TestA18DuplicateACKSpoofing(t *testing.T) {
	c := plain()
	c.Congestion = NewReno
	s := established(t, c, 65535, Options{MSS: 1460})
	s.write(1 << 20)
	s.take()
	flight := s.Info().InFlight
	for range 100000 {
		s.ack(101)
		if got := s.Info().InFlight; got > 2*flight {
			t.Fatalf("duplicates made %d octets of %d outstanding", got, flight)
		}
	}
	again := 0
	for _, g := range s.take() {
		if g.Cause == CauseFast {
			again++
		}
	}
	if again != 1 {
		t.Errorf("%d segments were sent again, want 1", again)
	}
	s.ack(s.snd.nxt)
	if i := s.Info(); i.Cwnd > flight/2+1460 {
		t.Errorf("afterwards the window is %d, and %d octets were in flight", i.Cwnd, flight)
	}
}

// TestA19WalkIsBounded: with every other of 8,000 packets reported, no acknowledgement looks at more than walkLimit
// records, and yet all that is lost is found, be it without a further acknowledgement.
func TestA19WalkIsBounded(t *testing.T) {
	b := &scoreboard{}
	for i := range 8000 {
		b.push(packet(i).Left, packet(i).Right, time.Duration(i+1)*time.Microsecond)
	}
	d := delivery{now: 100 * ms, mss: small}
	for i := 1; i < 8000; i += 2 {
		b.report(packet(i), &d)
	}
	calls, now := 0, d.now
	for again := time.Duration(1); again > 0; calls++ {
		var lost int
		lost, again = b.detect(now, 0)
		if lost > walkLimit*small {
			t.Fatalf("one look found %d records lost, want at most %d", lost/small, walkLimit)
		}
		now += again
		if calls > 100 {
			t.Fatal("the look does not end")
		}
	}
	if b.lost != 4000*small {
		t.Errorf("%d packets are lost, want 4000", b.lost/small)
	}
	if calls > 8000/walkLimit+1 {
		t.Errorf("it took %d looks", calls)
	}
	// and a deadline that was seen in the first part of a look outlives the others
	b = &scoreboard{}
	for i := range 2000 {
		b.push(packet(i).Left, packet(i).Right, time.Duration(i+1)*time.Microsecond)
	}
	d = delivery{now: 10 * ms, mss: small}
	for i := 1; i < 2000; i += 2 {
		b.report(packet(i), &d)
	}
	for p := b.find(packet(1000).Left); b.at(p) != nil; p = b.next(p) {
		b.lose(p) // so that nothing waits in the second part
	}
	var again time.Duration
	for now = d.now; ; now += again {
		if _, again = b.detect(now, 5*ms); !b.rack.parted {
			break
		}
	}
	if b.lost != 500*small || again <= 0 || again > 5*ms {
		t.Fatalf("within the reordering window %d packets are lost, and the next look is after %v", b.lost/small, again)
	}
	for now += again; again > 0; now += again {
		_, again = b.detect(now, 5*ms)
	}
	if b.lost != 1000*small {
		t.Errorf("after the reordering window %d packets are lost, want 1000", b.lost/small)
	}
}

// TestA19RenegeAtLength: a peer that reports and takes back, again and again, makes us look at renegeLimit records each
// time, and what it has thrown away is sent again all the same.
func TestA19RenegeAtLength(t *testing.T) {
	b := &scoreboard{}
	for i := range 8000 {
		b.push(packet(i).Left, packet(i).Right, time.Duration(i+1)*time.Microsecond)
	}
	d := delivery{now: 100 * ms, mss: small}
	for i := 2; i < 8000; i += 2 {
		b.report(packet(i), &d)
	}
	b.acknowledge(packet(2).Left, &d)
	if !b.reneged() {
		t.Fatal("SND.UNA stands at what SACK had reported, and it is not noticed")
	}
	before := b.sacked
	b.renege()
	if b.reneged() || before-b.sacked != renegeLimit/2*small || b.lost != renegeLimit*small {
		t.Errorf("%d packets are forgotten and %d lost of the first %d", (before-b.sacked)/small, b.lost/small, renegeLimit)
	}
}

// TestA19TinyPackets: CVE-2019-11477: super-segments for a peer with an MSS of 48 hold thousands of packets, and its
// holes and their repair lose count of none.
func TestA19TinyPackets(t *testing.T) {
	s := established(t, Config{MTU: 1480, MaxText: 65515}, 65535, Options{MSS: 48, SACKPermitted: true, HasTimestamps: true,
		HasScale: true, WindowScale: 8})
	s.SetBuffers(s.now, 0, 1<<22)
	s.congestion(s.now).(*cubic).cwnd = 1 << 22
	s.write(1 << 20)
	sent := s.take()
	most := 0
	for _, g := range sent {
		most = max(most, g.TextLen())
		if g.Size != 36 && g.TextLen() > 36 || g.TextLen() > 65515 {
			t.Fatalf("%v in packets of %d, want 36: 48 less the timestamps", g, g.Size)
		}
	}
	if most < 1000*36 {
		t.Fatalf("the longest super-segment has %d octets", most)
	}
	s.now += 100 * ms
	end := s.snd.nxt - 101
	for at := Seq(36); at+36 < end; at += 4 * 36 * 2 {
		g := Segment{Seq: 301, Ack: 101, Flags: ACK, Window: 65535, Options: Options{HasTimestamps: true, TSVal: 1, TSEcr: 100}}
		for k := range Seq(3) {
			g.Options.SACK[k] = Block{101 + at + k*72, 101 + at + k*72 + 36}
			g.Options.Blocks++
		}
		s.now += time.Microsecond
		s.Arrive(s.now, &g)
		var out Segment
		for s.Next(s.now, &out) {
			if out.TextLen() == 0 || out.TextLen() > 65515 || out.Seq.Less(101) || s.snd.nxt.Less(out.End()) {
				t.Fatalf("sent %v", out)
			}
		}
	}
	b := s.board
	sum := 0
	for _, r := range b.live() {
		sum += r.octets()
	}
	if sum != s.snd.nxt.From(s.snd.una) || len(b.live()) > 2*maxRecords+2 {
		t.Errorf("%d records of %d octets, %d are outstanding", len(b.live()), sum, s.snd.nxt.From(s.snd.una))
	}
}

// TestA20LowMSS: what a SYN or a router says of small packets does not make us send smaller ones than 48 octets of options
// and text.
func TestA20LowMSS(t *testing.T) {
	for _, mss := range []uint16{1, 8, 12, 47, 48} {
		for _, stamps := range []bool{false, true} {
			s := established(t, Config{MTU: 1480, MaxText: 65515}, 65535, Options{MSS: mss, SACKPermitted: true, HasTimestamps: stamps})
			s.SetMTU(s.now, 68, 65515)
			s.write(1 << 16)
			for _, g := range s.take() {
				if size := max(int(g.Size), g.TextLen()); size+g.Options.Len() < minMSS {
					t.Fatalf("MSS %d, timestamps %v: %v in packets of %d octets, want at least %d less options", mss, stamps, g, g.Size, minMSS)
				}
			}
			if got := s.Info().MSS; got < minMSS-12 {
				t.Errorf("MSS %d: packets of %d octets", mss, got)
			}
		}
	}
}
