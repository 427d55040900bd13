package tcp

// Event says what a call changed: the low 16 bits are news, and above them stands the check that refused a segment.
type Event uint32

// The news.
const (
	Readable  Event = 1 << iota // there is text to read, or its end, where there was none
	Writable                    // there is room to write where there was none
	Opened                      // the connection became ESTABLISHED, or past it
	Ended                       // the connection became CLOSED: Err says why
	Progress                    // the peer acknowledged something new, so it can be reached
	SoftError                   // an ICMP error or R1 was noted: Info has it (RFC 9293 §3.9.2.2)
	Waiting                     // the connection entered TIME-WAIT
)

// Has reports whether all the bits of f are set.
func (e Event) Has(f Event) bool { return e&f == f }

// Drop is the check that refused the segment, or DropNone.
func (e Event) Drop() Drop { return Drop(e >> 16) }

func (d Drop) event() Event { return Event(d) << 16 }

// Drop names the check that refused a segment, in whole or in part.
type Drop uint8

// The checks, in the order of RFC 9293 §3.10.7.
const (
	DropNone           Drop = iota
	DropClosed              // §3.10.7.1: no such connection
	DropFlags               // no flags that make sense together in this state
	DropListenRST           // §3.10.7.2 first: a reset to a listener
	DropListenACK           // §3.10.7.2 second: an acknowledgement of nothing
	DropBacklog             // the listener has no room
	DropCookie              // an acknowledgement whose SYN cookie does not hold (RFC 4987 §3.6)
	DropHeld                // a SYN that waits for the user's verdict
	DropRefused             // a SYN that the user's verdict refused
	DropSynSentACK          // §3.10.7.3 first: an acknowledgement of something never sent
	DropSynSentRST          // §3.10.7.3 second: a reset that acknowledges nothing
	DropPAWS                // RFC 7323 §5.3 R1: an old timestamp
	DropNoTimestamp         // RFC 7323 §3.2: timestamps agreed on, and none here
	DropWindow              // §3.10.7.4 first: outside the receive window
	DropRST                 // §3.10.7.4 second: a reset in the window, but not at RCV.NXT (RFC 5961 §3.2)
	DropSYN                 // §3.10.7.4 fourth: a SYN in a synchronized state (RFC 5961 §4.2)
	DropNoACK               // §3.10.7.4 fifth: no ACK bit
	DropOldACK              // RFC 5961 §5.2: an acknowledgement from too far back
	DropFutureACK           // §3.10.7.4 fifth: an acknowledgement of something not yet sent
	DropSynReceivedACK      // §3.10.7.4 fifth: SYN-RECEIVED, and the acknowledgement is not acceptable
	DropDuplicate           // nothing but octets that had arrived before
	DropMemory              // no memory for the text
	DropAfterClose          // text came after the user let go of the connection (§3.6.1)
	DropTimeWait            // a segment that TIME-WAIT answers or ignores
	DropNotice              // an ICMP error that quotes nothing outstanding (RFC 5927 §4.1)
	NumDrops                // how many there are
)

var dropNames = [...]string{"none", "closed", "flags", "listen-rst", "listen-ack", "backlog", "cookie", "held", "refused",
	"syn-sent-ack", "syn-sent-rst", "paws", "no-timestamp", "window", "rst", "syn", "no-ack", "old-ack", "future-ack",
	"syn-received-ack", "duplicate", "memory", "after-close", "time-wait", "notice"}

// String is the check's name as the counters call it.
func (d Drop) String() string {
	if int(d) < len(dropNames) {
		return dropNames[d]
	}
	return "unknown"
}

// Reason says why a connection ended, or which soft error was noted last.
type Reason uint8

// The reasons.
const (
	None            Reason = iota // it has not ended, or ended by FINs
	Refused                       // a reset answered our SYN, or ICMP said that nobody listens
	Reset                         // the peer reset the connection
	TimedOut                      // the peer stayed silent for too long
	Aborted                       // we reset the connection: the user's ABORT, or text after CLOSE
	HostUnreachable               // ICMP: no way to the host
	NetUnreachable                // ICMP: no way to the network
	NoProtocol                    // ICMP: the host knows no TCP
	Prohibited                    // ICMP: a filter stands between
	TooBig                        // ICMP: a packet was too large (Notice.MTU)
)

var reasonNames = [...]string{"none", "refused", "reset", "timed out", "aborted", "host unreachable", "network unreachable",
	"protocol unreachable", "prohibited", "too big"}

// String is the reason in words.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}

// Notice is an ICMP error about a segment that we sent.
type Notice struct {
	Reason Reason // Refused (port unreachable), HostUnreachable, NetUnreachable, NoProtocol, Prohibited or TooBig
	MTU    int    // TooBig: what Config.MTU means, as the router says it
}
