package tcp

// State is one of the eleven states of RFC 9293 §3.3.2.
// A TCB is never in Listen, since LISTEN belongs to the Listener; it begins in SynSent or SynReceived and ends in Closed.
type State uint8

// The states, in the order of RFC 9293 §3.3.2 after Closed.
const (
	Closed State = iota
	Listen
	SynSent
	SynReceived
	Established
	FinWait1
	FinWait2
	CloseWait
	Closing
	LastAck
	TimeWait
)

var stateNames = [...]string{"CLOSED", "LISTEN", "SYN-SENT", "SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2",
	"CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT"}

// String is the state's name as RFC 9293 writes it, such as "FIN-WAIT-1".
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "UNKNOWN"
}

// synchronized reports whether both sides know each other's sequence numbers (RFC 9293 §3.5.1).
func (s State) synchronized() bool { return s >= Established }

// canSend reports whether the user may still SEND (RFC 9293 §3.10.2).
func (s State) canSend() bool { return s == Established || s == CloseWait }

// canReceive reports whether text of the peer is still taken (RFC 9293 §3.10.7.4, seventh).
func (s State) canReceive() bool { return s == Established || s == FinWait1 || s == FinWait2 }
