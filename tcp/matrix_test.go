package tcp_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// C76, the matrix of RFC 9293 §3.10.7: every state, every kind of segment, every position in the window, every position
// of the acknowledgement. What must happen is computed by expect, which knows the RFC and not the code.

// kinds are the segments of the matrix.
var kinds = []struct {
	name  string
	flags tcp.Flags
	text  int
}{
	{"SYN", tcp.SYN, 0},
	{"SYN-ACK", tcp.SYN | tcp.ACK, 0},
	{"ACK", tcp.ACK, 0},
	{"FIN", tcp.FIN, 0},
	{"FIN-ACK", tcp.FIN | tcp.ACK, 0},
	{"RST", tcp.RST, 0},
	{"RST-ACK", tcp.RST | tcp.ACK, 0},
	{"SYN-FIN", tcp.SYN | tcp.FIN, 0},
	{"data", tcp.ACK, 5},
}

// position is where SEG.SEQ stands against the receive window.
type position int

const (
	left     position = iota // the whole segment before the window
	lastOld                  // the octet before RCV.NXT: an old segment, or one that straddles the edge
	leftEdge                 // RCV.NXT
	inside                   // behind a hole
	lastIn                   // the last octet of the window
	outside                  // the first octet behind it
)

var positionNames = []string{"left", "left by one", "left edge", "inside", "right edge", "outside"}

func (p position) seq(rcvNxt tcp.Seq, window int) tcp.Seq {
	return rcvNxt + tcp.Seq([...]int{-20, -1, 0, 10, window - 1, window}[p])
}

// answer is where SEG.ACK stands against what we sent.
type answer int

const (
	everything answer = iota // SND.NXT
	nothingNew               // SND.UNA
	future                   // SND.NXT+1
	ancient                  // SND.UNA-MAX.SND.WND-1
)

var answerNames = []string{"acks SND.NXT", "acks SND.UNA", "acks SND.NXT+1", "acks before SND.UNA-MAX.SND.WND"}

// peerWindow is the window in all segments of the peer, so MAX.SND.WND.
const peerWindow = 1000

func (a answer) ack(una, nxt tcp.Seq) tcp.Seq {
	return [...]tcp.Seq{nxt, una, nxt + 1, una - peerWindow - 1}[a]
}

// machine is a connection that was brought into a state by segments, with what they showed of it.
type machine struct {
	t        *tcp.TCB
	l        *tcp.Listener
	config   tcp.Config
	now      time.Duration
	una, nxt tcp.Seq // what the peer acknowledged, and what was sent
	rcvNxt   tcp.Seq // what was acknowledged to the peer
	window   int     // and the window with it
	peerNxt  tcp.Seq // what the peer sends next
	unread   int     // octets that wait for the user
}

// drain takes out all that is sent, and notes what it shows.
func (m *machine) drain() []tcp.Segment {
	var out []tcp.Segment
	for len(out) < 20 {
		var s tcp.Segment
		if m.t == nil || !m.t.Next(m.now, &s) {
			break
		}
		m.see(s)
		out = append(out, s)
	}
	return out
}

func (m *machine) see(s tcp.Segment) {
	if m.nxt.Less(s.End()) {
		m.nxt = s.End()
	}
	if s.Flags.Has(tcp.ACK) {
		m.rcvNxt, m.window = s.Ack, int(s.Window)
	}
}

// hear lets an in-order segment of the peer arrive.
func (m *machine) hear(flags tcp.Flags, acks answer) {
	s := tcp.Segment{Seq: m.peerNxt, Flags: flags, Window: peerWindow}
	if flags.Has(tcp.ACK) {
		s.Ack = acks.ack(m.una, m.nxt)
		m.una = s.Ack
	}
	m.peerNxt = s.End()
	m.t.Arrive(m.now, &s)
	m.drain()
}

func (m *machine) flow() *tcp.Flow { return &tcp.Flow{LocalPort: 80, RemotePort: 4000} }

// state is that of the connection, or of the listener.
func (m *machine) state() tcp.State {
	switch {
	case m.t != nil:
		return m.t.State()
	case m.l != nil && m.l.Len() > 0:
		return tcp.SynReceived
	case m.l != nil:
		return tcp.Listen
	}
	return tcp.Closed
}

// origin says how a connection came to where it is: RFC 9293 §3.5, MUST-11.
type origin int

const (
	active origin = iota
	passive
	listener // SYN-RECEIVED as the Listener's record
	simultaneous
)

// numbers are the initial sequence numbers of both sides: plain ones, and ones that wrap in every window.
var numbers = []struct{ iss, irs tcp.Seq }{{100, 50000}, {0xffffffff, 0xfffffff8}}

// places are the states of the matrix, each with the way into it.
var places = []struct {
	name  string
	state tcp.State
	from  origin
	enter func(m *machine, iss tcp.Seq)
}{
	{"CLOSED", tcp.Closed, active, func(*machine, tcp.Seq) {}},
	{"LISTEN", tcp.Listen, listener, func(m *machine, iss tcp.Seq) { m.listen(iss) }},
	{"SYN-SENT", tcp.SynSent, active, func(m *machine, iss tcp.Seq) { m.open(iss) }},
	{"SYN-RECEIVED of a listener", tcp.SynReceived, listener, func(m *machine, iss tcp.Seq) {
		m.listen(iss)
		syn := m.syn()
		reply, _, _ := m.l.Arrive(m.now, m.flow(), &syn, &m.config)
		m.una, m.nxt = reply.Seq, reply.Seq
		m.see(reply)
	}},
	{"SYN-RECEIVED after a passive open", tcp.SynReceived, passive, func(m *machine, iss tcp.Seq) {
		syn := m.syn()
		m.t, m.una, m.nxt = tcp.Accept(m.now, iss, &syn, &m.config), iss, iss
		m.drain()
	}},
	{"SYN-RECEIVED after a simultaneous open", tcp.SynReceived, simultaneous, func(m *machine, iss tcp.Seq) {
		m.open(iss)
		m.hear(tcp.SYN, nothingNew)
	}},
	{"ESTABLISHED", tcp.Established, active, func(m *machine, iss tcp.Seq) {
		m.connect(iss)
		m.t.Write(m.now, make([]byte, 10))
		m.drain()
	}},
	{"ESTABLISHED with a closed window", tcp.Established, active, func(m *machine, iss tcp.Seq) {
		m.connect(iss)
		for text := make([]byte, 500); m.window > 0 && m.unread < m.config.ReadBuffer; {
			s := tcp.Segment{Seq: m.peerNxt, Ack: m.nxt, Flags: tcp.ACK, Window: peerWindow, Text: [][]byte{text}}
			m.arrive(s)
			m.peerNxt += tcp.Seq(len(text))
			m.unread += len(text)
		}
	}},
	{"FIN-WAIT-1", tcp.FinWait1, active, func(m *machine, iss tcp.Seq) { m.connect(iss); m.close() }},
	{"FIN-WAIT-2", tcp.FinWait2, active, func(m *machine, iss tcp.Seq) {
		m.connect(iss)
		m.close()
		m.hear(tcp.ACK, everything)
	}},
	{"CLOSE-WAIT", tcp.CloseWait, active, func(m *machine, iss tcp.Seq) {
		m.connect(iss)
		m.t.Write(m.now, make([]byte, 10))
		m.drain()
		m.hear(tcp.FIN|tcp.ACK, nothingNew)
	}},
	{"CLOSING", tcp.Closing, active, func(m *machine, iss tcp.Seq) {
		m.connect(iss)
		m.close()
		m.hear(tcp.FIN|tcp.ACK, nothingNew)
	}},
	{"LAST-ACK", tcp.LastAck, active, func(m *machine, iss tcp.Seq) {
		m.connect(iss)
		m.hear(tcp.FIN|tcp.ACK, everything)
		m.close()
	}},
	{"TIME-WAIT", tcp.TimeWait, active, func(m *machine, iss tcp.Seq) {
		m.connect(iss)
		m.close()
		m.hear(tcp.ACK, everything)
		m.hear(tcp.FIN|tcp.ACK, everything)
	}},
}

func (m *machine) listen(iss tcp.Seq) {
	m.l = tcp.NewListener(tcp.ListenConfig{ISS: func(time.Duration, *tcp.Flow) (tcp.Seq, uint32) { return iss, 0 }})
	m.una, m.nxt, m.rcvNxt, m.window = iss, iss+1, m.peerNxt, 20000
}

// syn is the peer's SYN. It offers no option, so nothing is scaled.
func (m *machine) syn() tcp.Segment {
	s := tcp.Segment{Seq: m.peerNxt, Flags: tcp.SYN, Window: peerWindow}
	m.peerNxt++
	return s
}

func (m *machine) open(iss tcp.Seq) {
	m.t, m.una, m.nxt = tcp.Open(m.now, iss, &m.config), iss, iss
	m.rcvNxt, m.window = m.peerNxt, 20000
	m.drain()
}

func (m *machine) connect(iss tcp.Seq) {
	m.open(iss)
	m.hear(tcp.SYN|tcp.ACK, everything)
}

func (m *machine) close() {
	m.t.Close(m.now)
	m.drain()
}

// arrive hands the segment to the machine and returns what is sent because of it within the delay of an ACK.
func (m *machine) arrive(s tcp.Segment) (sent []tcp.Segment, e tcp.Event) {
	switch {
	case m.t != nil:
		e = m.t.Arrive(m.now, &s)
	case m.l != nil:
		reply, t, ev := m.l.Arrive(m.now, m.flow(), &s, &m.config)
		if e, m.t = ev, t; reply.Flags != 0 {
			sent = append(sent, reply)
		}
	default:
		if reply, ok := tcp.ResetFor(&s); ok {
			sent = append(sent, reply)
		}
		return sent, e
	}
	sent = append(sent, m.drain()...)
	if m.t == nil {
		return sent, e
	}
	// RFC 9293 §3.8.6.3: "the delay MUST be less than 0.5 seconds (MUST-40)"; 150 ms is below any retransmission timeout
	if at, ok := m.t.Deadline(); ok && at < m.now+150*time.Millisecond {
		m.now = at
		m.t.Expire(m.now)
		sent = append(sent, m.drain()...)
	}
	return sent, e
}

func TestC76Matrix(t *testing.T) {
	cases := 0
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			for _, k := range kinds {
				for pos := left; pos <= outside; pos++ {
					for acks := everything; acks <= ancient; acks++ {
						if acks > 0 && !k.flags.Has(tcp.ACK) {
							continue
						}
						for _, n := range numbers {
							m := &machine{now: time.Second, peerNxt: n.irs, config: tcp.Config{ReadBuffer: 20000}}
							p.enter(m, n.iss)
							if m.state() != p.state {
								t.Fatalf("the way into %s ends in %s", p.name, m.state())
							}
							if m.unread > 0 && m.window != 0 {
								t.Fatalf("with %d octets unread, the window is %d", m.unread, m.window)
							}
							cases++
							m.try(t, p.from, k.flags, k.text, pos, acks)
						}
					}
				}
			}
		})
	}
	t.Logf("%d cases", cases)
}

// try lets one segment of the matrix arrive and compares what happens with what must.
func (m *machine) try(t *testing.T, from origin, flags tcp.Flags, text int, pos position, acks answer) {
	t.Helper()
	s := tcp.Segment{Seq: pos.seq(m.rcvNxt, m.window), Flags: flags, Window: peerWindow}
	what := positionNames[pos]
	if flags.Has(tcp.ACK) {
		s.Ack = acks.ack(m.una, m.nxt)
		what += ", " + answerNames[acks]
	}
	if text > 0 {
		s.Text = [][]byte{[]byte("abcdefgh")[:text]}
	}
	rcvNxt := m.rcvNxt
	want := expect(situation{state: m.state(), from: from, una: m.una, nxt: m.nxt, rcvNxt: rcvNxt, window: m.window,
		maxWindow: peerWindow}, &s)
	sent, event := m.arrive(s)
	got := outcome{state: m.state(), sent: slices.Clone(sent)}
	if m.t != nil {
		got.reason = m.t.Err()
		b := make([]byte, m.config.ReadBuffer+100)
		b = b[:m.t.Read(m.now, b)]
		got.text = string(b[min(len(b), m.unread):])
	}
	for _, w := range want {
		if w.allows(&got) {
			if w.dropped && event.Drop() == tcp.DropNone && (m.t != nil || m.l != nil) {
				t.Errorf("%s (%s): dropped, and no check is named", s, what)
			}
			return
		}
	}
	t.Errorf("%s (%s)\n\tSND.UNA=%s SND.NXT=%s RCV.NXT=%s RCV.WND=%d\n\tgot:  %s\n\twant: %s", s, what, m.una, m.nxt, rcvNxt,
		m.window, &got, fmt.Sprint(want))
}

// C63, RFC 9293 §3.10.7.1: what a segment to nobody is answered with, text and all.
func TestC63ResetFor(t *testing.T) {
	text := [][]byte{[]byte("four")}
	for _, c := range []struct {
		name string
		s    tcp.Segment
		want string
	}{
		{"SYN", tcp.Segment{Seq: 7, Flags: tcp.SYN}, "<SEQ=0><ACK=8><CTL=RST,ACK>"},
		{"SYN with text", tcp.Segment{Seq: 7, Flags: tcp.SYN, Text: text}, "<SEQ=0><ACK=12><CTL=RST,ACK>"},
		{"SYN and FIN", tcp.Segment{Seq: 7, Flags: tcp.SYN | tcp.FIN}, "<SEQ=0><ACK=9><CTL=RST,ACK>"},
		{"a sum that wraps", tcp.Segment{Seq: 0xfffffffe, Text: text}, "<SEQ=0><ACK=2><CTL=RST,ACK>"},
		{"no flags", tcp.Segment{Seq: 7}, "<SEQ=0><ACK=7><CTL=RST,ACK>"},
		{"FIN with text", tcp.Segment{Seq: 7, Ack: 99, Flags: tcp.FIN, Text: text}, "<SEQ=0><ACK=12><CTL=RST,ACK>"},
		{"ACK", tcp.Segment{Seq: 7, Ack: 99, Flags: tcp.ACK}, "<SEQ=99><CTL=RST>"},
		{"ACK with text", tcp.Segment{Seq: 7, Ack: 99, Flags: tcp.ACK | tcp.PSH, Text: text}, "<SEQ=99><CTL=RST>"},
		{"SYN-ACK", tcp.Segment{Seq: 7, Ack: 99, Flags: tcp.SYN | tcp.ACK}, "<SEQ=99><CTL=RST>"},
		{"RST", tcp.Segment{Seq: 7, Flags: tcp.RST}, ""},
		{"RST with ACK", tcp.Segment{Seq: 7, Ack: 99, Flags: tcp.RST | tcp.ACK}, ""},
		{"RST with SYN", tcp.Segment{Seq: 7, Flags: tcp.RST | tcp.SYN}, ""},
	} {
		got := ""
		if r, ok := tcp.ResetFor(&c.s); ok {
			got = r.String()
			if r.Cause != tcp.CauseReset || r.Window != 0 || r.TextLen() != 0 {
				t.Errorf("%s: the reset carries more than it should: %+v", c.name, r)
			}
		}
		if got != c.want {
			t.Errorf("%s: %s is answered by %q, want %q", c.name, c.s, got, c.want)
		}
	}
}
