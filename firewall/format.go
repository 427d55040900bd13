package firewall

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// protocolNames are the protocols that have a name in the text form.
var protocolNames = map[uint8]string{protoICMP4: "icmp", protoTCP: "tcp", protoUDP: "udp", protoICMP6: "icmp6"}

func protocolName(p uint8) string {
	if n := protocolNames[p]; n != "" {
		return n
	}
	return strconv.Itoa(int(p))
}

// typeNames are the ICMP types that have a name in the text form, by whether they are IPv6's.
var typeNames = map[bool]map[uint8]string{
	false: {0: "echo-reply", 3: "unreachable", 5: "redirect", 8: "echo-request", 11: "time-exceeded", 12: "parameter-problem",
		13: "timestamp-request", 14: "timestamp-reply"}, // RFC 792
	true: {1: "unreachable", 2: "packet-too-big", 3: "time-exceeded", 4: "parameter-problem", 128: "echo-request", 129: "echo-reply",
		130: "listener-query", 131: "listener-report", 132: "listener-done", 143: "listener-report2"}, // RFC 4443, 2710, 3810
}

// units are what a limit is per.
var units = map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour}

func unitName(d time.Duration) string {
	for n, u := range units {
		if u == d {
			return n
		}
	}
	return ""
}

// join writes the list with commas.
func join[T any](list []T, text func(T) string) string {
	var b strings.Builder
	for i, e := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(text(e))
	}
	return b.String()
}

// line collects words.
type line struct{ strings.Builder }

func (l *line) add(words ...string) {
	for _, w := range words {
		if l.Len() > 0 {
			l.WriteByte(' ')
		}
		l.WriteString(w)
	}
}

// clause adds a word and its value, if that is not empty.
func (l *line) clause(word, value string) {
	if value != "" {
		l.add(word, value)
	}
}

// String is the rules in their text form, which Parse reads.
func (r *Rules) String() string {
	var b strings.Builder
	for d, p := range r.Policies {
		if p != (Policy{}) {
			var l line
			l.add("policy", Direction(d).String(), p.Action.String())
			l.clause("with", p.With.String())
			b.WriteString(l.String() + "\n")
		}
	}
	for i := range r.Filter {
		b.WriteString(r.Filter[i].String() + "\n")
	}
	for i := range r.Masquerades {
		b.WriteString(r.Masquerades[i].String() + "\n")
	}
	for i := range r.Forwards {
		b.WriteString(r.Forwards[i].String() + "\n")
	}
	for _, m := range r.Maps {
		b.WriteString(m.String() + "\n")
	}
	for _, c := range r.Clamps {
		b.WriteString(c.String() + "\n")
	}
	return b.String()
}

// String is the rule in its text form.
func (r *Rule) String() string {
	var l line
	l.add(r.Action.String())
	if r.Log {
		l.add("log")
	}
	l.add(r.Direction.String())
	l.clause("on", r.On)
	l.clause("via", r.Via)
	if len(r.Protocols) > 0 {
		l.add(join(r.Protocols, protocolName))
	}
	r.From.write(&l, "from")
	r.To.write(&l, "to")
	if len(r.Types) > 0 {
		names := typeNames[r.Protocols[0] == protoICMP6]
		l.add("type", join(r.Types, func(t uint8) string {
			if n := names[t]; n != "" {
				return n
			}
			return strconv.Itoa(int(t))
		}))
	}
	l.clause("state", r.States.String())
	if r.Limit.N > 0 {
		l.add("limit", strconv.Itoa(r.Limit.N)+"/"+unitName(r.Limit.Per))
		if r.Limit.Burst > 0 {
			l.add("burst", strconv.Itoa(r.Limit.Burst))
		}
	}
	l.clause("with", r.With.String())
	l.clause("#", r.Comment)
	return l.String()
}

func (e *Endpoint) write(l *line, word string) {
	if len(e.Prefixes)+len(e.Ports) == 0 {
		return
	}
	l.add(word)
	if e.Not {
		l.add("not")
	}
	if len(e.Prefixes) == 0 {
		l.add("any")
	} else {
		l.add(join(e.Prefixes, prefixText))
	}
	if len(e.Ports) > 0 {
		l.add("port", join(e.Ports, Ports.String))
	}
}

// prefixText writes a prefix of one address as the address.
func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// String is the range as in "80" or "8000-8010".
func (r Ports) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return strconv.Itoa(int(r.First)) + "-" + strconv.Itoa(int(r.Last))
}

// String is the line in its text form.
func (w *PortForward) String() string {
	var l line
	l.add("forward", join(w.Protocols, protocolName))
	ports := Ports{w.Port, w.last()}.String()
	switch {
	case !w.External.IsValid():
		l.add("on", w.On, "port", ports)
	case w.External.Is6():
		l.add("[" + w.External.String() + "]:" + ports)
	default:
		l.add(w.External.String() + ":" + ports)
	}
	l.add("to", w.To.String())
	return l.String()
}

// String is the line in its text form.
func (m *Masquerade) String() string {
	var l line
	l.add("nat", "on", m.On)
	l.clause("from", join(m.From, prefixText))
	l.clause("to", join(m.To, netip.Addr.String))
	if m.Filter != AddressDependent {
		l.add("filter", m.Filter.String())
	}
	return l.String()
}

// String is the line in its text form.
func (m Map) String() string {
	var l line
	l.add("map", m.External.String(), "to", m.Internal.String())
	l.clause("on", m.On)
	return l.String()
}

// String is the line in its text form.
func (c Clamp) String() string {
	var l line
	l.add("clamp", "mss")
	if c.MSS != 0 {
		l.add(strconv.Itoa(c.MSS))
	}
	l.add("on", c.On)
	return l.String()
}
