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
	ECN         bool // was agreed on (RFC 3168)
	FastOpen    bool // text came with the SYN, ours or the peer's, and was taken (RFC 7413)
	Unread      int  // octets that wait for Read
	Unsent      int  // octets written and not yet sent
	InFlight    int  // octets sent and not yet acknowledged
	OutOfOrder  int  // octets received behind a hole
	Cwnd        int  // congestion window in octets
	Ssthresh    int  // slow-start threshold in octets; 0: none yet
	SRTT        time.Duration
	RTTVar      time.Duration
	RTO         time.Duration
	Backoff     int    // consecutive timeouts
	Retransmits uint32 // segments sent again, in all

	MinRTT       time.Duration // the shortest round trip; 0: none was measured
	Pipe         int           // octets estimated to be in the network (RFC 6675 §4)
	Lost         int           // octets taken for lost that were not sent again yet
	Sacked       int           // octets that the peer has beyond SndUna (RFC 2018)
	Reordering   bool          // packets were seen to arrive out of order (RFC 8985 §6.2)
	Recovering   bool          // a loss is being repaired
	Congestion   string        // the algorithm's name; empty: nothing was in flight yet
	Phase        string        // the algorithm's state
	PacingRate   int64         // octets a second; 0: not paced
	DeliveryRate int64         // octets a second that the path delivered of late, of what the user sent; 0: unknown
	Limit        Limit         // what holds text back

	SegmentsIn  uint64
	SegmentsOut uint64
	BytesIn     uint64 // octets of text delivered to the user's side
	BytesOut    uint64 // octets of text acknowledged by the peer
}

// Limit is what holds a sender back.
type Limit uint8

// The limits, as Info tells them.
const (
	NotSending          Limit = iota // the connection is not open, or was closed for sending
	LimitedByUser                    // all that was written is sent, and there is room for more
	LimitedByBuffer                  // all that was written is sent, and fills the send buffer until it is acknowledged
	LimitedByPeer                    // the peer's window is full
	LimitedByWindow                  // the congestion window is
	LimitedByPacing                  // the next segment waits for its time
	LimitedByCoalescing              // a short segment waits for more text: Nagle's algorithm, or SWS avoidance
)

var limits = [...]string{"not sending", "user", "send buffer", "peer's window", "congestion window", "pacing", "coalescing"}

// String is what stands in a table, such as "congestion window".
func (l Limit) String() string {
	if int(l) < len(limits) {
		return limits[l]
	}
	return "unknown"
}

// limit is what holds text back after Next said that there is nothing to send.
func (t *TCB) limit() Limit {
	queued := t.sendq.end.From(maxSeq(t.snd.nxt, t.sendq.start))
	lost := t.board != nil && t.board.lost > 0 || t.snd.rtx.Less(t.snd.lost)
	switch {
	case !t.sending():
		return NotSending
	case t.snd.held && t.paces:
		return LimitedByPacing
	case t.snd.limited:
		return LimitedByWindow
	case queued == 0 && !lost && t.Room() == 0 && !t.finQueued:
		return LimitedByBuffer
	case queued == 0 && !lost:
		return LimitedByUser
	case t.usable() < min(queued, t.textMSS()):
		return LimitedByPeer
	default:
		return LimitedByCoalescing
	}
}

// measured fills what the scoreboard and congestion control know.
func (t *TCB) measured(i *Info) {
	i.MinRTT, i.Pipe, i.Recovering = t.rtt.min, i.InFlight, t.snd.recovering
	if b := t.board; b != nil {
		i.Pipe, i.Lost, i.Sacked, i.Reordering = b.pipe(), b.lost, b.sacked, b.rack.reordering
		i.DeliveryRate = b.rate.recent(t.rtt.min)
	}
	if cc := t.cc; cc != nil {
		i.Cwnd, i.Ssthresh, i.PacingRate = cc.Window(), cc.Ssthresh(), cc.Pacing()
		i.Congestion, i.Phase = cc.Name(), cc.State()
	}
	i.Limit = t.limit()
}
