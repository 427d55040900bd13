package firewall

import "time"

// Reason is why a packet does not pass.
type Reason uint8

// The reasons.
const (
	_              Reason = iota
	Malformed             // headers that cannot be
	Fragment              // a part of a packet: the owner puts them together first
	SourceRoute           // a sender who chooses the way
	BadChecksum           // an ICMP error, or the header that it quotes
	Denied                // a rule or the policy
	Filtered              // came to a mapping from one who was not sent anything
	TableFull             // as many connections as there may be, none of which may be given up
	PortsExhausted        // no external port is left
	NoAddress             // the interface has no external address
	Collision             // the answers would be another connection's
	Untranslatable        // a protocol whose packets have no ports
	Untracked             // would have to be translated, and belongs to no connection
	Stale                 // its connection ended between Arrive and Filter
	SourceRate            // its source begins more connections than Config.SourceRate
	NewRate               // by its interface more connections begin than Config.NewRate
	numReasons
)

var reasonNames = [numReasons]string{"", "malformed", "fragment", "source route", "bad checksum", "denied", "filtered", "table full",
	"ports exhausted", "no address", "collision", "untranslatable", "untracked", "stale", "source rate", "new rate"}

// String is the reason in words.
func (r Reason) String() string {
	if r < numReasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Entry is what Config.Log is told.
type Entry struct {
	Now       time.Duration
	Rule      int // index in Rules.Filter
	Action    Action
	Direction Direction
	In, Out   string
	State     State
	Flow      Flow // as the rules see it
	Length    int  // octets of the packet
}

// judge asks the rules.
func (f *Firewall) judge(now time.Duration, p *Packet) Verdict {
	list := listNew
	switch {
	case p.State&StateEstablished != 0:
		list = listEstablished
	case p.State&StateRelated != 0:
		list = listRelated
	case p.State&StateInvalid != 0:
		list = listInvalid
	}
	rules := f.rules.source.Filter
	if asked := f.rules.lists[p.Direction][list]; len(asked) > 0 {
		src, dst := address(&p.key.src), address(&p.key.dst)
		for _, i := range asked {
			r := &rules[i]
			if list == listNew && r.States != 0 && r.States&p.State == 0 || !r.matches(p, src, dst) {
				continue
			}
			m := &f.rules.memory[i]
			if !m.limit.Take(now, &m.paid) {
				continue
			}
			m.packets++
			m.octets += uint64(p.end)
			if (r.Log || r.Action == Note) && f.config.Log != nil {
				f.config.Log(Entry{now, int(i), r.Action, p.Direction, p.In, p.Out, p.State, p.key.flow(), p.end})
			}
			if r.Action <= Refuse {
				p.Rule = int(i)
				return f.decide(now, p, r.Action, r.With)
			}
		}
	}
	if list == listEstablished || list == listRelated {
		return Accept
	}
	policy := f.rules.source.Policies[p.Direction]
	return f.decide(now, p, policy.Action, policy.With)
}

func (f *Firewall) decide(now time.Duration, p *Packet, a Action, with Answer) Verdict {
	if a == Allow {
		return Accept
	}
	f.lose(p, Denied)
	if a == Refuse {
		f.answer(now, p, with)
		return Reject
	}
	return Drop
}

// lose counts a packet that does not pass. It returns false, for begin.
func (f *Firewall) lose(p *Packet, r Reason) bool {
	p.Reason = r
	f.stats.Dropped[r]++
	return false
}

// refuse is for a packet that the rules let pass and that cannot.
func (f *Firewall) refuse(now time.Duration, p *Packet, r Reason) Verdict {
	f.lose(p, r)
	switch r {
	case TableFull, PortsExhausted, NoAddress, Untranslatable:
		// RFC 5508 REQ-8: "the NAT device SHOULD send an ICMP destination unreachable message, with a code of 13
		// (Communication administratively prohibited) to the sender, and drop the original packet."
		if p.Direction != In && !p.translated {
			f.answer(now, p, Prohibited)
			return Reject
		}
	}
	return Drop
}
