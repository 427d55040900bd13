package tcp

import "time"

// TCB is one connection, the transmission control block of RFC 9293 §3.3.1: a value with no lock, no goroutine, no
// clock and no I/O. Segments and now go in, segments and events come out. After each call that may change what there
// is to send, the owner calls Next until it answers false, and Expire when Deadline has come.
//
// now is the time since an instant of the caller's choice. It never goes backwards.
//
// The send sequence space (RFC 9293 §3.3.1, Figure 3):
//
//	           1         2          3          4
//	      ----------|----------|----------|----------
//	             SND.UNA    SND.NXT    SND.UNA
//	                                  +SND.WND
//	1 acknowledged  2 sent, not acknowledged  3 may be sent  4 may not yet be sent
//
// and the receive sequence space (Figure 4):
//
//	               1          2          3
//	           ----------|----------|----------
//	                  RCV.NXT    RCV.NXT
//	                            +RCV.WND
//	1 acknowledged  2 acceptable  3 not yet acceptable
type TCB struct {
	c     *Config
	state State
	err   Reason // why it became Closed
	soft  Reason // the last soft error

	passive    bool // born of a SYN that arrived
	released   bool // the user let go: Release
	readClosed bool // the user reads no more: CloseRead
	finQueued  bool // the user has CLOSEd: a FIN ends the send pipe
	noDelay    bool // the Nagle algorithm is off
	ts         bool // timestamps were agreed on (RFC 7323 §3.2)
	scaled     bool // window scaling was agreed on (RFC 7323 §2.2)
	sack       bool // SACK was agreed on (RFC 2018 §2)
	fresh      bool // soft was noted after the peer was last heard of
	modelled   bool // cc is a PathModel
	paces      bool // cc names a rate
	ecn        ecnState
	marks      uint8 // windows in a row that ended with a congestion mark

	snd    sender
	rcv    receiver
	out    due
	mtu    int32                    // octets of a segment that a packet of the path holds
	timers [numTimers]time.Duration // when each expires; 0: off

	rtt        rtt
	cc         Congestion  // made when text is first in flight
	sendq      pipe        // [SND.UNA, what the user wrote last), SYN and FIN left out
	recvq      pipe        // [what the user reads next, …), with holes behind RCV.NXT
	ooo        *ranges     // what stands in recvq behind RCV.NXT; made with the first hole
	free       *Chunk      // chunks that Next returns to Memory
	board      *scoreboard // what is in flight, where SACK was agreed on; gone when nothing was for an RTO
	keep       *keepAlive  // nil: no keep-alive
	patience   time.Duration
	buf        buffers
	search     *mtuSearch // nil: full-sized segments get through
	opening    *fastOpen  // nil: no Fast Open, or it is over
	tsOffset   uint32
	challenges uint32 // when counting challenge ACKs began, in ms
	segsIn     uint64
	segsOut    uint64
	textIn     uint64
	textOut    uint64
}

// sender is the send side: RFC 9293 §3.3.1's send sequence variables and what retransmission needs.
type sender struct {
	iss, una, nxt Seq
	wl1, wl2      Seq
	wnd, maxWnd   uint32 // SND.WND and MAX.SND.WND (RFC 5961 §5.2) in octets
	scale         uint8  // shift of the windows that we receive
	fast          bool   // the text of the SYN, ours or the peer's, was taken (RFC 7413)
	mss           uint16 // octets of one packet's text and options: the smaller of the peer's MSS and what the MTU holds
	peerMSS       uint16
	retries       uint8  // timeouts since the peer last acknowledged something new
	backoff       uint8  // doublings of the RTO, kept until there is a new RTT sample (Karn)
	probes        uint8  // window probes since the window was last open
	dups          uint8  // duplicate acknowledgements in a row
	boards        uint8  // scoreboards that were made so far
	cause         Cause  // why [rtx, lost) is sent again
	recovering    bool   // between a fast retransmit and the acknowledgement of recover
	limited       bool   // the congestion window, and nothing else, held text back
	override      bool   // the SWS override timeout came (RFC 9293 §3.8.6.2.1, rule 4)
	timing        bool   // [timed) is being timed
	synAgain      bool   // the SYN was sent more than once
	held          bool   // text waits for departs
	rtx, lost     Seq    // [rtx, lost) is to be sent again; empty: nothing
	recover       Seq    // RFC 6582 §3.2: SND.NXT when the last loss was found; once it is passed, SND.UNA-1
	inflated      int32  // octets that duplicate acknowledgements say have left the network
	timed         Seq    // an acknowledgement of this ends the measurement of the RTT
	maxText       int32  // Config.MaxText
	reduced       Seq    // SND.NXT when the congestion window was last reduced, where ECN is in use
	again         uint32 // segments sent again, in all
	timedAt       time.Duration
	sentAt        time.Duration // when text was last sent
	departs       time.Duration // when text may leave, where cc names a rate, or where it is corked; a timer where held
}

// receiver is the receive side: RFC 9293 §3.3.1's receive sequence variables and what acknowledging needs.
type receiver struct {
	irs, nxt  Seq
	edge      Seq   // RCV.NXT+RCV.WND as announced: the first octet that is not acceptable
	beyond    int32 // octets by which rounding has put edge beyond the buffer
	acked     Seq   // Last.ACK.sent of RFC 7323 §4.3
	fin       Seq   // where the peer's FIN stands, where hasFin
	dup       Block // what arrived again, to be said in a D-SACK (RFC 2883); empty: nothing
	scale     uint8
	challenge uint8  // challenge ACKs since TCB.challenges
	full      uint16 // the text of a full-sized segment, as far as seen
	quick     uint8  // full-sized segments that are still acknowledged at once
	hasFin    bool   // the peer's FIN has arrived, perhaps ahead of text
	ended     bool   // RCV.NXT has passed the peer's FIN
	starved   bool   // Memory refused: the window does not grow
	tsRecent  uint32 // TS.Recent of RFC 7323 §4.3
	dupAckAt  uint32 // when an unacceptable segment was last answered, in ms; 0: never
	tsRecentA time.Duration
	heardAt   time.Duration // when an acceptable segment last arrived
}

// due is what Next owes apart from text.
type due struct {
	ack    Cause // CauseNone: no acknowledgement need go now
	dup    bool  // it tells of a hole: it goes before text, for a peer that counts duplicates
	probe  Cause // a probe with an octet that was acknowledged already
	reset  bool
	rstACK bool // the reset has the ACK bit
	rstSeq Seq
}

// The timers.
const (
	timerRetransmit = iota // retransmission; where nothing is outstanding, the window probe or the SWS override
	timerDelayedACK
	timerKeepAlive
	timerUser // R2 of RFC 9293 §3.8.3
	timerWait // TIME-WAIT, or FIN-WAIT-2 of a connection that the user has let go
	timerLoss // what RACK waits for: see pending
	numTimers
)

const (
	// defaultMSS: RFC 9293 §3.7.1 (MUST-15), for IPv4.
	defaultMSS = 536
	// minMSS bounds what a peer or a router can make us send: Linux's TCP_MIN_SND_MSS, which leaves 8 octets beside
	// 40 of options (CVE-2019-11479).
	minMSS = 48
	// maxSegment is the largest segment where Config names no MTU: an IPv4 packet less its header, and for IPv6 the
	// longest payload, rounded to the same.
	maxSegment = 65515
)

// noScale is the handshake's scale of a peer that named none: more than maxWindowScale.
const noScale = 15

// handshake is what a SYN told us and what we answered: all that a connection in SYN-RECEIVED starts from.
type handshake struct {
	iss, irs Seq
	mss      uint16 // the peer's; 0: it named none
	window   uint16
	scale    uint8 // the peer's, at most 14; noScale: it named none
	ecn      bool  // the peer's SYN was an ECN-setup SYN
	sack     bool
	ts       bool
	tsVal    uint32 // the peer's
	tsOffset uint32
	sentAt   time.Duration // of the SYN-ACK, for the RTT; 0: unknown, or it was sent more than once
}

// read fills h from a SYN, apart from what is ours.
func (h *handshake) read(syn *Segment) {
	o := &syn.Options
	h.irs, h.mss, h.window = syn.Seq, o.MSS, syn.Window
	// RFC 7323 §2.3: "If a Window Scale option is received with a shift.cnt value larger than 14, the TCP SHOULD log
	// the error but MUST use 14 instead of the specified value."
	h.scale = min(o.WindowScale, maxWindowScale)
	if !o.HasScale {
		h.scale = noScale
	}
	h.ecn = setupECN(syn)
	h.sack, h.ts, h.tsVal = o.SACKPermitted, o.HasTimestamps, o.TSVal
}

// synAck is the SYN-ACK that answers h at now: options that both sides want, and a window that is never scaled.
func (h *handshake) synAck(now time.Duration, c *Config) Segment {
	s := Segment{Seq: h.iss, Ack: h.irs + 1, Flags: SYN | ACK, Window: c.synWindow(), Cause: CauseData}
	if h.ecn && c.ECN != ECNOff {
		s.Flags |= ECE // RFC 3168 §6.1.1: ECE without CWR makes it an ECN-setup SYN-ACK
	}
	s.Options.MSS = c.announcedMSS()
	if h.scale != noScale && !c.NoScale {
		s.Options.HasScale, s.Options.WindowScale = true, c.windowScale()
	}
	s.Options.SACKPermitted = h.sack && !c.NoSACK
	if h.ts && !c.NoTimestamps {
		s.Options.HasTimestamps = true
		s.Options.TSVal, s.Options.TSEcr = ticks(now)+h.tsOffset, h.tsVal
	}
	return s
}

// ticks is the timestamp clock: one tick a millisecond (RFC 7323 §5.4 allows 1 ms to 1 s).
func ticks(now time.Duration) uint32 { return uint32(now / time.Millisecond) }

func orDefault[T int | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

// segmentSize is MTU, or what no MTU means.
func (c *Config) segmentSize() int { return min(orDefault(c.MTU, maxSegment), maxSegment) }

// announcedMSS is the MSS option of our SYN.
func (c *Config) announcedMSS() uint16 {
	// RFC 9293 §3.7.1: "The MSS value to be sent in an MSS Option should be equal to the effective MTU minus the fixed
	// IP and TCP headers."
	return uint16(max(c.segmentSize()-HeaderLen, minMSS))
}

// windowScale is the smallest shift with which the whole of ReadBuffer can be announced.
func (c *Config) windowScale() uint8 {
	shift := uint8(0)
	for n := orDefault(c.ReadBuffer, DefaultBuffer); n>>shift > 65535 && shift < maxWindowScale; {
		shift++
	}
	return shift
}

// synWindow is the window of a SYN. RFC 7323 §2.2: "The window field in a segment where the SYN bit is set (i.e., a
// <SYN> or <SYN,ACK>) MUST NOT be scaled."
func (c *Config) synWindow() uint16 {
	return uint16(min(orDefault(c.ReadBuffer, DefaultBuffer), 65535))
}

func newTCB(c *Config, iss Seq) *TCB {
	t := &TCB{c: c, noDelay: !c.Nagle, mtu: int32(c.segmentSize())}
	t.snd.maxText = int32(c.MaxText)
	t.buf.init(c)
	t.snd.iss, t.snd.una, t.snd.nxt, t.snd.recover = iss, iss, iss, iss
	t.snd.rtx, t.snd.lost = iss, iss
	t.rcv.full, t.rcv.quick = defaultMSS, quickACKs
	t.sendq.reset(iss + 1)
	return t
}

// Open is OPEN, active (RFC 9293 §3.10.1): a connection in SYN-SENT, whose first Next is the SYN. iss is the initial
// send sequence number, which the caller makes hard to guess (RFC 6528). c is kept.
func Open(now time.Duration, iss Seq, c *Config) *TCB {
	t := newTCB(c, iss)
	t.state = SynSent
	if c.ECN == ECNActive {
		t.ecn = ecnAsked
	}
	t.set(timerUser, now+orDefault(c.SYNTimeout, synTimeout))
	return t
}

// Accept makes a connection in SYN-RECEIVED of a SYN that came to a listener; its first Next is the SYN-ACK.
func Accept(now time.Duration, iss Seq, syn *Segment, c *Config) *TCB {
	h := handshake{iss: iss}
	h.read(syn)
	t := restore(now, &h, c)
	t.snd.nxt = iss
	t.snd.timing = false
	t.stop(timerRetransmit)
	return t
}

// restore makes a connection in SYN-RECEIVED whose SYN-ACK has been sent.
func restore(now time.Duration, h *handshake, c *Config) *TCB {
	t := newTCB(c, h.iss)
	t.state, t.passive = SynReceived, true
	t.tsOffset = h.tsOffset
	t.agree(now, h)
	t.agreeECN(h.ecn && c.ECN != ECNOff)
	t.snd.nxt = h.iss + 1
	t.snd.timing, t.snd.timed, t.snd.timedAt = h.sentAt != 0, t.snd.nxt, h.sentAt
	t.set(timerRetransmit, now+t.rto())
	t.set(timerUser, now+orDefault(c.SYNTimeout, synTimeout))
	return t
}

// agree takes over what the peer's SYN says, in so far as we want it too.
func (t *TCB) agree(now time.Duration, h *handshake) {
	t.rcv.irs, t.rcv.nxt, t.rcv.acked = h.irs, h.irs+1, h.irs+1
	t.rcv.edge = t.rcv.nxt + Seq(t.c.synWindow())
	t.rcv.heardAt = now
	t.recvq.reset(t.rcv.nxt)
	if h.scale != noScale && !t.c.NoScale {
		t.scaled, t.snd.scale, t.rcv.scale = true, h.scale, t.c.windowScale()
	}
	t.sack = h.sack && !t.c.NoSACK
	if h.ts && !t.c.NoTimestamps {
		t.ts, t.rcv.tsRecent, t.rcv.tsRecentA = true, h.tsVal, now
	}
	t.snd.peerMSS = h.mss
	if h.mss == 0 {
		// RFC 9293 §3.7.1: "If an MSS Option is not received at connection setup, TCP implementations MUST assume a
		// default send MSS of 536 (576 - 40) for IPv4 or 1220 (1280 - 60) for IPv6 (MUST-15)."
		t.snd.peerMSS = uint16(orDefault(int(t.c.DefaultMSS), defaultMSS))
	}
	t.sizeMSS()
	t.window(h.irs, t.snd.una, uint32(h.window))
}

// sizeMSS derives the MSS from the MTU. RFC 9293 §3.7.1: "The maximum size of a segment that a TCP endpoint really
// sends, the "effective send MSS", MUST be the smaller (MUST-16) of the send MSS […] and the largest transmission size
// permitted by the IP layer"; what options take is left out here and taken off each segment (SHLD-6).
func (t *TCB) sizeMSS() {
	t.snd.mss = uint16(t.limitMSS())
	if m := t.search; m != nil {
		t.snd.mss = min(t.snd.mss, m.low)
	}
}

// textMSS is the text of a full-sized segment that carries no SACK blocks.
func (t *TCB) textMSS() int {
	if t.ts {
		return int(t.snd.mss) - 12 // RFC 7323 §3.2: ten octets, and two to align them
	}
	return int(t.snd.mss)
}

// window is the update of SND.WND in RFC 9293 §3.10.7.4, fifth.
func (t *TCB) window(seq, ack Seq, wnd uint32) {
	t.snd.wl1, t.snd.wl2 = seq, ack
	t.snd.wnd = wnd
	t.snd.maxWnd = max(t.snd.maxWnd, wnd)
}

// SetTSOffset sets what is added to the clock of our timestamps, so that they tell nothing about other connections
// (RFC 7323 §5.4). It is called before the first Next.
func (t *TCB) SetTSOffset(off uint32) { t.tsOffset = off }

func (t *TCB) memory() Memory {
	if t.c.Memory == nil {
		return heapMemory{}
	}
	return t.c.Memory
}

// State is the connection's state: never Listen.
func (t *TCB) State() State { return t.state }

// Err says why the connection became CLOSED; None where it has not, or where FINs ended it.
func (t *TCB) Err() Reason { return t.err }

// Deadline is when Expire is to be called, and false where no timer runs.
func (t *TCB) Deadline() (time.Duration, bool) {
	at := time.Duration(0)
	for _, d := range t.timers {
		if d != 0 && (at == 0 || d < at) {
			at = d
		}
	}
	if t.snd.held && (at == 0 || t.snd.departs < at) {
		at = t.snd.departs
	}
	return at, at != 0
}

// set starts a timer, or starts it again. An instant of 0 would mean off, so it is put off by 1 ns.
func (t *TCB) set(timer int, at time.Duration) { t.timers[timer] = max(at, 1) }

func (t *TCB) stop(timer int) { t.timers[timer] = 0 }
