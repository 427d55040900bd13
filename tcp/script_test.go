package tcp

import (
	"bytes"
	"testing"
	"time"
)

// A script is one connection whose peer is the test: segments are written by hand, and what comes back is looked at.
// Our sequence numbers begin at 100, the peer's at 300, so that in ESTABLISHED SND.NXT is 101 and RCV.NXT is 301.
type script struct {
	*TCB
	t    *testing.T
	now  time.Duration
	sent []Segment // what Next gave and nobody looked at
}

const ms = time.Millisecond

// plain is a Config without options that change segments: MSS 1460, no timestamps.
func plain() Config { return Config{MTU: 1480, NoTimestamps: true, NoSACK: true, NoScale: true} }

// full is a Config with all options.
func full() Config { return Config{MTU: 1480} }

func (s *script) flush() {
	s.t.Helper()
	for i := 0; ; i++ {
		var g Segment
		if !s.Next(s.now, &g) {
			return
		}
		g.Text = [][]byte{bytes.Join(g.Text, nil)}
		s.sent = append(s.sent, g)
		if i > 10000 {
			s.t.Fatalf("Next does not end: %v %v", g, g.Cause)
		}
	}
}

// opened is an active OPEN with its SYN sent.
func opened(t *testing.T, c Config) *script {
	t.Helper()
	s := &script{t: t, TCB: Open(0, 100, &c)}
	s.want("<SEQ=100><CTL=SYN>")
	return s
}

// accepted is a passive OPEN with its SYN-ACK sent.
func accepted(t *testing.T, c Config, o Options) *script {
	t.Helper()
	s := &script{t: t, TCB: Accept(0, 100, &Segment{Seq: 300, Flags: SYN, Window: 65535, Options: o}, &c)}
	s.want("<SEQ=100><ACK=301><CTL=SYN,ACK>")
	return s
}

// established is a connection that was opened actively; the peer's SYN-ACK came after 100 ms with window w and options o.
func established(t *testing.T, c Config, w uint16, o Options) *script {
	t.Helper()
	s := opened(t, c)
	s.now = 100 * ms
	if ev := s.Arrive(s.now, &Segment{Seq: 300, Ack: 101, Flags: SYN | ACK, Window: w, Options: o}); !ev.Has(Opened) {
		t.Fatalf("the SYN-ACK opens nothing: %#x", ev)
	}
	s.want("<SEQ=101><ACK=301><CTL=ACK>")
	return s
}

// plainly is the usual connection: no options but an MSS of 1460, a window of 65535.
func plainly(t *testing.T) *script {
	t.Helper()
	return established(t, plain(), 65535, Options{MSS: 1460})
}

// in is a connection in state st, opened as plainly does. What it sent was looked at. A FIN of ours stands at 101, one
// of the peer's at 301.
func in(t *testing.T, st State) *script {
	t.Helper()
	switch st {
	case SynSent:
		return opened(t, plain())
	case SynReceived:
		return accepted(t, plain(), Options{MSS: 1460})
	}
	s := plainly(t)
	fin := func(ack Seq) { s.arrive(Segment{Seq: 301, Ack: ack, Flags: FIN | ACK, Window: 65535}) }
	if st == CloseWait || st == LastAck {
		fin(101)
	}
	if st != Established && st != CloseWait {
		s.Close(s.now)
	}
	switch st {
	case FinWait2, TimeWait:
		s.flush()
		s.arrive(Segment{Seq: 301, Ack: 102, Flags: ACK, Window: 65535})
		if st == TimeWait {
			fin(102)
		}
	case Closing:
		s.flush()
		fin(101)
	}
	s.flush()
	s.sent = nil
	s.wantState(st)
	return s
}

// arrive lets a segment arrive now. ACK segments say a window of 65535 where they name none, by wnd being used instead.
func (s *script) arrive(g Segment) Event {
	s.t.Helper()
	ev := s.Arrive(s.now, &g)
	s.flush()
	return ev
}

// ack lets a plain acknowledgement arrive, with a window of 65535.
func (s *script) ack(n Seq) Event {
	s.t.Helper()
	return s.arrive(Segment{Seq: s.rcv.nxt, Ack: n, Flags: ACK, Window: 65535})
}

// text lets n octets arrive at seq.
func (s *script) text(seq Seq, n int) Event {
	s.t.Helper()
	return s.arrive(Segment{Seq: seq, Ack: s.snd.una, Flags: ACK, Window: 65535, Text: [][]byte{letters(seq, n)}})
}

// letters are n octets that tell where they stand.
func letters(seq Seq, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte((uint32(seq)+uint32(i))%26)
	}
	return b
}

// write writes n octets and sends what may go.
func (s *script) write(n int) int {
	s.t.Helper()
	n = s.Write(s.now, make([]byte, n))
	s.flush()
	return n
}

// read reads up to n octets, sends what that makes due, and returns the octets.
func (s *script) read(n int) string {
	s.t.Helper()
	b := make([]byte, n)
	b = b[:s.Read(s.now, b)]
	s.flush()
	return string(b)
}

// wait lets d pass, with all that timers do meanwhile, and returns the events.
func (s *script) wait(d time.Duration) (ev Event) {
	s.t.Helper()
	end := s.now + d
	for i := 0; i < 100000; i++ {
		at, ok := s.Deadline()
		if !ok || at > end {
			break
		}
		s.now = max(s.now, at)
		ev |= s.Expire(s.now)
		s.flush()
	}
	s.now = end
	return ev
}

// want compares all that was sent since the last look with list, and forgets it.
func (s *script) want(list ...string) []Segment {
	s.t.Helper()
	s.flush()
	sent := s.sent
	s.sent = nil
	ok := len(sent) == len(list)
	for i := range sent {
		ok = ok && sent[i].String() == list[i]
	}
	if !ok {
		s.t.Fatalf("sent %v\nwant %v", sent, list)
	}
	return sent
}

// take returns all that was sent since the last look.
func (s *script) take() []Segment {
	s.t.Helper()
	s.flush()
	sent := s.sent
	s.sent = nil
	return sent
}

func (s *script) wantState(st State) {
	s.t.Helper()
	if s.State() != st {
		s.t.Fatalf("in %v (%v), want %v", s.State(), s.Err(), st)
	}
}

func (s *script) wantEnd(why Reason) {
	s.t.Helper()
	if s.State() != Closed || s.Err() != why {
		s.t.Fatalf("in %v because of %v, want CLOSED because of %v", s.State(), s.Err(), why)
	}
	if at, ok := s.Deadline(); ok {
		s.t.Fatalf("CLOSED with a deadline at %v", at)
	}
}

func (s *script) wantDropped(ev Event, d Drop) {
	s.t.Helper()
	if ev.Drop() != d {
		s.t.Fatalf("dropped by %v, want %v", ev.Drop(), d)
	}
}
