package narrate

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
	"github.com/seed87e66d9f/waybill/tcp"
)

// kind says which of a fact's fields mean something.
type kind uint8

const (
	in         kind = iota // frame came by iface
	out                    // frame goes by iface; of a switch or a hub, port says whether it was sent
	decided                // port: which way a frame takes in a switch or a hub
	arrived                // the firewall: verdict, reason, state, before, after
	judged                 // likewise, and rule
	routed                 // route, via, iface, next
	waits                  // for the station of next
	resolved               // next is at station
	dropped                // reason
	segmentIn              // states, drop, before: the segment's flow
	segmentOut             // likewise, cause
	timer                  // states
	call                   // states
)

// A fact is one event, with all that is told of it.
type fact struct {
	kind          kind
	iface         string
	frame         *view // in, out, segmentIn, segmentOut
	port          link.Verdict
	hub           bool
	before, after firewall.Flow
	verdict       firewall.Verdict
	state         firewall.State
	rule          string // what decided, in the text form of rules
	reason        string
	route         netip.Prefix
	via, next     netip.Addr
	station       ethernet.Addr
	states        [2]tcp.State
	drop          tcp.Drop
	cause         tcp.Cause
}

// judge takes what the firewall says.
func (f *fact) judge(e *stack.PacketEvent) {
	p := e.Judged
	f.before, f.after, f.state, f.reason = p.Before(), p.After(), p.State, p.Reason.String()
	if f.kind == arrived {
		return
	}
	switch established := p.State&(firewall.StateEstablished|firewall.StateRelated) != 0; {
	case p.Rule >= 0:
		f.rule = fmt.Sprintf("rule %d, %q,", p.Rule+1, &e.Rules.Filter[p.Rule])
	case p.State == 0 || established && e.Verdict == firewall.Accept:
	case p.Reason == firewall.Denied || e.Verdict == firewall.Accept:
		f.rule = fmt.Sprintf("no rule matches, and the policy %q", fmt.Sprintf("%v %v", p.Direction, e.Rules.Policies[p.Direction].Action))
	}
	f.rule = fmt.Sprintf("%v: %s", p.Direction, f.rule)
}

// stateText is what a packet is to the firewall's connections.
var stateText = []struct {
	state firewall.State
	text  string
}{
	{firewall.StateNew, "the packet begins a connection"},
	{firewall.StateEstablished, "the packet belongs to a connection that was let begin"},
	{firewall.StateRelated, "the packet is an error about one of a connection that was let begin"},
	{firewall.StateInvalid, "the packet belongs to no connection"},
}

func stateOf(s firewall.State) string {
	for _, t := range stateText {
		if s&t.state != 0 {
			return t.text
		}
	}
	return "the packet is not tracked"
}

// text is the fact as sentences, one a line.
func (f *fact) text(t *telling) []string {
	switch f.kind {
	case in:
		return []string{fmt.Sprintf("in by %s: %s", f.iface, t.frame(f.frame))}
	case out:
		return []string{f.leaves(t)}
	case decided:
		return []string{f.decision()}
	case arrived:
		return f.arrival()
	case judged:
		return f.judgement()
	case routed:
		if f.via.IsValid() {
			return []string{fmt.Sprintf("route: %v is reached by %s, via the gateway %v", f.route, f.iface, f.via)}
		}
		return []string{fmt.Sprintf("route: %v is on the link of %s", f.route, f.iface)}
	case waits:
		return []string{fmt.Sprintf("neighbour: the station of %v is not known; the packet waits", f.next)}
	case resolved:
		return []string{fmt.Sprintf("neighbour: %v is at %v", f.next, f.station)}
	case dropped:
		return []string{"the packet goes no further: " + f.reason}
	}
	return []string{f.tcp(t)}
}

// leaves tells of a frame that goes out, or was to.
func (f *fact) leaves(t *telling) string {
	switch {
	case f.port == link.Sent:
		return "out by " + f.iface
	case f.port != 0:
		return fmt.Sprintf("not out by %s: %v", f.iface, f.port)
	}
	return fmt.Sprintf("out by %s: %s", f.iface, t.frame(f.frame))
}

// decision tells which way a frame takes in a switch or a hub.
func (f *fact) decision() string {
	dst := f.frame.dst
	switch {
	case f.port == link.Forwarded:
		return fmt.Sprintf("table: %v was heard at %s; the frame goes there alone", dst, f.iface)
	case f.port == link.Filtered:
		return fmt.Sprintf("table: %v is at the port that the frame came from; nothing to do", dst)
	case f.port != link.Flooded:
		return fmt.Sprintf("the frame goes no further: %v", f.port)
	case f.hub:
		return "the frame is repeated to all other ports"
	case dst.IsBroadcast():
		return "the frame is for all; it goes to all other ports"
	case dst.IsMulticast():
		return "the frame is for a group; it goes to all other ports"
	}
	return fmt.Sprintf("table: %v was not heard of; the frame goes to all other ports", dst)
}

// arrival tells what the firewall does before the way is known.
func (f *fact) arrival() []string {
	if f.verdict != firewall.Accept {
		return []string{fmt.Sprintf("firewall: %v, %s", f.verdict, f.reason)}
	}
	lines := []string{"firewall: " + stateOf(f.state)}
	if f.before.Dst != f.after.Dst {
		lines = append(lines, fmt.Sprintf("translation: the destination %v becomes %v", f.before.Dst, f.after.Dst))
	}
	return lines
}

// judgement tells what the firewall says once the way is known.
func (f *fact) judgement() []string {
	direction, rule, _ := strings.Cut(f.rule, ": ")
	verdict := map[firewall.Verdict]string{firewall.Accept: "lets it pass", firewall.Drop: "drops it", firewall.Reject: "rejects it"}[f.verdict]
	line := fmt.Sprintf("firewall, %s: %s %s", direction, rule, verdict)
	if rule == "" {
		line = fmt.Sprintf("firewall, %s: %s; %v", direction, stateOf(f.state), f.verdict)
		if f.verdict != firewall.Accept {
			line += ", " + f.reason
		}
	}
	lines := []string{line}
	if f.verdict == firewall.Accept && f.before.Src != f.after.Src {
		lines = append(lines, fmt.Sprintf("translation: the source %v becomes %v", f.before.Src, f.after.Src))
	}
	return lines
}

// tcp tells what TCP does.
func (f *fact) tcp(t *telling) string {
	change := fmt.Sprintf(": %v becomes %v", f.states[0], f.states[1])
	if f.states[0] == f.states[1] {
		change = ", in " + f.states[1].String()
	}
	switch {
	case f.kind == call && f.states[0] == tcp.Closed:
		return "the program opens a connection" + change
	case f.kind == call:
		return "the program closes its side" + change
	case f.kind == timer:
		return "a timer expires" + change
	case f.kind == segmentIn && f.drop != tcp.DropNone:
		return fmt.Sprintf("TCP refuses it: %v", f.drop)
	case f.kind == segmentIn:
		return "TCP takes it" + change
	}
	line := fmt.Sprintf("TCP, in %v, sends %s", f.states[1], t.segment(f.frame))
	if f.cause > tcp.CauseAck {
		line += ": " + f.cause.String()
	}
	return line
}
