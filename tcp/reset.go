package tcp

// ResetFor is the answer to a segment that belongs to no connection: RFC 9293 §3.10.7.1, and §3.10.7.2 second for an
// acknowledgement that reaches a LISTEN. It is false where silence is the answer: to a reset. The ports and addresses
// of the answer are those of s, exchanged.
func ResetFor(s *Segment) (Segment, bool) {
	// RFC 9293 §3.10.7.1: "An incoming segment containing a RST is discarded."
	if s.Flags.Has(RST) {
		return Segment{}, false
	}
	if s.Flags.Has(ACK) {
		return Segment{Seq: s.Ack, Flags: RST, Cause: CauseReset}, true
	}
	// RFC 9293 §3.10.7.1: "If the ACK bit is off, sequence number zero is used"
	return Segment{Ack: s.End(), Flags: RST | ACK, Cause: CauseReset}, true
}
