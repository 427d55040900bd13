package tcp

import (
	"testing"
	"time"
)

func testWait(ts bool) *TimeWaitRecord {
	return &TimeWaitRecord{expires: 60 * time.Second, wait: 60_000, sndNxt: 0, rcvNxt: 301,
		window: 100, scale: 2, tsRecent: 77, tsOffset: 5000, hasTS: ts}
}

// TestTimeWait: RFC 9293 §3.10.7.4 in TIME-WAIT, and RFC 6191.
func TestTimeWait(t *testing.T) {
	text := [][]byte{[]byte("hello")}
	ts := func(v uint32) Options { return Options{HasTimestamps: true, TSVal: v} }
	for _, tc := range []struct {
		name  string
		noTS  bool // in the record
		s     Segment
		want  string
		then  WaitVerdict
		again bool // 2 MSL begins anew
	}{
		{name: "C23 the FIN again", s: Segment{Seq: 300, Flags: FIN | ACK, Options: ts(80)}, want: wantAck, again: true},
		{name: "C23 the FIN again, with text", s: Segment{Seq: 295, Flags: FIN | ACK, Options: ts(80), Text: text}, want: wantAck, again: true},
		{name: "another FIN", s: Segment{Seq: 301, Flags: FIN | ACK, Options: ts(80)}, want: wantAck},
		{name: "FIN without ACK", s: Segment{Seq: 300, Flags: FIN, Options: ts(80)}},
		{name: "FIN that acknowledges too much", s: Segment{Seq: 300, Ack: 1, Flags: FIN | ACK, Options: ts(80)}, want: wantAck},
		{name: "C25 old text", s: Segment{Seq: 290, Flags: ACK, Options: ts(77), Text: text}, want: wantAck},
		{name: "C25 new text", s: Segment{Seq: 301, Flags: ACK, Options: ts(77), Text: text}, want: wantAck},
		{name: "C25 old ACK", s: Segment{Seq: 290, Flags: ACK, Options: ts(77)}, want: wantAck},
		{name: "ACK", s: Segment{Seq: 301, Flags: ACK, Options: ts(77)}},
		{name: "ACK of something not sent", s: Segment{Seq: 301, Ack: 1, Flags: ACK, Options: ts(77)}, want: wantAck},
		{name: "no flags", s: Segment{Seq: 301, Options: ts(77)}},
		{name: "no timestamp", s: Segment{Seq: 300, Flags: FIN | ACK}},
		{name: "old timestamp", s: Segment{Seq: 300, Flags: FIN | ACK, Options: ts(76)}, want: wantAck},
		{name: "C25 RST at RCV.NXT", s: Segment{Seq: 301, Flags: RST}, then: Gone},
		{name: "C25 RST in the window", s: Segment{Seq: 302, Flags: RST}, want: wantAck},
		{name: "C25 RST at the window's end", s: Segment{Seq: 700, Flags: RST}, want: wantAck},
		{name: "C25 RST behind the window", s: Segment{Seq: 701, Flags: RST}},
		{name: "C25 RST before the window", s: Segment{Seq: 300, Flags: RST | ACK}},

		{name: "C24 SYN, newer timestamp", s: Segment{Seq: 5, Flags: SYN, Options: ts(78)}, then: Reopen},
		{name: "C24 SYN, equal timestamp, larger", s: Segment{Seq: 301, Flags: SYN, Options: ts(77)}, then: Reopen},
		{name: "C24 SYN, equal timestamp, smaller", s: Segment{Seq: 300, Flags: SYN, Options: ts(77)}, want: wantAck},
		{name: "C24 SYN, older timestamp, larger", s: Segment{Seq: 301, Flags: SYN, Options: ts(76)}, want: wantAck},
		{name: "C24 SYN, no timestamp, larger", s: Segment{Seq: 301, Flags: SYN}, then: Reopen},
		{name: "C24 SYN, no timestamp, smaller", s: Segment{Seq: 300, Flags: SYN}, want: wantAck},
		{name: "C24 SYN, none before, timestamp", noTS: true, s: Segment{Seq: 5, Flags: SYN, Options: ts(1)}, then: Reopen},
		{name: "C24 SYN, none before, larger", noTS: true, s: Segment{Seq: 301, Flags: SYN}, then: Reopen},
		{name: "C24 SYN, none before, smaller", noTS: true, s: Segment{Seq: 300, Flags: SYN}, want: wantAck},
		{name: "SYN, ACK", s: Segment{Seq: 400, Flags: SYN | ACK, Options: ts(78)}, want: wantAck},
		{name: "SYN, FIN", s: Segment{Seq: 400, Flags: SYN | FIN, Options: ts(78)}, want: wantAck},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := testWait(!tc.noTS)
			reply, v := w.Arrive(10*time.Second, &tc.s)
			wantAnswer(t, reply, tc.want)
			until := 60 * time.Second
			if tc.again {
				until = 70 * time.Second
			}
			if v != tc.then || w.Deadline() != until {
				t.Errorf("verdict %v until %v, want %v until %v", v, w.Deadline(), tc.then, until)
			}
			o := reply.Options
			if reply.Flags != 0 && (o.HasTimestamps == tc.noTS || o.HasTimestamps && (o.TSVal != 15000 || o.TSEcr != w.tsRecent)) {
				t.Errorf("options %+v", o)
			}
		})
	}
}

func TestC23EachFINIsAcknowledged(t *testing.T) {
	w := testWait(false)
	for ms := range time.Duration(50) {
		now := ms * 10 * time.Millisecond
		reply, _ := w.Arrive(now, &Segment{Seq: 300, Flags: FIN | ACK})
		wantAnswer(t, reply, wantAck)
		if w.Deadline() != now+time.Minute {
			t.Fatalf("TIME-WAIT until %v, want %v", w.Deadline(), now+time.Minute)
		}
	}
}

// TestC25ChallengesAreLimited: RFC 5961 §7.
func TestC25ChallengesAreLimited(t *testing.T) {
	w, answers := testWait(false), 0
	for ms := range time.Duration(2000) {
		if reply, _ := w.Arrive(ms*time.Millisecond, &Segment{Seq: 302, Flags: RST}); reply.Flags != 0 {
			answers++
		}
	}
	if answers != 4 {
		t.Errorf("%d challenges in 2 s, want 4", answers)
	}
}

// TestTimeWaitNewestTimestamp: RFC 6191 compares with the last timestamp seen, TIME-WAIT included.
func TestTimeWaitNewestTimestamp(t *testing.T) {
	w := testWait(true)
	w.Arrive(0, &Segment{Seq: 300, Flags: FIN | ACK, Options: Options{HasTimestamps: true, TSVal: 90}})
	if _, v := w.Arrive(0, &Segment{Seq: 5, Flags: SYN, Options: Options{HasTimestamps: true, TSVal: 90}}); v != Stay {
		t.Errorf("a SYN as old as the FIN reopens: verdict %v", v)
	}
	if _, v := w.Arrive(0, &Segment{Seq: 5, Flags: SYN, Options: Options{HasTimestamps: true, TSVal: 91}}); v != Reopen {
		t.Errorf("a newer SYN does not reopen: verdict %v", v)
	}
	if w.MinISS().LessEq(w.sndNxt) {
		t.Errorf("MinISS %v is not beyond SND.NXT %v", w.MinISS(), w.sndNxt)
	}
}

// FuzzListener throws segments, verdicts and time at a Listener and at a TimeWaitRecord: nothing panics, no reset is
// answered, and the records stay within the backlog and agree with the queues.
func FuzzListener(f *testing.F) {
	f.Add([]byte{0, 2, 0, 0, 1, 0, 0, 16, 0, 0, 1, 0})
	f.Add([]byte{1, 2, 0, 0, 9, 0, 1, 4, 1, 0, 9, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, w := testListener(2), testWait(true)
		l.c.Hold = len(b)%2 == 1
		var now time.Duration
		for ; len(b) >= 6; b = b[6:] {
			now += time.Duration(b[5]) * 50 * time.Millisecond
			flow := testFlow(int(b[0] % 4))
			s := &Segment{Flags: Flags(b[1]), Seq: peerISS + Seq(int8(b[2])), Ack: ownISS + Seq(int8(b[3])), Window: 9}
			if b[4]&1 != 0 {
				s.Options = Options{HasTimestamps: true, TSVal: uint32(b[4])}
			}
			if b[4]&2 != 0 {
				s.Text = [][]byte{b[:b[4]%6]}
			}
			reply, c, _ := l.Arrive(now, flow, s, listenConfig)
			again, _ := w.Arrive(now, s)
			if s.Flags.Has(RST) && (reply.Flags.Has(RST) || again.Flags.Has(RST)) || c != nil && !s.Flags.Has(ACK) {
				t.Fatalf("%v answered by %v and %v", s, reply, again)
			}
			l.Decide(now, flow, Verdict(b[4]%3))
			l.Expire(now)
			for _, ok := l.Next(now, s); ok; _, ok = l.Next(now, s) {
			}
			n := 0
			for range l.All() {
				n++
			}
			at, ok := l.Deadline()
			if l.Len() > 2 || n != l.Len() || ok != (n > 0) || ok && at <= now {
				t.Fatalf("%d half-open, %d in queues, deadline %v %v at %v", l.Len(), n, at, ok, now)
			}
		}
	})
}
