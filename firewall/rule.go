package firewall

import (
	"net/netip"
	"slices"
	"time"
)

// Rules are what a Firewall goes by. The zero value lets everything pass. See the package's comment for the text form,
// of which each type here is a line.
type Rules struct {
	Policies    [numDirections]Policy // by Direction
	Filter      []Rule                // in order: the first that decides, decides
	Forwards    []PortForward         // the first that matches
	Masquerades []Masquerade          // the first that matches
	Maps        []Map
	Clamps      []Clamp
}

// Policy is what becomes of packets that no rule decides about, and that are neither established nor related.
type Policy struct {
	Action Action // Allow, Deny or Refuse
	With   Answer
}

// Action is what a rule does.
type Action uint8

// The actions.
const (
	Allow  Action = iota // allow: the packet passes
	Deny                 // drop: it does not, and nobody is told
	Refuse               // reject: it does not, and its sender is told
	Count                // count: its packets and octets are counted, as for every rule, and the next rule is asked
	Note                 // log: likewise, and Config.Log is told
	numActions
)

var actionNames = [...]string{"allow", "drop", "reject", "count", "log"}

// String is the action as rules have it.
func (a Action) String() string {
	if a < numActions {
		return actionNames[a]
	}
	return "unknown"
}

// Answer is how a packet is rejected.
type Answer uint8

// The answers.
const (
	Automatic  Answer = iota // TCP by a reset, all else by port unreachable
	WithReset                // reset; what is not TCP is only dropped
	WithPort                 // ICMP: port unreachable
	WithHost                 // ICMP: host unreachable, address unreachable in IPv6
	WithNet                  // ICMP: net unreachable, no route in IPv6
	Prohibited               // ICMP: communication administratively prohibited
	numAnswers
)

var answerNames = [...]string{"", "reset", "port", "host", "net", "prohibited"}

// String is the answer as rules have it, behind "with".
func (a Answer) String() string {
	if a < numAnswers {
		return answerNames[a]
	}
	return "unknown"
}

// State is a set of what packets can be to the connections.
type State uint8

// The states: see the package's comment.
const (
	StateNew State = 1 << iota
	StateEstablished
	StateRelated
	StateInvalid
	StateTranslated
	allStates = 1<<iota - 1
)

var stateNames = [...]string{"new", "established", "related", "invalid", "translated"}

// String lists the states with commas between.
func (s State) String() string {
	text := ""
	for i, n := range stateNames {
		if s&(1<<i) != 0 {
			if text != "" {
				text += ","
			}
			text += n
		}
	}
	return text
}

// Rule is one rule about packets. What is left zero matches everything, but States.
type Rule struct {
	Action    Action
	Log       bool // as well
	Direction Direction
	On        string  // the interface it came in by; with Out, goes out by
	Via       string  // with Forward: the interface it goes out by
	Protocols []uint8 // any of these
	From, To  Endpoint
	Types     []uint8 // of ICMP, any of these; Protocols is one of ICMP's then
	States    State   // any of these; 0: StateNew
	Limit     Limit
	With      Answer // with Refuse
	Comment   string // one line
}

// Endpoint is a set of addresses and ports.
type Endpoint struct {
	Not      bool // the addresses other than these
	Prefixes []netip.Prefix
	Ports    []Ports // of TCP and UDP
}

// Ports is a range of ports, both ends included.
type Ports struct{ First, Last uint16 }

// Limit is how often a rule matches. N of 0 is always.
type Limit struct {
	N     int           // on average so often
	Per   time.Duration // in this: time.Second, time.Minute or time.Hour
	Burst int           // so often at once, after a pause; 0: N
}

// PortForward sends what comes to an external address and port to an internal one.
type PortForward struct {
	Protocols []uint8        // TCP, UDP or both
	External  netip.Addr     // the zero Addr: the address that interface On has at the time
	On        string         // with no External
	Port      uint16         // the first port
	Last      uint16         // the last, which as all between goes to a port so much higher; 0: Port
	To        netip.AddrPort // internal address, and port for Port
}

// Masquerade gives what leaves by an interface an external source address.
type Masquerade struct {
	On     string         // what goes out by this interface
	From   []netip.Prefix // and comes from these addresses; nil: all
	To     []netip.Addr   // the external addresses, of which a host keeps one; nil: the address that On has at the time
	Filter Filtering
}

// Map is an internal address that is an external one outside, with all its ports.
type Map struct {
	External, Internal netip.Addr
	On                 string // what goes out by this interface; "": any
}

// Clamp lowers the segment size that TCP announces in what comes or goes by an interface.
type Clamp struct {
	On  string
	MSS int // octets; 0: what the packet's path has room for, Packet.MTU
}

func (r *Ports) has(port uint16) bool { return r.First <= port && port <= r.Last }

// has reports whether the address, and where asked for the port, are of the endpoint.
func (e *Endpoint) has(a netip.Addr, port uint16) bool {
	if len(e.Prefixes) > 0 && within(e.Prefixes, a) == e.Not {
		return false
	}
	if len(e.Ports) == 0 {
		return true
	}
	for i := range e.Ports {
		if e.Ports[i].has(port) {
			return true
		}
	}
	return false
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for i := range prefixes {
		if prefixes[i].Contains(a) {
			return true
		}
	}
	return false
}

// matches reports whether the rule is about the packet, of whose state and direction it is.
func (r *Rule) matches(p *Packet, src, dst netip.Addr) bool {
	on := p.In
	if r.Direction == Out {
		on = p.Out
	}
	return (r.On == "" || r.On == on) && (r.Via == "" || r.Via == p.Out) &&
		(len(r.Protocols) == 0 || slices.Contains(r.Protocols, p.key.proto)) &&
		(len(r.Types) == 0 || slices.Contains(r.Types, p.kind)) &&
		r.From.has(src, p.key.sport) && r.To.has(dst, p.key.dport)
}

func (w *PortForward) last() uint16 { return max(w.Port, w.Last) }

func (w *PortForward) matches(proto uint8, port uint16) bool {
	return w.Port <= port && port <= w.last() && slices.Contains(w.Protocols, proto)
}

func (m *Masquerade) covers(src netip.Addr) bool { return len(m.From) == 0 || within(m.From, src) }
