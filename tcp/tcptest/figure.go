// Package tcptest runs the diagrams of RFC 9293 as tests. A diagram, written as the RFC writes it, is played by two
// real connections of package tcp, and every line of it must hold: the states of both peers, who sends, and the
// sequence number, acknowledgement, control bits and text of each segment.
//
//	    TCP Peer A                                           TCP Peer B
//
//	1.  CLOSED                                               LISTEN
//	2.  SYN-SENT    --> <SEQ=100><CTL=SYN>               --> SYN-RECEIVED
//	3.  ESTABLISHED <-- <SEQ=300><ACK=101><CTL=SYN,ACK>  <-- SYN-RECEIVED
//	4.  ESTABLISHED --> <SEQ=101><ACK=301><CTL=ACK>      --> ESTABLISHED
//
// # The notation
//
// It is the one of RFC 9293 §3.5. Numbers in front of lines, a heading with the peers' names and a caption that begins
// with "Figure" may be there or not. The left column is peer A's, the right one peer B's. A state is the state after
// the segment of its line departed or arrived; a blank is not checked. SYN_RCVD and ESTAB are understood as well.
//
//	-->  seg  -->    the segment departs from A and arrives at B
//	-->  seg  ...    it departs from A and stays in the network
//	...  seg  -->    it arrives at B out of the network
//	<--  seg  <--    and the same from B to A
//
// A segment is made of <SEQ=n>, <ACK=n>, <CTL=SYN,ACK> and <DATA> or <DATA=n>, in any order. A number may be a name:
// <SEQ=X> gives X the value that it meets first, and <ACK=X+1> computes with it afterwards. PSH is compared where it is drawn.
//
// What a user does follows from the line: a SYN from CLOSED to SYN-SENT is an active OPEN, a segment with new text a
// SEND. The initial sequence number of a peer is the one drawn in its next SYN. Where a peer has nothing to send at
// once, time passes until one of its timers expires, so retransmissions are drawn like any other segment.
//
// # What stands in parentheses
//
// On a line without a segment, or on the side that the segment departs from:
//
//	(Close) (Abort)          the calls of RFC 9293 §3.9.1
//	(Open) (Listen)          an active and a passive OPEN
//	(Send n)                 a SEND of n octets
//	(2 MSL) (40 ms)          time passes, for both peers; MSL is 2 minutes, and 30 days are the most
//	(REBOOT) (CRASH)         the peer forgets everything
//	(send 300,receive 100)   the figure begins with this peer ESTABLISHED, SND.NXT and RCV.NXT being these
//	(duplicate)              an old segment arrives: one sent before, or one that neither peer knows of;
//	                         it may be left out where the sender has no connection
//	(lost)                   what departs on this line never arrives
//
// On the side that the segment arrives at, (Abort!!) says that it ended the connection by a reset, and (return to
// LISTEN!) that this is the state. All other parentheses are comments.
//
// A figure begins in CLOSED, LISTEN or ESTABLISHED. What a peer would send after the last line is not part of the
// figure, nor is an acknowledgement that was due and that the peer's next segment carries.
//
// # Traces
//
// Where time, windows and options matter as well, Script plays a trace against one connection, line by line.
package tcptest

import "testing"

// Figure plays the diagram and ends the test at the first line that does not hold, with the segment as it was drawn
// and as it was sent. The package comment describes the notation.
//
//	func TestRefused(t *testing.T) {
//		tcptest.Figure(t, `
//		      Client                                     Server
//		      CLOSED                                     CLOSED
//		      SYN-SENT  --> <SEQ=x><CTL=SYN>             --> CLOSED
//		      CLOSED    <-- <SEQ=0><ACK=x+1><CTL=RST,ACK> <-- CLOSED`)
//	}
func Figure(t testing.TB, text string) {
	t.Helper()
	if err := Run(text); err != nil {
		t.Fatal(err)
	}
}

// Run is Figure for use outside of a test: it returns what does not hold, or nil.
func Run(text string) error {
	f, err := parse(text)
	if err != nil {
		return err
	}
	return play(f)
}
