package tcp

import (
	"strings"
	"testing"
	"time"
	"unsafe"
)

// The peer's side of a handshake that a Listener sees: it begins at peerISS, the Listener at ownISS.
const (
	peerISS Seq = 300
	ownISS  Seq = 0xffff_ffff // so that ISS+1 wraps
)

var listenConfig = &Config{MTU: 1480}

func testListener(backlog int) *Listener {
	return NewListener(ListenConfig{
		Backlog: backlog,
		Secret:  [32]byte{1, 2, 3},
		ISS:     func(time.Duration, *Flow) (Seq, uint32) { return ownISS, 5000 },
	})
}

func testFlow(n int) *Flow {
	f := &Flow{LocalPort: 80, RemotePort: uint16(n)}
	f.Local = [16]byte{10: 0xff, 0xff, 198, 51, 100, 1}
	f.Remote = [16]byte{10: 0xff, 0xff, 203, byte(n >> 24), byte(n >> 16), 7}
	return f
}

func peerSYN() *Segment {
	return &Segment{Seq: peerISS, Flags: SYN, Window: 65000, Options: Options{
		MSS: 1460, HasScale: true, WindowScale: 7, SACKPermitted: true, HasTimestamps: true, TSVal: 77}}
}

func plainSYN() *Segment {
	return &Segment{Seq: peerISS, Flags: SYN, Window: 65000, Options: Options{MSS: 1460}}
}

// peerACK completes the handshake that synAck answered.
func peerACK(synAck Segment) *Segment {
	a := &Segment{Seq: synAck.Ack, Ack: synAck.Seq + 1, Flags: ACK, Window: 500}
	if o := synAck.Options; o.HasTimestamps {
		a.Options = Options{HasTimestamps: true, TSVal: 78, TSEcr: o.TSVal}
	}
	return a
}

// answerOf is the reply in RFC notation, or "" for none.
func answerOf(s Segment) string {
	if s.Flags == 0 {
		return ""
	}
	return s.String()
}

func wantAnswer(t *testing.T, got Segment, want string) {
	t.Helper()
	if answerOf(got) != want {
		t.Errorf("answer %q, want %q", answerOf(got), want)
	}
}

func wantDrop(t *testing.T, e Event, want Drop) {
	t.Helper()
	if e.Drop() != want {
		t.Errorf("dropped for %q, want %q", e.Drop(), want)
	}
}

const (
	wantSynAck = "<SEQ=4294967295><ACK=301><CTL=SYN,ACK>"
	wantAck    = "<SEQ=0><ACK=301><CTL=ACK>"
	wantReset  = "<SEQ=0><CTL=RST>" // for SEG.ACK = ISS+1
)

// TestC64A14ListenFlags: RFC 9293 §3.10.7.2, for every combination of flags (A14).
func TestC64A14ListenFlags(t *testing.T) {
	for g := range Flags(64) {
		t.Run(g.String(), func(t *testing.T) {
			want, drop, half := "", DropFlags, 0
			switch {
			case g.Has(RST):
				drop = DropListenRST
			case g.Has(ACK):
				want, drop = "<SEQ=901><CTL=RST>", DropListenACK
			case g.Has(SYN) && !g.Has(FIN):
				want, drop, half = wantSynAck, DropNone, 1
			}
			for _, ecn := range []Flags{0, ECE | CWR} { // C115: an ECN-setup SYN is answered by an ECN-setup SYN-ACK
				l := testListener(8)
				reply, c, e := l.Arrive(0, testFlow(1), &Segment{Seq: peerISS, Ack: 901, Flags: g | ecn}, listenConfig)
				wantAnswer(t, reply, strings.Replace(want, "SYN,ACK", map[Flags]string{0: "SYN,ACK", ECE | CWR: "SYN,ECE,ACK"}[ecn], 1))
				wantDrop(t, e, drop)
				if c != nil || l.Len() != half {
					t.Errorf("connection %v and %d half-open ones, want none and %d", c, l.Len(), half)
				}
			}
		})
	}
}

func TestC64TextOnSYNIsNotAcknowledged(t *testing.T) {
	l, s := testListener(8), peerSYN()
	s.Text = [][]byte{[]byte("early")}
	reply, _, _ := l.Arrive(0, testFlow(1), s, listenConfig)
	wantAnswer(t, reply, wantSynAck)
}

func TestC11NoMSSInSYN(t *testing.T) {
	l := testListener(8)
	reply, _, _ := l.Arrive(0, testFlow(1), &Segment{Seq: peerISS, Flags: SYN, Window: 1000}, listenConfig)
	if reply.Options.MSS == 0 || reply.Options.HasScale || reply.Options.SACKPermitted || reply.Options.HasTimestamps {
		t.Errorf("the SYN-ACK carries %+v, want an MSS and nothing that was not offered", reply.Options)
	}
	_, c, _ := l.Arrive(0, testFlow(1), peerACK(reply), listenConfig)
	if c == nil || c.Info().MSS != 536 {
		t.Errorf("connection %v, want one with the default MSS of 536", c)
	}
}

// synReceived makes a Listener with one connection in SYN-RECEIVED.
func synReceived(t *testing.T, backlog int, syn *Segment) (*Listener, Segment) {
	t.Helper()
	l := testListener(backlog)
	reply, _, e := l.Arrive(time.Second, testFlow(1), syn, listenConfig)
	if e != 0 || answerOf(reply) != wantSynAck || l.Len() != 1 {
		t.Fatalf("SYN: answer %q, event %v, %d half-open", answerOf(reply), e, l.Len())
	}
	return l, reply
}

// TestSynReceived: RFC 9293 §3.10.7.4 as it applies to SYN-RECEIVED.
func TestSynReceived(t *testing.T) {
	text := [][]byte{[]byte("hello")}
	ts := func(v uint32) Options { return Options{HasTimestamps: true, TSVal: v} }
	const open, gone, stays = "open", "gone", "stays"
	for _, tc := range []struct {
		name  string
		s     Segment
		want  string
		drop  Drop
		after string
	}{
		{"C11 ACK of ISS+1", Segment{Seq: 301, Ack: 0, Flags: ACK, Options: ts(78)}, "", DropNone, open},
		{"ACK with text", Segment{Seq: 301, Ack: 0, Flags: ACK | PSH, Options: ts(78), Text: text}, "", DropNone, open},
		{"ACK with FIN", Segment{Seq: 301, Ack: 0, Flags: ACK | FIN, Options: ts(78)}, "", DropNone, open},
		{"ACK with URG", Segment{Seq: 301, Ack: 0, Flags: ACK | URG, Options: ts(78)}, "", DropNone, open},
		{"text from the middle of the window", Segment{Seq: 401, Ack: 0, Flags: ACK, Options: ts(78), Text: text}, "", DropNone, open},
		{"fifth: ACK of ISS", Segment{Seq: 301, Ack: ownISS, Flags: ACK, Options: ts(78)}, "<SEQ=4294967295><CTL=RST>", DropSynReceivedACK, stays},
		{"fifth: ACK of ISS+2", Segment{Seq: 301, Ack: 1, Flags: ACK, Options: ts(78)}, "<SEQ=1><CTL=RST>", DropSynReceivedACK, stays},
		{"fifth: no ACK", Segment{Seq: 301, Flags: PSH, Options: ts(78), Text: text}, "", DropNoACK, stays},
		{"no flags", Segment{Seq: 301, Options: ts(78)}, "", DropNoACK, stays},
		{"FIN without ACK", Segment{Seq: 301, Flags: FIN, Options: ts(78)}, "", DropNoACK, stays},
		{"C15 RST at RCV.NXT", Segment{Seq: 301, Flags: RST}, "", DropNone, gone},
		{"RST, ACK at RCV.NXT", Segment{Seq: 301, Ack: 0, Flags: RST | ACK}, "", DropNone, gone},
		{"RFC 5961 3.2: RST elsewhere in the window", Segment{Seq: 302, Flags: RST}, wantAck, DropRST, stays},
		{"RFC 5961 3.2: RST before the window", Segment{Seq: 300, Flags: RST}, "", DropWindow, stays},
		{"RFC 5961 3.2: RST behind the window", Segment{Seq: 301 + 65536, Flags: RST}, "", DropWindow, stays},
		{"first: before the window", Segment{Seq: 300, Ack: 0, Flags: ACK, Options: ts(78)}, wantAck, DropWindow, stays},
		{"first: behind the window", Segment{Seq: 301 + 65536, Ack: 0, Flags: ACK, Options: ts(78), Text: text}, wantAck, DropWindow, stays},
		{"first: text across the left edge", Segment{Seq: 299, Ack: 0, Flags: ACK, Options: ts(78), Text: text}, "", DropNone, open},
		{"SYN, ACK of ISS+1 at IRS", Segment{Seq: 300, Ack: 0, Flags: SYN | ACK, Options: ts(78)}, wantAck, DropWindow, stays},
		{"C67 another SYN in the window", Segment{Seq: 305, Flags: SYN, Options: ts(78)}, wantAck, DropSYN, stays},
		{"C67 another SYN outside the window", Segment{Seq: 200, Flags: SYN, Options: ts(78)}, wantAck, DropWindow, stays},
		{"SYN+FIN at IRS", Segment{Seq: 300, Flags: SYN | FIN, Options: ts(78)}, wantAck, DropSYN, stays},
		{"the same SYN", Segment{Seq: 300, Flags: SYN, Options: ts(78)}, wantSynAck, DropDuplicate, stays},
		{"RFC 7323 5.3 R1: an old timestamp", Segment{Seq: 301, Ack: 0, Flags: ACK, Options: ts(76)}, wantAck, DropPAWS, stays},
		{"RFC 7323 3.2: no timestamp", Segment{Seq: 301, Ack: 0, Flags: ACK}, "", DropNoTimestamp, stays},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, _ := synReceived(t, 8, peerSYN())
			s := tc.s
			s.Window = 500
			reply, c, e := l.Arrive(2*time.Second, testFlow(1), &s, listenConfig)
			wantAnswer(t, reply, tc.want)
			wantDrop(t, e, tc.drop)
			after := stays
			switch {
			case c != nil:
				after = open
			case l.Len() == 0:
				after = gone
			}
			if after != tc.after {
				t.Errorf("the half-open connection %s, want %s", after, tc.after)
			}
			if c != nil && (l.Len() != 0 || !e.Has(Opened) || c.State() < Established) {
				t.Errorf("%d half-open, event %v, state %v", l.Len(), e, c.State())
			}
			if n := s.End().From(301); c != nil && s.Seq.LessEq(301) && !s.Flags.Has(FIN) && c.Buffered() != n {
				t.Errorf("%d octets to read, want the %d that came with the acknowledgement", c.Buffered(), n)
			}
			if reply.Flags == ACK && (!reply.Options.HasTimestamps || reply.Options.TSVal != 7000 || reply.Options.TSEcr != 77) {
				t.Errorf("options %+v, want timestamps 7000 and 77 (RFC 7323 §3.2)", reply.Options)
			}
		})
	}
}

func TestC15ResetReturnsToListen(t *testing.T) {
	l, _ := synReceived(t, 8, peerSYN())
	l.Arrive(2*time.Second, testFlow(1), &Segment{Seq: 301, Flags: RST}, listenConfig)
	// packetimpact tcp_synrcvd_reset: the acknowledgement then finds nothing
	reply, _, e := l.Arrive(2*time.Second, testFlow(1), &Segment{Seq: 301, Ack: 0, Flags: ACK}, listenConfig)
	wantAnswer(t, reply, wantReset)
	wantDrop(t, e, DropListenACK)
	reply, _, _ = l.Arrive(2*time.Second, testFlow(1), peerSYN(), listenConfig)
	wantAnswer(t, reply, wantSynAck)
}

func TestC16ManyHalfOpen(t *testing.T) {
	l := testListener(8)
	for n := range 3 {
		reply, _, _ := l.Arrive(0, testFlow(n), peerSYN(), listenConfig)
		wantAnswer(t, reply, wantSynAck)
	}
	seen := map[Flow]State{}
	for f, s := range l.All() {
		seen[f] = s
	}
	if len(seen) != 3 || seen[*testFlow(2)] != SynReceived {
		t.Errorf("All yields %v, want three in SYN-RECEIVED", seen)
	}
	if _, c, _ := l.Arrive(0, testFlow(1), peerACK(Segment{Seq: ownISS, Ack: 301, Options: Options{HasTimestamps: true}}), listenConfig); c == nil || l.Len() != 2 {
		t.Errorf("connection %v, %d half-open, want one and 2", c, l.Len())
	}
}

// TestC67A25PeerThatBeganAnew: §3.10.7.4 fourth, by way of RFC 5961 §4.2's challenge.
func TestC67A25PeerThatBeganAnew(t *testing.T) {
	l, _ := synReceived(t, 8, peerSYN())
	again := peerSYN()
	again.Seq = 40_000
	challenge, _, _ := l.Arrive(2*time.Second, testFlow(1), again, listenConfig)
	wantAnswer(t, challenge, wantAck)
	// in SYN-SENT the peer finds an ACK of nothing it sent: <SEQ=SEG.ACK><CTL=RST>
	rst, _ := ResetFor(&challenge)
	l.Arrive(2*time.Second, testFlow(1), &rst, listenConfig)
	if l.Len() != 0 {
		t.Fatalf("%d half-open after %v, want a return to LISTEN", l.Len(), rst)
	}
	reply, _, _ := l.Arrive(3*time.Second, testFlow(1), again, listenConfig)
	wantAnswer(t, reply, "<SEQ=4294967295><ACK=40001><CTL=SYN,ACK>")
}

func TestSynReceivedRepeatsAreLimited(t *testing.T) {
	for name, s := range map[string]*Segment{"SYN again": plainSYN(), "outside the window": {Seq: 1, Flags: ACK}} {
		t.Run(name, func(t *testing.T) {
			l, _ := synReceived(t, 8, plainSYN())
			answers := 0
			for ms := range 2000 {
				reply, _, _ := l.Arrive(2*time.Second+time.Duration(ms)*time.Millisecond, testFlow(1), s, listenConfig)
				if reply.Flags != 0 {
					answers++
				}
			}
			if answers != 4 {
				t.Errorf("%d answers in 2 s, want 4: one each 500 ms (RFC 5961 §7)", answers)
			}
		})
	}
}

// TestSynReceivedEchoesNewestTimestamp: RFC 7323 §4.3 (2).
func TestSynReceivedEchoesNewestTimestamp(t *testing.T) {
	l, _ := synReceived(t, 8, peerSYN())
	for _, v := range []struct{ sent, want uint32 }{{90, 90}, {80, 90}} {
		s := peerSYN()
		s.Options.TSVal = v.sent
		reply, _, _ := l.Arrive(time.Duration(v.want-v.sent+2)*time.Second, testFlow(1), s, listenConfig)
		if reply.Options.TSEcr != v.want {
			t.Errorf("a SYN with %d is answered with %d, want %d", v.sent, reply.Options.TSEcr, v.want)
		}
	}
}

// TestA3SynAckSchedule: RFC 6298 §2.1 and §5.5.
func TestA3SynAckSchedule(t *testing.T) {
	l, _ := synReceived(t, 8, plainSYN())
	start := time.Second
	for _, want := range []time.Duration{1, 3, 7, 15, 31} {
		at, ok := l.Deadline()
		if !ok || at != start+want*time.Second {
			t.Fatalf("deadline %v %v, want %v", at, ok, start+want*time.Second)
		}
		l.Expire(at - 1)
		s := Segment{Text: make([][]byte, 3)}
		if _, ok := l.Next(at-1, &s); ok {
			t.Fatalf("%v sent before the timer expired", s)
		}
		l.Expire(at)
		f, ok := l.Next(at, &s)
		wantAnswer(t, s, wantSynAck)
		if !ok || f != *testFlow(1) || s.Cause != CauseRTO {
			t.Errorf("Next answers %v %v %v", f, ok, s.Cause)
		}
		if at := l.halfOpen[f].h.sentAt; at != 0 {
			t.Errorf("sent at %v, want 0: the RTT cannot be told (RFC 6298 §3)", at)
		}
		if _, ok := l.Next(at, &s); ok {
			t.Errorf("a second answer %v", s)
		}
	}
	at, _ := l.Deadline()
	l.Expire(at)
	if _, ok := l.Deadline(); at != start+63*time.Second || l.Len() != 0 || ok {
		t.Errorf("%d half-open at %v, want none after 63 s", l.Len(), at-start)
	}
}

// TestSynReceivedFull: the accept queue is full (packetimpact tcp_listen_backlog).
func TestSynReceivedFull(t *testing.T) {
	l, sa := synReceived(t, 8, peerSYN())
	l.SetFull(true)
	reply, c, e := l.Arrive(2*time.Second, testFlow(1), peerACK(sa), listenConfig)
	wantAnswer(t, reply, "")
	wantDrop(t, e, DropBacklog)
	reply, _, e = l.Arrive(2*time.Second, testFlow(2), peerSYN(), listenConfig)
	wantAnswer(t, reply, "")
	wantDrop(t, e, DropBacklog)
	if c != nil || l.Len() != 1 {
		t.Fatalf("connection %v, %d half-open, want none and 1", c, l.Len())
	}
	l.SetFull(false)
	l.Expire(2 * time.Second)
	var s Segment
	if _, ok := l.Next(2*time.Second, &s); !ok {
		t.Error("the SYN-ACK is not sent again")
	}
	if _, c, _ = l.Arrive(3*time.Second, testFlow(1), peerACK(s), listenConfig); c == nil {
		t.Error("no connection once there is room")
	}
}

func TestListenerDropAndNotify(t *testing.T) {
	l, _ := synReceived(t, 8, peerSYN())
	wantDrop(t, l.Notify(testFlow(1), ownISS-1, Notice{Reason: Refused}), DropNotice) // RFC 5927 §4.1
	wantDrop(t, l.Notify(testFlow(2), ownISS, Notice{Reason: Refused}), DropNotice)
	wantDrop(t, l.Notify(testFlow(1), ownISS, Notice{Reason: TooBig}), DropNone)
	if l.Len() != 1 {
		t.Fatal("gone for a notice that ends nothing")
	}
	wantDrop(t, l.Notify(testFlow(1), ownISS, Notice{Reason: Refused}), DropNone)
	if l.Len() != 0 {
		t.Error("the hard error ended nothing")
	}
	l, _ = synReceived(t, 8, peerSYN())
	l.Drop(testFlow(1))
	l.Drop(testFlow(1))
	if _, ok := l.Deadline(); l.Len() != 0 || ok {
		t.Error("Drop left something")
	}
}

func TestReopenISS(t *testing.T) {
	for _, tc := range []struct{ floor, want Seq }{{ownISS - 5, ownISS}, {7, 7}} {
		l := testListener(8)
		reply, _, _ := l.Reopen(0, testFlow(1), peerSYN(), listenConfig, tc.floor)
		if reply.Seq != tc.want {
			t.Errorf("floor %v: ISS %v, want %v (RFC 9293 §3.6.1, MAY-2)", tc.floor, reply.Seq, tc.want)
		}
		if reply, _, _ := l.Arrive(0, testFlow(2), peerSYN(), listenConfig); reply.Seq != ownISS {
			t.Errorf("the floor outlived Reopen: ISS %v", reply.Seq)
		}
	}
}

func TestHold(t *testing.T) {
	hold := func() (*Listener, *Flow) {
		l, f := testListener(1), testFlow(1)
		l.c.Hold = true
		reply, _, e := l.Arrive(0, f, peerSYN(), listenConfig)
		wantAnswer(t, reply, "")
		wantDrop(t, e, DropHeld)
		for _, s := range l.All() {
			if s != Listen {
				t.Errorf("state %v, want LISTEN while held", s)
			}
		}
		return l, f
	}
	next := func(l *Listener) (s Segment) {
		l.Next(time.Second, &s)
		return s
	}
	t.Run("accept", func(t *testing.T) {
		l, f := hold()
		_, _, e := l.Arrive(time.Second, f, peerSYN(), listenConfig)
		wantDrop(t, e, DropDuplicate)
		reply, _, e := l.Arrive(time.Second, f, &Segment{Seq: 301, Ack: 5, Flags: ACK}, listenConfig)
		wantAnswer(t, reply, "<SEQ=5><CTL=RST>")
		wantDrop(t, e, DropListenACK)
		if !l.Decide(time.Second, f, VerdictAccept) || l.Decide(time.Second, f, VerdictAccept) {
			t.Error("Decide: want true, then false")
		}
		sa := next(l)
		wantAnswer(t, sa, wantSynAck)
		if at, ok := l.Deadline(); !ok || at != 2*time.Second {
			t.Errorf("deadline %v %v, want 1 s after the SYN-ACK", at, ok)
		}
		if _, c, _ := l.Arrive(time.Second, f, peerACK(sa), listenConfig); c == nil {
			t.Error("no connection")
		}
	})
	t.Run("reject", func(t *testing.T) {
		l, f := hold()
		l.Decide(time.Second, f, VerdictReject)
		_, _, e := l.Arrive(time.Second, f, peerSYN(), listenConfig)
		wantDrop(t, e, DropRefused)
		wantAnswer(t, next(l), "<SEQ=0><ACK=301><CTL=RST,ACK>")
		if l.Len() != 0 {
			t.Error("still there")
		}
	})
	t.Run("ignore", func(t *testing.T) {
		l, f := hold()
		l.Decide(time.Second, f, VerdictIgnore)
		wantAnswer(t, next(l), "")
		_, _, e := l.Arrive(time.Second, f, peerSYN(), listenConfig)
		wantDrop(t, e, DropHeld)
	})
	t.Run("reset by the peer", func(t *testing.T) {
		l, f := hold()
		l.Arrive(time.Second, f, &Segment{Seq: 400, Flags: RST}, listenConfig)
		if l.Len() != 1 {
			t.Error("a reset that is not at RCV.NXT ended it")
		}
		l.Arrive(time.Second, f, &Segment{Seq: 301, Flags: RST}, listenConfig)
		if l.Len() != 0 {
			t.Error("still there")
		}
	})
	t.Run("no verdict and no room", func(t *testing.T) {
		l, _ := hold()
		reply, _, e := l.Arrive(0, testFlow(2), peerSYN(), listenConfig)
		wantAnswer(t, reply, "")
		wantDrop(t, e, DropBacklog)
		at, _ := l.Deadline()
		l.Expire(at)
		if l.Len() != 0 || at != 63*time.Second {
			t.Errorf("%d held at %v, want none at 63 s", l.Len(), at)
		}
	})
}

// TestSynFlood: A1. What is beyond the backlog costs no record.
func TestSynFlood(t *testing.T) {
	l, s := testListener(128), peerSYN()
	for n := range 100_000 {
		if reply, c, _ := l.Arrive(0, testFlow(n), s, listenConfig); reply.Flags != SYN|ACK || c != nil {
			t.Fatalf("SYN %d: answer %q", n, answerOf(reply))
		}
		if l.Len() > 128 {
			t.Fatalf("%d half-open after %d SYNs, want at most 128", l.Len(), n)
		}
	}
	sent := 0
	for at, ok := l.Deadline(); ok; at, ok = l.Deadline() {
		before := sent + l.Len()
		l.Expire(at)
		for _, more := l.Next(at, s); more; _, more = l.Next(at, s) {
			sent++
		}
		if at > 63*time.Second || sent+l.Len() == before {
			t.Fatalf("%d half-open at %v, %d SYN-ACKs sent again", l.Len(), at, sent)
		}
	}
	if sent != 128*synAckRetries || l.Len() != 0 {
		t.Errorf("%d SYN-ACKs sent again, %d half-open left: want %d and 0, none of them a cookie", sent, l.Len(), 128*synAckRetries)
	}
}

func TestListenSizes(t *testing.T) {
	if n := unsafe.Sizeof(halfOpen{}); n > 120 {
		t.Errorf("a half-open connection has %d octets, want at most 120", n)
	}
	if n := unsafe.Sizeof(TimeWaitRecord{}); n > 40 {
		t.Errorf("a TimeWaitRecord has %d octets, want at most 40", n)
	}
	if n := unsafe.Sizeof(Flow{}); n != 40 {
		t.Errorf("a Flow has %d octets, want 40", n)
	}
}
