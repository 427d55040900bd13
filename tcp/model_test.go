package tcp

import "testing"

// These are what the model check in tcptest once found.

// TestTailProbeStaysWithinTheWindow: RFC 8985 §7.3 sends the last segment again where the window lets no new text go, and
// nothing of the text behind it.
func TestTailProbeStaysWithinTheWindow(t *testing.T) {
	s := established(t, Config{MTU: 1480, NoTimestamps: true}, 500, Options{MSS: 1460, SACKPermitted: true})
	s.write(2000)
	s.want("<SEQ=101><ACK=301><DATA=500><CTL=ACK>")
	s.wait(500 * ms)
	for _, g := range s.take() {
		if Seq(601).Less(g.End()) {
			t.Errorf("%v (%v) goes beyond the window, which ends at 601", g, g.Cause)
		}
	}
	s.arrive(Segment{Seq: 301, Ack: 601, Flags: ACK, Window: 65535})
	s.want("<SEQ=601><ACK=301><DATA=1460><CTL=ACK>", "<SEQ=2061><ACK=301><DATA=40><CTL=PSH,ACK>")
}

// TestWindowWithNewAcknowledgementOnOldText: a window of 1000 octets of which 500 were acknowledged is one of 500, also where
// the acknowledgement comes on text that is sent again and was overtaken.
func TestWindowWithNewAcknowledgementOnOldText(t *testing.T) {
	s := established(t, plain(), 1000, Options{MSS: 500})
	s.write(3000)
	s.want("<SEQ=101><ACK=301><DATA=500><CTL=ACK>", "<SEQ=601><ACK=301><DATA=500><CTL=ACK>")
	s.arrive(Segment{Seq: 311, Ack: 101, Flags: ACK, Window: 1000, Text: [][]byte{letters(311, 10)}})
	s.arrive(Segment{Seq: 301, Ack: 601, Flags: ACK, Window: 500, Text: [][]byte{letters(301, 10)}})
	for _, g := range s.take() {
		if Seq(1101).Less(g.End()) {
			t.Errorf("%v goes beyond the window, which ends at 1101", g)
		}
	}
	s.arrive(Segment{Seq: 321, Ack: 601, Flags: ACK, Window: 1000})
	s.want("<SEQ=1101><ACK=321><DATA=500><CTL=ACK>")
}

// TestAbortOfAnEndedConnectionReturnsItsMemory: a user who lets go by ABORT reads no more.
func TestAbortOfAnEndedConnectionReturnsItsMemory(t *testing.T) {
	e := &endpoint{}
	c := plain()
	c.Memory = e
	s := established(t, c, 65535, Options{MSS: 1460})
	s.text(301, 100)
	s.arrive(Segment{Seq: 401, Flags: RST})
	s.wantEnd(Reset)
	if s.Buffered() != 100 || e.lent != 1 {
		t.Fatalf("%d octets wait in %d chunks, want 100 in one", s.Buffered(), e.lent)
	}
	s.Abort()
	s.flush()
	if s.Buffered() != 0 || e.lent != 0 {
		t.Errorf("%d octets and %d chunks stay behind an ABORT", s.Buffered(), e.lent)
	}
	s.wantEnd(Reset)
}
