package stack

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// A dialog is one TCP connection between a tester and its stack. Sequence numbers are told from 0 on either side: the SYN
// of each stands at 0, and the first octet of text at 1.
type dialog struct {
	*tester
	ports    tcp.Ports // as the tester sends them
	iss, irs tcp.Seq   // the stack's, and the tester's
	conn     *TCPConn
	listener *TCPListener
	dialed   chan error // what a Dial has come to
	window   uint16     // in what the tester says
	options  tcp.Options
}

// The tester's numbers: its sequence numbers wrap with the first octets of text (C73).
const (
	testerISN  = tcp.Seq(0xfffffffe)
	testerPort = 4000
	stackPort  = 80
	fullWindow = 65535
)

// answers is the stack listening, and the tester not having said anything.
func (h *tester) answers() *dialog {
	h.Helper()
	l, err := h.stack.ListenTCP("tcp", netip.AddrPortFrom(netip.Addr{}, stackPort))
	if err != nil {
		h.Fatal(err)
	}
	d := h.stranger()
	d.listener = l
	return d
}

// stranger is a tester that nobody waits for.
func (h *tester) stranger() *dialog {
	return &dialog{tester: h, ports: tcp.Ports{Src: testerPort, Dst: stackPort}, irs: testerISN, window: fullWindow, options: tcp.Options{MSS: 1460}}
}

// calls is the stack in SYN-SENT towards the tester.
func (h *tester) calls() *dialog {
	h.Helper()
	d := h.stranger()
	d.dialed = make(chan error, 1)
	go func() {
		c, err := h.stack.DialTCP(context.Background(), "tcp", netip.AddrPort{}, netip.AddrPortFrom(h.us, testerPort))
		d.conn = c
		d.dialed <- err
	}()
	syn := h.one("Dial")
	d.ports.Dst, d.iss = syn.ports.Src, syn.seg.Seq
	if got := d.relative(&syn); got != "<SEQ=0><CTL=SYN>" || syn.ports.Dst != testerPort {
		h.Fatalf("Dial sends %s", got)
	}
	return d
}

// shakes is a connection that the tester has asked for, and the stack has accepted.
func (h *tester) shakes() *dialog {
	h.Helper()
	d := h.answers()
	d.open()
	return d
}

// asks sends a SYN and takes the SYN-ACK.
func (d *dialog) asks() packetSeen {
	d.Helper()
	d.say(0, -1, tcp.SYN)
	synack := d.one("a SYN")
	d.iss = synack.seg.Seq
	if got := d.relative(&synack); got != "<SEQ=0><ACK=1><CTL=SYN,ACK>" {
		d.Fatalf("a SYN is answered by %s", got)
	}
	return synack
}

// open goes through the handshake, and accepts.
func (d *dialog) open() {
	d.Helper()
	d.asks()
	d.say(1, 1, tcp.ACK)
	d.silent("the ACK of a handshake")
	d.accept()
}

func (d *dialog) accept() {
	d.Helper()
	var err error
	d.listener.SetDeadline(time.Now().Add(time.Millisecond))
	if d.conn, err = d.listener.AcceptTCP(); err != nil {
		d.Fatal(err)
	}
}

// say sends a segment; an ack of -1 is none, and SYNs carry the tester's options.
func (d *dialog) say(seq, ack int, flags tcp.Flags, text ...string) {
	d.Helper()
	s := tcp.Segment{Seq: d.irs + tcp.Seq(seq), Flags: flags, Window: d.window}
	if ack >= 0 {
		s.Ack = d.iss + tcp.Seq(ack)
	}
	if flags.Has(tcp.SYN) {
		s.Options = d.options
	}
	for _, t := range text {
		s.Text = append(s.Text, []byte(t))
	}
	d.segment(d.ports, s)
}

// relative is a segment of the stack with numbers from 0.
func (d *dialog) relative(p *packetSeen) string {
	d.Helper()
	if p.src != d.peer || p.dst != d.us || p.ports != (tcp.Ports{Src: d.ports.Dst, Dst: d.ports.Src}) {
		d.Errorf("%v with ports %v goes astray", p, p.ports)
	}
	seq := int32(p.seg.Seq - d.iss)
	if p.seg.Seq == 0 && p.seg.Flags.Has(tcp.RST) { // from nobody
		seq = 0
	}
	out := fmt.Sprintf("<SEQ=%d>", seq)
	if p.seg.Flags.Has(tcp.ACK) {
		out += fmt.Sprintf("<ACK=%d>", int32(p.seg.Ack-d.irs))
	}
	if n := p.seg.TextLen(); n > 0 {
		out += fmt.Sprintf("<DATA=%d>", n)
	}
	return out + fmt.Sprintf("<CTL=%v>", p.seg.Flags)
}

// said is what the stack has said since the last look.
func (d *dialog) said() []string {
	d.Helper()
	var list []string
	for _, p := range d.sent() {
		list = append(list, d.relative(&p))
	}
	return list
}

// want compares all that the stack has said since the last look with list.
func (d *dialog) want(list ...string) {
	d.Helper()
	if got := d.said(); !slices.Equal(got, list) {
		d.Fatalf("the stack says %v, want %v", got, list)
	}
}

// state is that of the connection: as Conns tells, or LISTEN, or CLOSED.
func (d *dialog) state() tcp.State {
	d.idle()
	st := tcp.Closed
	for c := range d.stack.Conns() {
		switch {
		case c.Network != "tcp":
		case c.Remote == netip.AddrPortFrom(d.us, d.ports.Src):
			return c.State
		case c.State == tcp.Listen:
			st = tcp.Listen
		}
	}
	return st
}

// places are ways into each of the eleven states, with what the stack will say next (SND.NXT) and what it expects
// (RCV.NXT).
var places = []struct {
	name       string
	state      tcp.State
	next, need int
	enter      func(h *tester) *dialog
}{
	{"CLOSED", tcp.Closed, 0, 0, (*tester).stranger},
	{"LISTEN", tcp.Listen, 0, 0, (*tester).answers},
	{"SYN-SENT", tcp.SynSent, 1, 0, (*tester).calls},
	{"SYN-RECEIVED", tcp.SynReceived, 1, 1, func(h *tester) *dialog {
		d := h.answers()
		d.asks()
		return d
	}},
	{"ESTABLISHED", tcp.Established, 1, 1, (*tester).shakes},
	{"FIN-WAIT-1", tcp.FinWait1, 2, 1, func(h *tester) *dialog {
		d := h.shakes()
		d.conn.CloseWrite()
		d.want("<SEQ=1><ACK=1><CTL=FIN,ACK>")
		return d
	}},
	{"FIN-WAIT-2", tcp.FinWait2, 2, 1, func(h *tester) *dialog {
		d := h.shakes()
		d.conn.CloseWrite()
		d.say(1, 2, tcp.ACK)
		d.want("<SEQ=1><ACK=1><CTL=FIN,ACK>")
		return d
	}},
	{"CLOSE-WAIT", tcp.CloseWait, 1, 2, func(h *tester) *dialog {
		d := h.shakes()
		d.say(1, 1, tcp.FIN|tcp.ACK)
		d.want("<SEQ=1><ACK=2><CTL=ACK>")
		return d
	}},
	{"CLOSING", tcp.Closing, 2, 2, func(h *tester) *dialog {
		d := h.shakes()
		d.conn.CloseWrite()
		d.say(1, 1, tcp.FIN|tcp.ACK)
		d.want("<SEQ=1><ACK=1><CTL=FIN,ACK>", "<SEQ=2><ACK=2><CTL=ACK>")
		return d
	}},
	{"LAST-ACK", tcp.LastAck, 2, 2, func(h *tester) *dialog {
		d := h.shakes()
		d.say(1, 1, tcp.FIN|tcp.ACK)
		d.idle()
		d.conn.Close()
		d.want("<SEQ=1><ACK=2><CTL=ACK>", "<SEQ=1><ACK=2><CTL=FIN,ACK>")
		return d
	}},
	{"TIME-WAIT", tcp.TimeWait, 2, 2, func(h *tester) *dialog {
		d := h.shakes()
		d.conn.CloseWrite()
		d.say(1, 2, tcp.FIN|tcp.ACK)
		d.want("<SEQ=1><ACK=1><CTL=FIN,ACK>", "<SEQ=2><ACK=2><CTL=ACK>")
		return d
	}},
	{"TIME-WAIT of a closed socket", tcp.TimeWait, 2, 2, func(h *tester) *dialog {
		d := h.shakes()
		d.conn.Close()
		d.say(1, 2, tcp.FIN|tcp.ACK)
		d.want("<SEQ=1><ACK=1><CTL=FIN,ACK>", "<SEQ=2><ACK=2><CTL=ACK>")
		return d
	}},
}

// verdict is what must come of an event: the state, and what is said, where n stands for SND.NXT, r for RCV.NXT.
type verdict struct {
	state tcp.State
	says  string // "": nothing
}

// keep is a state that stays.
const keep = tcp.State(255)

const challenge = "<SEQ=n><ACK=r><CTL=ACK>"

// rows is what RFC 9293 §3.10.7 and RFC 5961 have each state make of each event. What stands under "" holds for every
// state that says nothing else.
var rows = map[string]map[string]verdict{
	"": {
		"SYN":              {keep, challenge}, // RFC 5961 §4.2
		"SYN, old":         {keep, challenge},
		"RST":              {tcp.Closed, ""},
		"RST in window":    {keep, challenge}, // RFC 5961 §3.2
		"RST outside":      {keep, ""},
		"old ACK":          {keep, ""},
		"FIN":              {keep, challenge}, // the peer's FIN again
		"text at the edge": {keep, ""},        // "This should not occur since a FIN has been received from the remote side. Ignore the segment text."
		"text outside":     {keep, challenge},
	},
	"CLOSED": {
		"SYN":              {keep, "<SEQ=0><ACK=1><CTL=RST,ACK>"},
		"SYN, old":         {keep, "<SEQ=0><ACK=-9><CTL=RST,ACK>"},
		"RST":              {keep, ""},
		"RST in window":    {keep, ""},
		"old ACK":          {keep, "<SEQ=-1><CTL=RST>"},
		"FIN":              {keep, "<SEQ=0><CTL=RST>"},
		"text at the edge": {keep, "<SEQ=0><CTL=RST>"},
		"text outside":     {keep, "<SEQ=0><CTL=RST>"},
	},
	"LISTEN": {
		"SYN":              {tcp.SynReceived, "<SEQ=0><ACK=1><CTL=SYN,ACK>"},
		"SYN, old":         {tcp.SynReceived, "<SEQ=0><ACK=-9><CTL=SYN,ACK>"},
		"RST":              {keep, ""},
		"RST in window":    {keep, ""},
		"old ACK":          {keep, "<SEQ=-1><CTL=RST>"},
		"FIN":              {keep, "<SEQ=0><CTL=RST>"},
		"text at the edge": {keep, "<SEQ=0><CTL=RST>"},
		"text outside":     {keep, "<SEQ=0><CTL=RST>"},
	},
	"SYN-SENT": {
		"SYN":              {tcp.SynReceived, "<SEQ=0><ACK=1><CTL=SYN,ACK>"},
		"SYN, old":         {tcp.SynReceived, "<SEQ=0><ACK=-9><CTL=SYN,ACK>"},
		"RST":              {keep, ""}, // it acknowledges nothing: TestSynSentReset has one that does
		"RST in window":    {keep, ""},
		"old ACK":          {keep, "<SEQ=0><CTL=RST>"},
		"FIN":              {keep, ""},
		"text at the edge": {keep, ""},
		"text outside":     {keep, ""},
	},
	"SYN-RECEIVED": {
		"RST":              {tcp.Listen, ""},
		"old ACK":          {keep, "<SEQ=0><CTL=RST>"},
		"FIN":              {tcp.CloseWait, "<SEQ=1><ACK=2><CTL=ACK>"},
		"text at the edge": {tcp.Established, "<SEQ=1><ACK=4><CTL=ACK>"},
	},
	"ESTABLISHED": {
		"FIN":              {tcp.CloseWait, "<SEQ=1><ACK=2><CTL=ACK>"},
		"text at the edge": {keep, "<SEQ=1><ACK=4><CTL=ACK>"},
	},
	"FIN-WAIT-1": {
		"FIN":              {tcp.Closing, "<SEQ=2><ACK=2><CTL=ACK>"},
		"text at the edge": {keep, "<SEQ=2><ACK=4><CTL=ACK>"},
	},
	"FIN-WAIT-2": {
		"FIN":              {tcp.TimeWait, "<SEQ=2><ACK=2><CTL=ACK>"},
		"text at the edge": {keep, "<SEQ=2><ACK=4><CTL=ACK>"},
	},
	"TIME-WAIT of a closed socket": {
		"SYN":              {tcp.SynReceived, "<SEQ=0><ACK=3><CTL=SYN,ACK>"}, // RFC 6191 §2, MAY-2
		"text at the edge": {keep, challenge},                                // §3.10.7.4 lets nothing but a FIN arrive here
	},
}

// happen lets an event of the table happen. n is SND.NXT, r is RCV.NXT, and una is SND.UNA.
func (d *dialog) happen(event string, st tcp.State, n, r int) {
	una := n
	switch st {
	case tcp.SynSent, tcp.SynReceived, tcp.FinWait1, tcp.Closing, tcp.LastAck:
		una-- // our SYN or FIN is not acknowledged
	}
	ack := una
	if st == tcp.SynSent || st == tcp.SynReceived {
		ack = n
	}
	switch event {
	case "SYN":
		d.say(r, -1, tcp.SYN)
	case "SYN, old":
		d.say(r-10, -1, tcp.SYN)
	case "RST":
		d.say(r, -1, tcp.RST)
	case "RST in window":
		d.say(r+1, -1, tcp.RST)
	case "RST outside":
		d.say(r-1, -1, tcp.RST)
		d.say(r+1<<24, -1, tcp.RST)
	case "old ACK":
		s := tcp.Segment{Seq: d.irs + tcp.Seq(r), Ack: d.iss + tcp.Seq(una) - 1, Flags: tcp.ACK, Window: d.window}
		if st == tcp.SynSent || st == tcp.SynReceived {
			s.Ack++
		}
		d.segment(d.ports, s)
	case "FIN":
		if r == 2 { // it was there before
			r = 1
		}
		d.say(r, ack, tcp.FIN|tcp.ACK)
	case "text at the edge":
		d.say(r, ack, tcp.ACK, "abc")
	case "text outside":
		d.say(r+1<<24, ack, tcp.ACK, "abc")
	}
}

// TestC76MatrixThroughTheStack puts real connections into each of the eleven states, and looks at what the wire and
// Conns show of the reaction.
func TestC76MatrixThroughTheStack(t *testing.T) {
	for _, p := range places {
		for event := range rows[""] {
			t.Run(p.name+"/"+event, func(t *testing.T) {
				bare(t, Config{}, func(h *tester) {
					d := p.enter(h)
					if st := d.state(); st != p.state {
						t.Fatalf("the way leads to %v", st)
					}
					want, ok := rows[p.name][event]
					if !ok {
						want = rows[""][event]
					}
					if want.state == keep {
						want.state = p.state
					} else if want.state == tcp.Closed {
						want.state = tcp.Listen // which the connection came out of
					}
					d.happen(event, p.state, p.next, p.need)
					d.pass(60 * time.Millisecond) // a delayed acknowledgement
					seen := d.sent()
					var got []string
					for i := range seen {
						if seen[i].seg.Flags.Has(tcp.SYN) {
							d.iss = seen[i].seg.Seq
						}
						got = append(got, d.relative(&seen[i]))
					}
					says := strings.NewReplacer("n", fmt.Sprint(p.next), "r", fmt.Sprint(p.need)).Replace(want.says)
					if strings.Join(got, " ") != says {
						t.Errorf("the stack says %v, want %v", got, says)
					}
					if st := d.state(); st != want.state {
						t.Errorf("%v follows, want %v", st, want.state)
					}
				})
			})
		}
	}
}
