// Package tcp is TCP (RFC 9293) as a value. It knows no IP, no socket, no clock and no goroutine: segments and the time
// go in, segments and events come out.
//
// # A connection
//
// A [TCB] is one connection. Its verbs are the three kinds of events of RFC 9293 §3.10, and what comes of them:
//
//	user calls        Open, Accept, Write, Read, Close, Abort, Info …   user.go
//	arriving segments Arrive                                            input.go, ack.go, text.go, sack.go, recovery.go
//	timeouts          Expire, when Deadline has come                    timeout.go
//	and then          Next, until it answers false                      output.go, send.go
//
// Whoever owns a TCB does, in one goroutine or under one lock:
//
//	ev := t.Arrive(now, &in) // or Expire, Write, Read, Close, …
//	for t.Next(now, &out) {
//		// send out: its text is borrowed until Next is called again
//	}
//	at, ok := t.Deadline() // when to call Expire
//
// now is a duration since any instant. A handshake by hand needs nothing else:
//
//	c := tcp.Open(0, 100, &tcp.Config{})
//	c.Next(0, &s)                                    // <SEQ=100><CTL=SYN>
//	c.Arrive(10*time.Millisecond, &synAck)
//	c.State()                                        // ESTABLISHED
//
// # States
//
// Those of RFC 9293 §3.3.2. CLOSE stands for Close, and snd for what Next yields.
//
//	            Open: snd SYN                 Accept: snd SYN,ACK
//	                 |                                |
//	                 v             rcv SYN            v
//	             SYN-SENT --------------------> SYN-RECEIVED
//	                 | rcv SYN,ACK: snd ACK           | rcv ACK of SYN
//	                 +--------> ESTABLISHED <---------+
//	CLOSE: snd FIN  |                         |  rcv FIN: snd ACK
//	                v                         v
//	           FIN-WAIT-1                CLOSE-WAIT
//	rcv ACK of FIN |  | rcv FIN: snd ACK      | CLOSE: snd FIN
//	               v  v                       v
//	       FIN-WAIT-2  CLOSING            LAST-ACK
//	rcv FIN:   |         | rcv ACK of FIN     | rcv ACK of FIN
//	snd ACK    v         v                    v
//	           TIME-WAIT ---- 2 MSL -----> CLOSED
//
// LISTEN is not a state of a TCB but a value of its own, the [Listener]: it answers SYNs out of small records and
// cookies, and makes a TCB once a handshake is complete.
//
// # What is implemented
//
// RFC 9293 with the checks of RFC 5961; the retransmission timer of RFC 6298; window scaling, timestamps and PAWS of
// RFC 7323; path MTU changes (RFC 1191) and the validation of ICMP errors (RFC 5927).
//
// Loss recovery with SACK (RFC 2018) and D-SACK (RFC 2883): a scoreboard (RFC 6675), RACK-TLP (RFC 8985), Proportional
// Rate Reduction (RFC 9937), and the undoing of what was for nothing by D-SACK (RFC 3708), by timestamps (RFC 3522, RFC
// 4015) and by F-RTO (RFC 5682). Without SACK: fast retransmit and fast recovery of RFC 5681 and RFC 6582, with limited
// transmit (RFC 3042).
//
// Congestion control behind [Congestion]: CUBIC (RFC 9438) with HyStart++ (RFC 9406), [NewCubic]; that of RFC 5681,
// [NewReno]; and BBR, version 3 (draft-ietf-ccwg-bbr), [NewBBR], which is paced, and for which the connection measures the
// path's delivery rate, see [PathModel]. A window that is not used does not grow, and is not kept for ever (RFC 7661).
//
// Explicit Congestion Notification (RFC 3168, RFC 8311) where the peer asks for it, and where Config.ECN says so it is asked
// for; CUBIC and NewReno answer a mark by RFC 8511, BBR sends not-ECT. TCP Fast Open (RFC 7413), [TCB.FastOpen] and
// ListenConfig.FastOpen.
//
// Not implemented: urgent data is delivered in line (RFC 6093) and never sent; AccECN (RFC 9768) is answered as RFC 3168 has it;
// the User Timeout Option (RFC 5482) is passed over, since it lets a peer say how long our memory is to be held, and no system
// in use sends it, so the timeout is what the user here sets; security compartments are not checked.
package tcp
