package tcp

import (
	"strings"
	"testing"
	"time"
	"unsafe"
)

func TestTCBSize(t *testing.T) {
	if n := unsafe.Sizeof(TCB{}); n > 480 {
		t.Errorf("a TCB has %d octets, want at most 480", n)
	}
}

// TestC11C12MSS: what one packet carries is the smaller of what the peer takes and what the path takes, less options.
func TestC11C12MSS(t *testing.T) {
	for _, x := range []struct {
		name string
		c    Config
		o    Options
		want int
	}{
		{"the peer names none", plain(), Options{}, 536},
		{"the peer names none, IPv6", Config{MTU: 1460, DefaultMSS: 1220}, Options{}, 1220},
		{"SACK permitted takes nothing", Config{MTU: 1480}, Options{MSS: 1460, SACKPermitted: true}, 1460},
		{"timestamps take 12", Config{MTU: 1480}, Options{MSS: 1460, HasTimestamps: true}, 1448},
		{"the path is smaller", Config{MTU: 1480}, Options{MSS: 9000}, 1460},
		{"the peer is smaller", Config{MTU: 1480}, Options{MSS: 700}, 700},
		{"an attacker's", Config{MTU: 1480}, Options{MSS: 1, HasTimestamps: true}, 36},
	} {
		s := established(t, x.c, 65535, x.o)
		s.write(5000)
		if n := s.take()[0].TextLen(); n != x.want || s.Info().MSS != x.want {
			t.Errorf("%s: segments of %d octets and an Info of %d, want %d", x.name, n, s.Info().MSS, x.want)
		}
	}
}

// TestC9C10MSSOption: our SYN says MTU-20, and no other segment says anything.
func TestC9C10MSSOption(t *testing.T) {
	for mtu, want := range map[int]uint16{0: 65495, 1480: 1460, 1460: 1440, 8980: 8960, 65515: 65495} {
		c := Config{MTU: mtu}
		s := &script{t: t, TCB: Open(0, 100, &c)}
		if got := s.take()[0].Options.MSS; got != want {
			t.Errorf("MTU %d: MSS %d, want %d", mtu, got, want)
		}
		s = accepted(t, c, Options{MSS: 1460})
		s.ack(101)
		s.write(10)
		for _, g := range s.take() {
			if g.Options.MSS != 0 {
				t.Errorf("%v carries an MSS", g)
			}
		}
	}
}

// TestC15Reset: a reset in SYN-RECEIVED means something else to who OPENed actively.
func TestC15ResetInSynReceived(t *testing.T) {
	s := accepted(t, plain(), Options{})
	s.arrive(Segment{Seq: 301, Flags: RST})
	s.wantEnd(Reset)
	s = opened(t, plain())
	s.arrive(Segment{Seq: 300, Flags: SYN, Window: 1000})
	s.want("<SEQ=100><ACK=301><CTL=SYN,ACK>")
	s.arrive(Segment{Seq: 301, Flags: RST})
	s.wantEnd(Refused)
}

// TestC14SimultaneousOpen: both sides' SYNs cross, then text goes both ways.
func TestC14SimultaneousOpen(t *testing.T) {
	s := opened(t, plain())
	s.arrive(Segment{Seq: 300, Flags: SYN, Window: 1000, Options: Options{MSS: 1460}})
	s.want("<SEQ=100><ACK=301><CTL=SYN,ACK>")
	s.wantState(SynReceived)
	if ev := s.arrive(Segment{Seq: 300, Ack: 101, Flags: SYN | ACK, Window: 1000}); !ev.Has(Opened) {
		t.Fatalf("the SYN-ACK opens nothing: drop %v", ev.Drop())
	}
	s.wantState(Established)
	s.write(5)
	s.want("<SEQ=101><ACK=301><DATA=5><CTL=PSH,ACK>")
	if ev := s.text(301, 3); !ev.Has(Readable) || s.read(10) != string(letters(301, 3)) {
		t.Error("the peer's text is not there")
	}
}

// TestC65SynSent is RFC 9293 §3.10.7.3.
func TestC65SynSent(t *testing.T) {
	for _, x := range []struct {
		name  string
		g     Segment
		drop  Drop
		state State
		err   Reason
		sent  []string
	}{
		{"ACK of ISS", Segment{Seq: 300, Ack: 100, Flags: ACK}, DropSynSentACK, SynSent, None, []string{"<SEQ=100><CTL=RST>"}},
		{"ACK beyond", Segment{Seq: 300, Ack: 102, Flags: SYN | ACK}, DropSynSentACK, SynSent, None, []string{"<SEQ=102><CTL=RST>"}},
		{"bad ACK with RST", Segment{Ack: 99, Flags: RST | ACK}, DropSynSentACK, SynSent, None, nil},
		{"RST without ACK", Segment{Flags: RST}, DropSynSentRST, SynSent, None, nil},
		{"RST", Segment{Ack: 101, Flags: RST | ACK}, DropNone, Closed, Refused, nil},
		{"good ACK alone", Segment{Ack: 101, Flags: ACK}, DropFlags, SynSent, None, nil},
		{"no flags", Segment{}, DropFlags, SynSent, None, nil},
		{"FIN", Segment{Flags: FIN}, DropFlags, SynSent, None, nil},
		{"SYN with text", Segment{Seq: 300, Flags: SYN, Text: [][]byte{[]byte("abc")}}, DropNone, SynReceived, None,
			[]string{"<SEQ=100><ACK=301><CTL=SYN,ACK>"}},
		{"SYN-ACK with text", Segment{Seq: 300, Ack: 101, Flags: SYN | ACK, Text: [][]byte{[]byte("abc")}}, DropNone,
			Established, None, []string{"<SEQ=101><ACK=304><CTL=ACK>"}},
		{"SYN-ACK with FIN", Segment{Seq: 300, Ack: 101, Flags: SYN | ACK | FIN}, DropNone, CloseWait, None,
			[]string{"<SEQ=101><ACK=302><CTL=ACK>"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := opened(t, plain())
			s.wantDropped(s.arrive(x.g), x.drop)
			s.want(x.sent...)
			if s.State() != x.state || s.Err() != x.err {
				t.Errorf("%v (%v), want %v (%v)", s.State(), s.Err(), x.state, x.err)
			}
		})
	}
}

// TestC68AckField is the fifth check.
func TestC68AckField(t *testing.T) {
	s := in(t, SynReceived)
	s.wantDropped(s.arrive(Segment{Seq: 301, Ack: 100, Flags: ACK}), DropSynReceivedACK)
	s.want("<SEQ=100><CTL=RST>")
	s.wantDropped(s.arrive(Segment{Seq: 301, Ack: 102, Flags: ACK}), DropSynReceivedACK)
	s.want("<SEQ=102><CTL=RST>")
	s.wantState(SynReceived)

	s = plainly(t)
	s.wantDropped(s.arrive(Segment{Seq: 301, Flags: 0, Text: [][]byte{[]byte("x")}}), DropNoACK)
	s.wantDropped(s.arrive(Segment{Seq: 301, Ack: 102, Flags: ACK, Text: [][]byte{[]byte("x")}}), DropFutureACK)
	s.want("<SEQ=101><ACK=301><CTL=ACK>")
	s.wantDropped(s.arrive(Segment{Seq: 301, Ack: s.snd.una - 65536, Flags: ACK, Text: [][]byte{[]byte("x")}}), DropOldACK)
	s.want("<SEQ=101><ACK=301><CTL=ACK>")
	if s.Buffered() != 0 {
		t.Error("text of a refused segment is there")
	}
	s.wantDropped(s.arrive(Segment{Seq: 301, Ack: s.snd.una - 65535, Flags: ACK, Text: [][]byte{[]byte("x")}}), DropNone)
	if s.Buffered() != 1 {
		t.Error("text of an acceptable segment is not there")
	}
}

// TestC69Trim: only what is new and in the window is taken.
func TestC69Trim(t *testing.T) {
	c := plain()
	c.ReadBuffer = 100
	s := established(t, c, 65535, Options{})
	s.text(301, 10)
	s.text(305, 20) // straddles the left edge
	s.wait(50 * ms)
	if g := s.take(); g[len(g)-1].Ack != 325 {
		t.Fatalf("acknowledged: %v", g)
	}
	s.wantDropped(s.text(301, 10), DropWindow) // all old
	s.want("<SEQ=101><ACK=325><CTL=ACK>")
	s.text(325, 1000) // straddles the right edge
	s.wait(50 * ms)
	if g := s.take(); g[len(g)-1].Ack != 401 || g[len(g)-1].Window != 0 {
		t.Fatalf("acknowledged: %v with a window of %d", g, g[len(g)-1].Window)
	}
	if got, want := s.read(1000), string(letters(301, 100)); got != want {
		t.Errorf("read %q, want %q", got, want)
	}
}

// TestC72Abort: a reset goes to a peer that knows of the connection and does not know that it ends.
func TestC72Abort(t *testing.T) {
	for st, want := range map[State]string{
		SynSent: "", SynReceived: "<SEQ=101><ACK=301><CTL=RST,ACK>", Established: "<SEQ=101><ACK=301><CTL=RST,ACK>",
		FinWait1: "<SEQ=102><ACK=301><CTL=RST,ACK>", FinWait2: "<SEQ=102><ACK=301><CTL=RST,ACK>",
		CloseWait: "<SEQ=101><ACK=302><CTL=RST,ACK>", Closing: "", LastAck: "", TimeWait: "",
	} {
		s := in(t, st)
		s.Abort()
		s.wantEnd(Aborted)
		if want == "" {
			s.want()
		} else {
			s.want(want)
		}
	}
}

// TestC72Close: CLOSE in each state.
func TestC72Close(t *testing.T) {
	s := in(t, SynSent)
	s.Close(0)
	s.wantEnd(Aborted)
	s.want()

	s = in(t, SynReceived)
	s.Close(0)
	s.wantState(FinWait1)
	s.want("<SEQ=101><ACK=301><CTL=FIN,ACK>")
	s.ack(102)
	s.wantState(FinWait2)

	s = in(t, SynReceived)
	s.write(3)
	s.Close(0)
	s.wantState(SynReceived)
	s.want()
	s.ack(101)
	s.wantState(FinWait1)
	s.want("<SEQ=101><ACK=301><DATA=3><CTL=FIN,PSH,ACK>")

	s = in(t, CloseWait)
	s.Write(0, []byte("abc"))
	s.Close(0)
	s.wantState(CloseWait)
	s.want("<SEQ=101><ACK=302><DATA=3><CTL=FIN,PSH,ACK>")
	s.wantState(LastAck)
	for _, st := range []State{FinWait1, FinWait2, Closing, LastAck, TimeWait} {
		s := in(t, st)
		s.Close(0)
		s.want() // no second FIN
		if s.Write(0, []byte("x")) != 0 {
			t.Errorf("%v: text is taken after CLOSE", st)
		}
	}
}

// TestC70FIN: the eighth check, in each state.
func TestC70FIN(t *testing.T) {
	for st, want := range map[State]State{SynReceived: CloseWait, Established: CloseWait, FinWait1: Closing, FinWait2: TimeWait} {
		s := in(t, st)
		ack := Seq(101)
		if st == FinWait2 {
			ack = 102
		}
		ev := s.arrive(Segment{Seq: 301, Ack: ack, Flags: FIN | ACK, Window: 1000})
		if s.State() != want || !ev.Has(Readable) || !s.EOF() || ev.Has(Waiting) != (want == TimeWait) {
			t.Errorf("%v: %v and event %#x, want %v", st, s.State(), ev, want)
		}
		if g := s.take(); len(g) != 1 || g[0].Ack != 302 {
			t.Errorf("%v: the FIN is answered by %v", st, g)
		}
	}
	for _, st := range []State{CloseWait, Closing, LastAck, TimeWait} {
		s := in(t, st)
		for range 2 { // each retransmission is answered
			s.arrive(Segment{Seq: 301, Ack: 101, Flags: FIN | ACK, Window: 1000})
			s.want("<SEQ=" + s.snd.nxt.String() + "><ACK=302><CTL=ACK>")
		}
		s.wantState(st)
	}
	s := in(t, FinWait1) // our FIN is acknowledged by the segment that carries the peer's
	s.arrive(Segment{Seq: 301, Ack: 102, Flags: FIN | ACK})
	s.wantState(TimeWait)
	s = in(t, Closing)
	s.arrive(Segment{Seq: 302, Ack: 102, Flags: ACK})
	s.wantState(TimeWait)
	s = in(t, LastAck)
	if ev := s.arrive(Segment{Seq: 302, Ack: 102, Flags: ACK}); !ev.Has(Ended) {
		t.Error("no Ended")
	}
	s.wantEnd(None)
}

// TestC70FINAhead: a FIN that arrives before the text in front of it is kept, and text behind it is not.
func TestC70FINAhead(t *testing.T) {
	s := plainly(t)
	s.arrive(Segment{Seq: 304, Ack: 101, Flags: FIN | ACK, Text: [][]byte{letters(304, 3)}})
	s.want("<SEQ=101><ACK=301><CTL=ACK>")
	s.text(304, 10)
	s.wantState(Established)
	s.text(301, 3)
	s.wantState(CloseWait)
	if got, want := s.read(100), string(letters(301, 6)); got != want || !s.EOF() {
		t.Errorf("read %q, want %q and the end", got, want)
	}
	if s.recvq.head != nil {
		t.Error("what stands behind the FIN is kept")
	}
	if g := s.take(); g[len(g)-1].Ack != 308 {
		t.Errorf("the FIN is not acknowledged: %v", g)
	}
}

// TestC71HalfClose: after CLOSE the peer's text is still delivered.
func TestC71HalfClose(t *testing.T) {
	s := in(t, FinWait2)
	got := 0
	for range 1000 {
		s.arrive(Segment{Seq: 301 + Seq(got), Ack: 102, Flags: ACK, Window: 1000, Text: [][]byte{make([]byte, 1000)}})
		got += len(s.read(2000))
	}
	if got != 1000000 {
		t.Errorf("%d octets of 1000000 came", got)
	}
	s.arrive(Segment{Seq: 301 + 1000000, Ack: 102, Flags: FIN | ACK})
	s.wantState(TimeWait)
}

// TestC22Release: text that nobody will read resets the connection.
func TestC22Release(t *testing.T) {
	s := plainly(t)
	s.text(301, 3)
	s.take()
	if ev := s.Release(s.now); !ev.Has(Ended) {
		t.Error("no Ended")
	}
	s.want("<SEQ=101><ACK=304><CTL=RST,ACK>")
	s.wantEnd(Aborted)

	s = plainly(t)
	s.Release(s.now)
	s.want("<SEQ=101><ACK=301><CTL=FIN,ACK>")
	s.ack(102)
	s.wantState(FinWait2)
	s.wantDropped(s.text(301, 3), DropAfterClose)
	s.want("<SEQ=102><ACK=301><CTL=RST,ACK>")

	s = plainly(t)
	s.Release(s.now)
	s.want("<SEQ=101><ACK=301><CTL=FIN,ACK>")
	s.ack(102)
	if ev := s.wait(61 * time.Second); !ev.Has(Ended) {
		t.Errorf("in %v after a minute in FIN-WAIT-2 that nobody wants", s.State())
	}
	s.want()
	s = in(t, FinWait2)
	s.wait(time.Hour)
	s.wantState(FinWait2) // shutdown alone waits for ever
}

// TestC23TimeWait lasts 2 MSL from the last FIN on.
func TestC23TimeWait(t *testing.T) {
	s := in(t, TimeWait)
	s.wait(50 * time.Second)
	s.wantDropped(s.arrive(Segment{Seq: 301, Ack: 102, Flags: FIN | ACK}), DropTimeWait)
	s.want("<SEQ=102><ACK=302><CTL=ACK>")
	s.wait(59 * time.Second)
	s.wantState(TimeWait)
	if ev := s.wait(time.Second); !ev.Has(Ended) {
		t.Error("no Ended")
	}
	s.wantEnd(None)
}

// TestC25TimeWaitAssassination: old segments are acknowledged at most, and only a reset at RCV.NXT ends TIME-WAIT.
func TestC25TimeWaitAssassination(t *testing.T) {
	s := in(t, TimeWait)
	s.text(250, 10)
	s.arrive(Segment{Seq: 250, Flags: RST})
	s.arrive(Segment{Seq: 303, Flags: RST})
	s.arrive(Segment{Seq: 5000, Flags: SYN})
	s.wantState(TimeWait)
	s.arrive(Segment{Seq: 302, Flags: RST})
	s.wantEnd(None)
}

// TestC77Reset is RFC 5961 §3.2, and C26: a reset may carry text.
func TestC26C77Reset(t *testing.T) {
	for _, st := range []State{Established, FinWait1, FinWait2, CloseWait, Closing, LastAck} {
		s := in(t, st)
		nxt := s.rcv.nxt
		s.wantDropped(s.arrive(Segment{Seq: nxt - 1, Flags: RST}), DropWindow)
		s.want()
		s.wantDropped(s.arrive(Segment{Seq: nxt + 1, Flags: RST}), DropRST)
		s.want("<SEQ=" + s.snd.nxt.String() + "><ACK=" + nxt.String() + "><CTL=ACK>")
		s.wantDropped(s.arrive(Segment{Seq: s.rcv.edge, Flags: RST}), DropWindow)
		s.want()
		s.wantState(st)
		ev := s.arrive(Segment{Seq: nxt, Flags: RST, Text: [][]byte{make([]byte, 50)}})
		if why := s.Err(); !ev.Has(Ended) || why != Reset && st != Closing && st != LastAck {
			t.Errorf("%v: event %#x, %v", st, ev, why)
		}
		s.want()
	}
}

// TestC80ChallengesAreLimited: ten a second.
func TestC80ChallengesAreLimited(t *testing.T) {
	s := plainly(t)
	for range 1000 {
		s.arrive(Segment{Seq: 302, Flags: RST})
	}
	if n := len(s.take()); n != challengeLimit {
		t.Errorf("%d challenge ACKs, want %d", n, challengeLimit)
	}
	s.now += time.Second
	s.arrive(Segment{Seq: 302, Flags: RST})
	s.want("<SEQ=101><ACK=301><CTL=ACK>")
}

// TestC36UrgentTextStaysInLine: RFC 6093.
func TestC36UrgentTextStaysInLine(t *testing.T) {
	s := plainly(t)
	for i, p := range []uint16{1, 0, 65535} {
		at := 301 + Seq(3*i)
		s.arrive(Segment{Seq: at, Ack: 101, Flags: ACK | URG, Urgent: p, Window: 65535, Text: [][]byte{letters(at, 3)}})
	}
	if got, want := s.read(100), string(letters(301, 9)); got != want {
		t.Errorf("read %q, want %q", got, want)
	}
}

// TestC21HowItEnded: the end of text, a reset and a timeout are told apart.
func TestC21HowItEnded(t *testing.T) {
	s := plainly(t)
	s.arrive(Segment{Seq: 301, Ack: 101, Flags: FIN | ACK})
	if !s.EOF() || s.Err() != None {
		t.Errorf("FIN: end %v, %v", s.EOF(), s.Err())
	}
	s = plainly(t)
	s.text(301, 3)
	s.arrive(Segment{Seq: 304, Flags: RST})
	s.wantEnd(Reset)
	if s.EOF() || s.read(10) != string(letters(301, 3)) || s.Buffered() != 0 {
		t.Error("reset: what came before is not readable")
	}
	s = plainly(t)
	s.write(10)
	s.wait(20 * time.Minute)
	s.wantEnd(TimedOut)
}

// TestCloseRead: what comes is acknowledged and dropped, and the window stays open.
func TestCloseRead(t *testing.T) {
	s := plainly(t)
	s.text(301, 1000)
	s.CloseRead(s.now)
	if !s.EOF() || s.Buffered() != 0 {
		t.Error("there is something to read after CloseRead")
	}
	at := Seq(1301)
	for range 200 {
		s.text(at+1000, 1000)
		s.text(at, 1000)
		at += 2000
	}
	g := s.take()
	if last := g[len(g)-1]; last.Ack != at || last.Window < 64000 {
		t.Errorf("the last acknowledgement is %v with a window of %d, want ACK=%v", last, last.Window, at)
	}
	if s.recvq.head != nil {
		t.Error("the receive pipe holds a chunk")
	}
	s.arrive(Segment{Seq: at, Ack: 101, Flags: FIN | ACK})
	s.wantState(CloseWait)
}

// TestC54C59C60C61Notices: ICMP errors end an opening, and nothing else.
func TestC54C59C60C61Notices(t *testing.T) {
	for _, r := range []Reason{Refused, HostUnreachable, NetUnreachable, NoProtocol, Prohibited} {
		s := in(t, SynSent)
		s.wantDropped(s.Notify(0, 99, Notice{Reason: r}), DropNotice)
		s.wantDropped(s.Notify(0, 101, Notice{Reason: r}), DropNotice)
		s.wantState(SynSent)
		if ev := s.Notify(0, 100, Notice{Reason: r}); !ev.Has(Ended) {
			t.Errorf("%v: event %#x", r, ev)
		}
		s.wantEnd(r)

		s = plainly(t)
		s.write(10)
		s.wantDropped(s.Notify(s.now, 111, Notice{Reason: r}), DropNotice)
		if ev := s.Notify(s.now, 105, Notice{Reason: r}); ev != SoftError || s.Info().SoftErr != r {
			t.Errorf("%v: event %#x, Info has %v", r, ev, s.Info().SoftErr)
		}
		s.wantState(Established)
		if ev := s.ack(111); !ev.Has(Progress) {
			t.Error("the transfer does not go on")
		}
		s.write(10)
		s.Notify(s.now, 111, Notice{Reason: r})
		s.wait(20 * time.Minute)
		s.wantEnd(r) // it says more than that nothing came
	}
}

// TestInfoString keeps Info's promise that a snapshot is comparable.
func TestInfoIsASnapshot(t *testing.T) {
	s := plainly(t)
	a := s.Info()
	if s.Info() != a {
		t.Error("two snapshots of one moment differ")
	}
	s.write(10)
	if b := s.Info(); b == a || b.InFlight != 10 || b.SndNxt != 111 {
		t.Errorf("after a write: %+v", b)
	}
	if !strings.Contains(a.State.String(), "ESTABLISHED") || a.SRTT != 100*ms {
		t.Errorf("%+v", a)
	}
}

// TestTimeWaitRecord: only a connection that the user has let go of is worth no more than a record.
func TestTimeWaitRecordOfATCB(t *testing.T) {
	s := in(t, TimeWait)
	if _, ok := s.TimeWaitRecord(s.now); ok {
		t.Error("the user still holds the connection")
	}
	s.Release(s.now)
	w, ok := s.TimeWaitRecord(s.now)
	at, _ := s.Deadline()
	if !ok || w.Deadline() != at {
		t.Fatalf("record %v until %v, want until %v", ok, w.Deadline(), at)
	}
	reply, v := w.Arrive(s.now, &Segment{Seq: 301, Ack: 102, Flags: FIN | ACK})
	s.arrive(Segment{Seq: 301, Ack: 102, Flags: FIN | ACK})
	if g := s.take(); v != Stay || reply.String() != g[0].String() || reply.Window != g[0].Window {
		t.Errorf("the record answers %v, the TCB %v", reply, g)
	}
}
