package tcp_test

import (
	"fmt"
	"strings"

	"github.com/seed87e66d9f/waybill/tcp"
)

// situation is a connection as RFC 9293 §3.3.1 describes it, before a segment arrives.
type situation struct {
	state            tcp.State
	from             origin
	una, nxt, rcvNxt tcp.Seq
	window           int // RCV.WND
	maxWindow        int // MAX.SND.WND
}

// outcome is what a segment did.
type outcome struct {
	state  tcp.State
	reason tcp.Reason
	text   string
	sent   []tcp.Segment
}

// verdict is an outcome that the RFC allows.
type verdict struct {
	rule    string // the section
	state   tcp.State
	reasons []tcp.Reason // nil: the connection did not end, or ended well
	text    string
	reply   string // in the RFC's notation; "": none
	silent  bool   // the reply may stay away
	dropped bool   // nothing of the segment was used
}

func (v verdict) String() string {
	s := fmt.Sprintf("%s, %s", v.rule, v.state)
	if v.reply != "" {
		s += ", sends " + v.reply
	}
	if v.silent {
		s += " or nothing"
	}
	if v.text != "" {
		s += fmt.Sprintf(", delivers %q", v.text)
	}
	if v.reasons != nil {
		s += fmt.Sprint(", ends: ", v.reasons)
	}
	return s
}

func (o *outcome) String() string {
	s := o.state.String()
	for i := range o.sent {
		s += ", sends " + o.sent[i].String()
	}
	if o.text != "" {
		s += fmt.Sprintf(", delivers %q", o.text)
	}
	if o.reason != tcp.None {
		s += ", ends: " + o.reason.String()
	}
	return s
}

// allows compares. PSH is nobody's business.
func (v *verdict) allows(o *outcome) bool {
	var sent []string
	for _, s := range o.sent {
		s.Flags &^= tcp.PSH
		sent = append(sent, s.String())
	}
	reply := strings.Join(sent, " ")
	reason := o.reason == tcp.None && v.reasons == nil
	for _, r := range v.reasons {
		reason = reason || r == o.reason
	}
	return o.state == v.state && o.text == v.text && reason && (reply == v.reply || v.silent && reply == "")
}

// show writes a reply in the RFC's notation.
func show(seq, ack tcp.Seq, flags tcp.Flags) string {
	return tcp.Segment{Seq: seq, Ack: ack, Flags: flags}.String()
}

// expect is RFC 9293 §3.10.7 with RFC 5961, for segments of the matrix. Where an outcome is open, it returns all.
func expect(c situation, s *tcp.Segment) []verdict {
	switch c.state {
	case tcp.Closed:
		return one(reset("§3.10.7.1", c, s))
	case tcp.Listen:
		return one(expectListen(c, s))
	case tcp.SynSent:
		return expectSynSent(c, s)
	}
	return expectOthers(c, s)
}

func one(v verdict) []verdict { return []verdict{v} }

// reset is the answer of §3.5.2 groups 1 and 2: a reset, except to a reset.
func reset(rule string, c situation, s *tcp.Segment) verdict {
	v := verdict{rule: rule, state: c.state, dropped: true}
	switch {
	case s.Flags.Has(tcp.RST):
	case s.Flags.Has(tcp.ACK):
		v.reply = show(s.Ack, 0, tcp.RST)
	default:
		v.reply = show(0, s.Seq+tcp.Seq(s.Len()), tcp.RST|tcp.ACK)
	}
	return v
}

func expectListen(c situation, s *tcp.Segment) verdict {
	switch {
	case s.Flags.Has(tcp.RST):
		return verdict{rule: "§3.10.7.2 first", state: tcp.Listen, dropped: true}
	case s.Flags.Has(tcp.ACK):
		return reset("§3.10.7.2 second", c, s)
	case s.Flags.Has(tcp.SYN | tcp.FIN): // the RFC would queue the FIN; everybody drops it
		return verdict{rule: "§3.10.7.2 third, SYN with FIN", state: tcp.Listen, dropped: true}
	case s.Flags.Has(tcp.SYN):
		return verdict{rule: "§3.10.7.2 third", state: tcp.SynReceived, reply: show(c.una, s.Seq+1, tcp.SYN|tcp.ACK)}
	}
	return verdict{rule: "§3.10.7.2 fourth", state: tcp.Listen, dropped: true}
}

func expectSynSent(c situation, s *tcp.Segment) []verdict {
	has := s.Flags.Has
	drop := verdict{rule: "§3.10.7.3", state: tcp.SynSent, dropped: true}
	switch {
	case has(tcp.ACK) && s.Ack != c.nxt:
		return one(reset("§3.10.7.3 first", c, s))
	case has(tcp.RST) && has(tcp.ACK):
		return one(verdict{rule: "§3.10.7.3 second", state: tcp.Closed, reasons: []tcp.Reason{tcp.Refused}})
	case has(tcp.SYN) && has(tcp.ACK):
		return one(verdict{rule: "§3.10.7.3 fourth", state: tcp.Established, reply: show(c.nxt, s.Seq+1, tcp.ACK)})
	case has(tcp.SYN):
		v := verdict{rule: "§3.10.7.3 fourth", state: tcp.SynReceived, reply: show(c.una, s.Seq+1, tcp.SYN|tcp.ACK)}
		if has(tcp.FIN) { // as in LISTEN
			return []verdict{v, drop}
		}
		return one(v)
	}
	return one(drop)
}

// acceptable is table 6 of §3.10.7.4: the four cases of a segment with and without length, a window open and closed.
func (c *situation) acceptable(s *tcp.Segment) bool {
	in := func(q tcp.Seq) bool { return uint32(q-c.rcvNxt) < uint32(c.window) }
	n := s.Len()
	if n == 0 && c.state >= tcp.Established && s.Flags&(tcp.ACK|tcp.RST) == tcp.ACK && s.Seq == c.rcvNxt+tcp.Seq(c.window) {
		return true // not in the table: an acknowledgement at the right edge, as Linux takes it
	}
	if c.window == 0 {
		return n == 0 && s.Seq == c.rcvNxt
	}
	return in(s.Seq) || n > 0 && in(s.Seq+tcp.Seq(n)-1)
}

func expectOthers(c situation, s *tcp.Segment) []verdict {
	ack := show(c.nxt, c.rcvNxt, tcp.ACK)
	has := s.Flags.Has
	repeated := c.state == tcp.SynReceived && has(tcp.SYN) && s.Seq == c.rcvNxt-1
	switch {
	case repeated:
		return expectRepeatedSYN(c, s, ack)
	case !c.acceptable(s) && has(tcp.RST):
		return one(verdict{rule: "§3.10.7.4 first", state: c.state, dropped: true})
	case !c.acceptable(s):
		return one(verdict{rule: "§3.10.7.4 first", state: c.state, reply: ack, dropped: true})
	case has(tcp.RST) && s.Seq != c.rcvNxt:
		return one(verdict{rule: "§3.10.7.4 second, 3)", state: c.state, reply: ack, dropped: true})
	case has(tcp.RST):
		return one(expectReset(c))
	case has(tcp.SYN):
		v := verdict{rule: "§3.10.7.4 fourth", state: c.state, reply: ack, dropped: true}
		if c.state == tcp.SynReceived && c.from != simultaneous { // the RFC's own words, which RFC 5961 §4 makes needless
			return []verdict{v, expectReset(c)}
		}
		return one(v)
	case !has(tcp.ACK):
		return one(verdict{rule: "§3.10.7.4 fifth", state: c.state, dropped: true})
	}
	return expectACK(c, s, ack)
}

// expectRepeatedSYN: in SYN-RECEIVED the peer's SYN comes again, so our SYN-ACK was lost or is underway. §3.10.7.4 wants
// an ACK, but sending the SYN-ACK again is what tells the peer more. If it comes with a good ACK, this is figure 7, line
// 6: §A.2 knows that the test of the sequence number is too strict there.
func expectRepeatedSYN(c situation, s *tcp.Segment, ack string) []verdict {
	rule := "§3.10.7.4 first, a SYN again"
	v := []verdict{{rule: rule, state: c.state, reply: ack, dropped: true}}
	switch {
	case !s.Flags.Has(tcp.ACK):
		return append(v, verdict{rule: rule, state: c.state, reply: show(c.una, c.rcvNxt, tcp.SYN|tcp.ACK)})
	case s.Ack != c.nxt:
		return append(v, reset(rule, c, s))
	case c.from == simultaneous:
		v = nil // the figure leaves no choice
	}
	return append(v, verdict{rule: "§3.5, figure 7", state: tcp.Established, reply: ack, silent: true})
}

func expectReset(c situation) verdict {
	v := verdict{rule: "§3.10.7.4 second, 2)", state: tcp.Closed}
	switch c.state {
	case tcp.SynReceived:
		v.reasons = []tcp.Reason{tcp.Refused}
		if c.from == listener {
			v.state, v.reasons = tcp.Listen, nil
		} else if c.from == passive {
			v.reasons = []tcp.Reason{tcp.Refused, tcp.Reset} // the RFC has no name for it
		}
	case tcp.Established, tcp.FinWait1, tcp.FinWait2, tcp.CloseWait:
		v.reasons = []tcp.Reason{tcp.Reset}
	default: // CLOSING, LAST-ACK, TIME-WAIT: the user is told nothing
		v.reasons = []tcp.Reason{tcp.None, tcp.Reset}
	}
	return v
}

// expectACK is the fifth check, for an acceptable segment with ACK and without SYN and RST.
func expectACK(c situation, s *tcp.Segment, ack string) []verdict {
	within := func(lo, hi tcp.Seq) bool { return uint32(s.Ack-lo) <= uint32(hi-lo) } // lo =< SEG.ACK =< hi
	switch {
	case c.state == tcp.SynReceived && !within(c.una+1, c.nxt):
		return one(reset("§3.10.7.4 fifth, SYN-RECEIVED", c, s))
	case !within(c.una-tcp.Seq(c.maxWindow), c.nxt): // RFC 5961 §5.2
		return one(verdict{rule: "§3.10.7.4 fifth", state: c.state, reply: ack, dropped: true})
	}
	finAcked := s.Ack == c.nxt
	v := verdict{rule: "§3.10.7.4 fifth", state: c.state}
	switch {
	case c.state == tcp.SynReceived:
		v.state = tcp.Established
	case c.state == tcp.FinWait1 && finAcked:
		v.state = tcp.FinWait2
	case c.state == tcp.Closing && finAcked:
		v.state = tcp.TimeWait
	case c.state == tcp.LastAck && finAcked:
		v.state = tcp.Closed
		return one(v)
	}
	if s.Len() == 0 {
		return one(v)
	}
	if v.state != tcp.Established && v.state != tcp.FinWait1 && v.state != tcp.FinWait2 {
		// A FIN was received: nothing can come after it. "Ignore the segment text", but "send an acknowledgment for the FIN".
		v.rule, v.reply, v.silent = "§3.10.7.4 seventh", ack, true
		return one(v)
	}
	return one(expectText(c, s, v))
}

// expectText is the seventh and the eighth check where text and FIN are taken.
func expectText(c situation, s *tcp.Segment, v verdict) verdict {
	v.rule, v.reply = "§3.10.7.4 seventh and eighth", show(c.nxt, c.rcvNxt, tcp.ACK)
	if !s.Seq.LessEq(c.rcvNxt) {
		return v // held for later, and MAY-13 with RFC 5681 §4.2: acknowledged at once
	}
	var text string
	for _, b := range s.Text {
		text += string(b)
	}
	text = text[min(len(text), int(c.rcvNxt-s.Seq)):]
	rcvNxt := c.rcvNxt + tcp.Seq(len(text))
	v.text = text
	if s.Flags.Has(tcp.FIN) {
		rcvNxt++
		v.state = map[tcp.State]tcp.State{tcp.Established: tcp.CloseWait, tcp.FinWait1: tcp.Closing,
			tcp.FinWait2: tcp.TimeWait}[v.state]
	}
	v.reply = show(c.nxt, rcvNxt, tcp.ACK)
	return v
}
