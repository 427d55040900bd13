package tcp

import "time"

// This file is Explicit Congestion Notification: RFC 3168 with what RFC 8311 and RFC 8511 made of it. A router that would
// drop a packet marks it instead, the receiver echoes that, and the sender answers as if it were lost. Not implemented:
// AccECN (RFC 9768); a SYN that offers it is answered as RFC 3168 has it, which such a peer understands.

// ECN says when a connection uses Explicit Congestion Notification.
type ECN uint8

// The choices.
const (
	ECNOnRequest ECN = iota // where the peer's SYN asks for it, as Linux does (net.ipv4.tcp_ecn=2)
	ECNActive               // our SYN asks for it as well
	ECNOff                  // never
)

// The codepoints of Segment.ECN (RFC 3168 §5).
const (
	NotECT uint8 = iota // not ECN-capable
	ECT1                // ECN-capable; left to experiments by RFC 8311 §4.2, and never sent here
	ECT0                // ECN-capable
	CE                  // congestion experienced
)

// ecnState are bits that say where a connection stands with ECN.
type ecnState uint8

const (
	ecnAsked   ecnState = 1 << iota // our SYN is an ECN-setup SYN
	ecnAgreed                       // CE is echoed, and CWR looked at
	ecnSends                        // new text is sent as ECT(0), and ECE obeyed
	ecnEcho                         // ECE stands on what we send, until CWR comes
	ecnReduced                      // the congestion window was reduced: CWR is due on the next new text
)

// maxMarks is how many windows in a row may end with a mark, and no acknowledgement between without, before marks are taken
// for the work of something broken: then text goes as not-ECT, and congestion shows by loss. It is this project's choice:
// even where only two packets are in flight, a queue that marks 16 windows without a gap would better have dropped.
const maxMarks = 16

// setupECN reports whether a SYN is an ECN-setup SYN (RFC 3168 §6.1.1). As on Linux, one whose own IP header is ECN-capable is
// taken for mangled: "A host MUST NOT set ECT on SYN or SYN-ACK packets."
func setupECN(syn *Segment) bool { return syn.Flags.Has(ECE|CWR) && syn.ECN == NotECT }

// agreeECN takes the outcome of the handshake over. RFC 3168 §6.1.1: "A host MUST NOT set ECT on data packets unless it has
// sent at least one ECN-setup SYN or ECN-setup SYN-ACK packet, and has received at least one ECN-setup SYN or ECN-setup
// SYN-ACK packet, and has sent no non-ECN-setup SYN or non-ECN-setup SYN-ACK packet." A SYN that was sent again was none; CE
// is echoed nonetheless.
func (t *TCB) agreeECN(agreed bool) {
	t.ecn = 0
	if agreed {
		t.ecn = ecnAgreed
		if !t.snd.synAgain {
			t.ecn |= ecnSends
		}
	}
	t.snd.reduced = t.snd.iss
}

// markText makes new text ECN-capable, and puts CWR on the first behind a reduction. RFC 3168 §6.1.2: "the TCP sender sets the
// CWR flag in the TCP header of the first new data packet sent after the window reduction". All else, above all what is sent
// again (§6.1.5), stays not-ECT.
func (t *TCB) markText(s *Segment) {
	if t.ecn&ecnSends == 0 || s.TextLen() == 0 {
		return
	}
	s.ECN = ECT0
	if t.ecn&ecnReduced != 0 {
		t.ecn &^= ecnReduced
		s.Flags |= CWR
	}
}

// heardECN looks at text that has arrived, within the window. RFC 3168 §6.1.3: "the TCP data receiver sets the ECN-Echo flag
// in the TCP header of the subsequent ACK packet", and in all that follow "until it receives a CWR packet". Both are answered
// at once, as the sender's window may be down to a packet.
func (t *TCB) heardECN(a *arrival) {
	if a.len == 0 {
		return
	}
	if a.Flags.Has(CWR) && t.ecn&ecnEcho != 0 {
		t.ecn &^= ecnEcho
		t.ackNow(CauseAck)
	}
	if a.ECN == CE && t.ecn&ecnEcho == 0 {
		t.ecn |= ecnEcho
		t.ackNow(CauseAck)
	}
}

// echoed looks for ECE on an acknowledgement, before SND.UNA moves. It reports whether the congestion window may not grow by
// it: RFC 3168 §6.1.2: "The sending TCP SHOULD NOT increase the congestion window in response to the receipt of an ECN-Echo
// ACK packet."
func (t *TCB) echoed(now time.Duration, a *arrival) bool {
	switch {
	case t.ecn&ecnSends == 0:
		return false
	case !a.Flags.Has(ECE):
		t.marks = 0
		if t.snd.reduced.Less(t.snd.una) {
			t.snd.reduced = t.snd.una - 1 // it stays within 2³¹ of SND.UNA
		}
		return false
	}
	// RFC 3168 §6.1.2: "TCP should not react to congestion indications more than once every window of data (or more loosely,
	// more than once every round-trip time)." A loss that is being repaired was one. It departs from §6.1.2 in that the window
	// stays above two segments, as after a loss (RFC 5681 §3.1) and on Linux, where the RFC has it wait for the timer.
	flight := t.snd.nxt.From(t.snd.una)
	if t.cc == nil || flight == 0 || t.snd.recovering || t.ecn&ecnReduced != 0 || !t.snd.reduced.Less(a.Ack) {
		return true
	}
	if t.marks++; t.marks >= maxMarks {
		t.ecn &^= ecnSends
		return true
	}
	if b := t.board; b != nil {
		flight = max(b.pipe(), t.flight())
		b.revert = revert{} // what may be found to have been for nothing is no longer the last reduction
	}
	t.cc.Loss(now, Sample{InFlight: flight, CE: true})
	t.cc.Recovered(now)
	t.tellReduced()
	return true
}

// tellReduced notes that the congestion window was reduced, for whatever reason: CWR is due, and until what is in flight now
// was acknowledged, and the CWR with it, ECE says nothing new.
func (t *TCB) tellReduced() {
	if t.ecn&ecnSends != 0 {
		t.ecn |= ecnReduced
		t.snd.reduced = t.snd.nxt
	}
}

// hasReduced reports whether a mark, or something else, has reduced the congestion window within the window that is in flight:
// a loss in it is no second reason. RFC 3168 §6.1.2: "the TCP sender's congestion window should be reduced only once in response
// to a series of dropped and/or CE packets from a single window of data."
func (t *TCB) hasReduced() bool { return t.ecn&ecnSends != 0 && t.snd.una.LessEq(t.snd.reduced) }

// withdrawReduced takes tellReduced back: there was no reason.
func (t *TCB) withdrawReduced() {
	t.ecn &^= ecnReduced
	t.snd.reduced = t.snd.una - 1
}

// suspectECN looks at a retransmission timeout. Where none of the text has got through since the connection began, it may be
// that something on the path drops what is ECN-capable: RFC 3168 leaves a sender the choice not to be, at any time.
func (t *TCB) suspectECN() {
	if t.textOut == 0 {
		t.ecn &^= ecnSends
	}
}
