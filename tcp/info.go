package tcp

import "time"

// Info is what STATUS tells (RFC 9293 §3.10.6): a comparable snapshot of one connection.
type Info struct {
	State       State
	Err         Reason // why the connection ended
	SoftErr     Reason // the last ICMP error that did not end it
	ISS, IRS    Seq
	SndUna      Seq // oldest unacknowledged octet
	SndNxt      Seq // next octet to send
	SndWnd      int // the peer's window in octets
	RcvNxt      Seq // next octet expected
	RcvWnd      int // our window in octets, as last announced
	MSS         int // effective send MSS: octets of text in one packet (RFC 9293 §3.7.1, MUST-16)
	PeerMSS     int // as the peer's SYN named it, or the default
	Scaled      bool
	SndScale    uint8 // shift of windows that we receive
	RcvScale    uint8 // shift of windows that we send
	Timestamps  bool
	SACK        bool
	Unread      int // octets that wait for Read
	Unsent      int // octets written and not yet sent
	InFlight    int // octets sent and not yet acknowledged
	OutOfOrder  int // octets received behind a hole
	Cwnd        int // congestion window in octets
	Ssthresh    int // slow-start threshold in octets; 0: none yet
	SRTT        time.Duration
	RTTVar      time.Duration
	RTO         time.Duration
	Backoff     int    // consecutive timeouts
	Retransmits uint32 // segments sent again, in all
	SegmentsIn  uint64
	SegmentsOut uint64
	BytesIn     uint64 // octets of text delivered to the user's side
	BytesOut    uint64 // octets of text acknowledged by the peer
}
