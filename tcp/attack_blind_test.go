package tcp

import (
	"testing"
	"time"
)

// These are attacks by somebody who does not see the connection, and by peers who hold on to it.

// TestA5A6A7BlindSegments: a sweep of resets, SYNs and text through the window of a connection by somebody who guesses
// ends it only by a reset at RCV.NXT, delivers nothing, and is answered by ten challenge ACKs a second at most.
func TestA5A6A7BlindSegments(t *testing.T) {
	for _, x := range []struct {
		name string
		make func(s *script, i Seq) Segment
	}{
		{"A5 resets", func(s *script, i Seq) Segment { return Segment{Seq: s.rcv.nxt + 1 + i*7, Flags: RST} }},
		{"A5 resets that acknowledge", func(s *script, i Seq) Segment {
			return Segment{Seq: s.rcv.nxt + 1 + i*7, Ack: s.snd.nxt, Flags: RST | ACK}
		}},
		{"A6 SYNs", func(s *script, i Seq) Segment { return Segment{Seq: s.rcv.nxt + i*7, Flags: SYN, Window: 65535} }},
		{"A6 SYN-ACKs", func(s *script, i Seq) Segment {
			return Segment{Seq: s.rcv.nxt + i*7, Ack: s.snd.nxt, Flags: SYN | ACK, Window: 65535}
		}},
		{"A7 text with an acknowledgement of the future", func(s *script, i Seq) Segment {
			return Segment{Seq: s.rcv.nxt + i%60000, Ack: s.snd.nxt + 1 + i*200000, Flags: ACK, Window: 65535, Text: [][]byte{{'x'}}}
		}},
		{"A7 text with an old acknowledgement", func(s *script, i Seq) Segment {
			return Segment{Seq: s.rcv.nxt + i%60000, Ack: s.snd.una - 65536 - i*20000, Flags: ACK, Window: 65535, Text: [][]byte{{'x'}}}
		}},
		{"A7 text with no acknowledgement", func(s *script, i Seq) Segment {
			return Segment{Seq: s.rcv.nxt + i%60000, Flags: PSH, Text: [][]byte{{'x'}}}
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := plainly(t)
			s.write(1000)
			s.take()
			before := s.Info()
			for i := range Seq(5000) { // within a second
				s.now += 100 * time.Microsecond
				g := x.make(s, i)
				if ev := s.arrive(g); ev.Drop() == DropNone {
					t.Fatalf("%v is let in", g)
				}
			}
			if g := s.take(); len(g) > challengeLimit {
				t.Errorf("%d answers in a second, want at most %d", len(g), challengeLimit)
			}
			after := s.Info()
			if after.State != Established || after.RcvNxt != before.RcvNxt || after.SndUna != before.SndUna || after.OutOfOrder != 0 ||
				after.Unread != 0 || after.Cwnd != before.Cwnd {
				t.Errorf("it was\n%+v\nand is\n%+v", before, after)
			}
		})
	}
}

// TestA8ChallengesAreCountedApart: CVE-2016-5696: what somebody's own connection is answered tells nothing of another's.
func TestA8ChallengesAreCountedApart(t *testing.T) {
	mine, victim := plainly(t), plainly(t)
	for range 1000 {
		victim.arrive(Segment{Seq: 302, Flags: RST})
		mine.arrive(Segment{Seq: 302, Flags: RST})
	}
	if a, b := len(mine.take()), len(victim.take()); a != challengeLimit || b != challengeLimit {
		t.Errorf("%d and %d challenge ACKs, want %d each", a, b, challengeLimit)
	}
}

// TestA9ZeroWindowHolder: CVE-2008-4609: a peer that closes its window for ever is probed at most each two minutes, and
// keeps the connection only while it answers. One that opens it by an octet now and then is sent no flood of octets.
func TestA9ZeroWindowHolder(t *testing.T) {
	s := plainly(t)
	s.write(1 << 16)
	s.take()
	s.arrive(Segment{Seq: 301, Ack: s.snd.nxt, Flags: ACK, Window: 0})
	s.write(1000)
	probes := 0
	for end := s.now + 24*time.Hour; s.now < end; {
		s.wait(time.Minute)
		for range s.take() {
			probes++
			s.arrive(Segment{Seq: 301, Ack: s.snd.una, Flags: ACK, Window: 0})
		}
	}
	s.wantState(Established)
	if most := 24*60/2 + 40; probes > most || probes < 24*60/3 {
		t.Errorf("%d probes in a day, want one each two minutes", probes)
	}
	s.wait(time.Hour) // now it says nothing any more
	s.wantEnd(TimedOut)

	// nobody waits for what the user has let go of
	s = plainly(t)
	s.write(1 << 16)
	s.take()
	s.arrive(Segment{Seq: 301, Ack: s.snd.nxt, Flags: ACK, Window: 0})
	s.write(1000)
	s.Release(s.now)
	for i := 0; s.State() != Closed; i++ {
		s.wait(time.Minute)
		for range s.take() {
			s.arrive(Segment{Seq: 301, Ack: s.snd.una, Flags: ACK, Window: 0})
		}
		if i > 20 {
			t.Fatal("let go of, and still there after 20 minutes")
		}
	}
	s.wantEnd(TimedOut)

	s = plainly(t)
	s.write(1 << 16)
	s.arrive(Segment{Seq: 301, Ack: s.snd.nxt, Flags: ACK, Window: 0})
	s.write(100000)
	s.take()
	sent := 0
	for i := range 10000 { // the window opens by an octet and closes, a thousand times a second
		s.now += ms
		s.arrive(Segment{Seq: 301, Ack: s.snd.nxt, Flags: ACK, Window: uint16(i % 2)})
		sent += len(s.take())
	}
	if sent > 100 {
		t.Errorf("%d segments in ten seconds, want a few: RFC 9293 §3.8.6.2.1", sent)
	}
}

// TestA9AbortFreesAll: RFC 6429 §4: that a peer keeps its window closed for ever need not be borne: an abort frees all.
func TestA9AbortFreesAll(t *testing.T) {
	m := &counted{}
	c := plain()
	c.Memory = m
	s := established(t, c, 65535, Options{MSS: 1460})
	s.write(1 << 16)
	s.arrive(Segment{Seq: 301, Ack: 101, Flags: ACK, Window: 0})
	s.text(401, 1000)
	s.Abort()
	s.take()
	if m.octets != 0 {
		t.Errorf("%d octets stay borrowed", m.octets)
	}
}

// TestA11FinWaitHolders: a peer that acknowledges our FIN and never closes is given up after a minute, and one that never
// acknowledges it as any text: nobody waits for it, and nothing of it stays.
func TestA11FinWaitHolders(t *testing.T) {
	s := in(t, FinWait2)
	s.Release(s.now)
	s.wait(finTimeout)
	if s.State() != Closed {
		t.Errorf("FIN-WAIT-2: in %v after %v", s.State(), finTimeout)
	}
	m := &counted{}
	c := plain()
	c.Memory = m
	s = established(t, c, 65535, Options{MSS: 1460})
	s.write(5000)
	s.Close(s.now)
	s.Release(s.now)
	s.wait(20 * time.Minute)
	s.wantEnd(TimedOut)
	s.take()
	if m.octets != 0 {
		t.Errorf("FIN-WAIT-1: %d octets stay borrowed", m.octets)
	}
	s = in(t, LastAck)
	s.wait(20 * time.Minute)
	s.wantEnd(TimedOut)
}

// TestA15UrgentPointer: CVE-2019-12255 and its kin: urgent pointers of any value, with text and without, with SYN and FIN,
// neither move nor lose an octet.
func TestA15UrgentPointer(t *testing.T) {
	for _, p := range []uint16{0, 1, 2, 3, 4, 1000, 32767, 32768, 65534, 65535} {
		s := opened(t, plain())
		s.arrive(Segment{Seq: 300, Ack: 101, Flags: SYN | ACK | URG, Urgent: p, Window: 65535, Options: Options{MSS: 1460}})
		s.wantState(Established)
		at := Seq(301)
		for _, n := range []int{3, 0, 1, 1460} {
			s.arrive(Segment{Seq: at, Ack: 101, Flags: ACK | URG, Urgent: p, Window: 65535, Text: [][]byte{letters(at, n)}})
			at += Seq(n)
		}
		s.arrive(Segment{Seq: at + 10, Ack: 101, Flags: ACK | URG, Urgent: p, Window: 65535, Text: [][]byte{letters(at+10, 5)}})
		s.arrive(Segment{Seq: at, Ack: 101, Flags: ACK | URG, Urgent: p, Window: 65535, Text: [][]byte{letters(at, 10)}})
		s.arrive(Segment{Seq: at + 15, Ack: 101, Flags: ACK | URG | FIN, Urgent: p, Window: 65535})
		if got, want := s.read(5000), string(letters(301, 1464+15)); got != want || !s.EOF() {
			t.Errorf("urgent pointer %d: read %d octets, want %d, and the end: %v", p, len(got), len(want), s.EOF())
		}
	}
}

// TestA27ProbeFlood: keep-alives and window probes at line rate: those without text are answered twice a second, those
// with an octet once each, as Linux does, for such an octet may be text that is sent again; none of them starts a timer.
func TestA27ProbeFlood(t *testing.T) {
	s := plainly(t)
	for range 10000 {
		s.now += 100 * time.Microsecond
		s.arrive(Segment{Seq: 300, Ack: 101, Flags: ACK, Window: 65535})
	}
	if n := len(s.take()); n > 3 {
		t.Errorf("%d answers to keep-alives in a second, want two a second", n)
	}
	for range 10000 {
		s.now += 100 * time.Microsecond
		s.arrive(Segment{Seq: 300, Ack: 101, Flags: ACK, Window: 65535, Text: [][]byte{{'x'}}})
	}
	if n := len(s.take()); n > 10000 {
		t.Errorf("%d answers to 10,000 probes", n)
	}
	if at, ok := s.Deadline(); ok || s.Buffered() != 0 {
		t.Errorf("a timer runs until %v, %d octets came", at, s.Buffered())
	}
}
