package firewall

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed87e66d9f/waybill/internal/pace"
)

// program is Rules made ready: for each direction and state the rules that are asked, and what each has to remember.
type program struct {
	source *Rules
	lists  [numDirections][numLists][]int32
	memory []memory // by rule
}

// The lists of rules, by state.
const (
	listNew = iota
	listEstablished
	listRelated
	listInvalid
	numLists
)

// memory is what changes of a rule.
type memory struct {
	packets, octets uint64
	limit           pace.Pace
	paid            time.Duration // of limit
}

// ErrRules is what SetRules finds wrong with Rules; the error says where.
var ErrRules = errors.New("firewall: rules that cannot be")

// compile makes r ready.
func compile(r *Rules) (*program, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	p := &program{source: r, memory: make([]memory, len(r.Filter))}
	for i := range r.Filter {
		e := &r.Filter[i]
		states := e.States
		if states == 0 {
			states = StateNew
		}
		for k, s := range [numLists]State{StateNew | StateTranslated, StateEstablished, StateRelated, StateInvalid} {
			if states&s != 0 {
				p.lists[e.Direction][k] = append(p.lists[e.Direction][k], int32(i))
			}
		}
		if l := e.Limit; l.N > 0 {
			p.memory[i].limit = pace.New(l.N, l.Per, cmp.Or(l.Burst, l.N))
		}
	}
	return p, nil
}

// check finds what cannot be.
func (r *Rules) check() error {
	fail := func(what string, i int, why string) error { return fmt.Errorf("%w: %s %d: %s", ErrRules, what, i, why) }
	for i, p := range r.Policies {
		if p.Action > Refuse || p.With >= numAnswers || p.With != Automatic && p.Action != Refuse {
			return fail("policy", i, "neither allow, drop nor reject")
		}
	}
	for i := range r.Filter {
		if why := r.Filter[i].check(); why != "" {
			return fail("rule", i, why)
		}
	}
	for i := range r.Forwards {
		if why := r.Forwards[i].check(); why != "" {
			return fail("forward", i, why)
		}
	}
	for i, m := range r.Masquerades {
		if !isName(m.On) || m.Filter >= numFilterings {
			return fail("nat", i, "no interface, or no such filter")
		}
		if slices.ContainsFunc(m.From, badPrefix) || slices.ContainsFunc(m.To, badAddr) {
			return fail("nat", i, "an address that is none")
		}
	}
	for i, m := range r.Maps {
		if badAddr(m.External) || badAddr(m.Internal) || m.External.Is4() != m.Internal.Is4() || m.On != "" && !isName(m.On) {
			return fail("map", i, "two addresses of one family are needed")
		}
	}
	for i, c := range r.Clamps {
		if !isName(c.On) || c.MSS < 0 || c.MSS > 0xffff {
			return fail("clamp", i, "no interface, or a size that is none")
		}
	}
	return nil
}

func (r *Rule) check() string {
	icmp := len(r.Protocols) == 1 && (r.Protocols[0] == protoICMP4 || r.Protocols[0] == protoICMP6)
	transport := len(r.Protocols) > 0
	for _, p := range r.Protocols {
		transport = transport && (p == protoTCP || p == protoUDP)
	}
	switch {
	case r.Action >= numActions || r.Direction >= numDirections || r.With >= numAnswers || r.States&^allStates != 0:
		return "an action, direction, answer or state that is none"
	case r.On != "" && !isName(r.On) || r.Via != "" && !isName(r.Via):
		return "an interface name with a space or a control character"
	case r.Via != "" && r.Direction != Forward:
		return "via is for forward"
	case len(r.Types) > 0 && !icmp:
		return "type is for icmp or icmp6, and one of them"
	case len(r.From.Ports)+len(r.To.Ports) > 0 && !transport:
		return "ports are for tcp and udp"
	case r.With != Automatic && r.Action != Refuse:
		return "with is for reject"
	case r.Limit.N < 0 || r.Limit.Burst < 0 || r.Limit.N > 0 && unitName(r.Limit.Per) == "" || r.Limit.N == 0 && r.Limit != Limit{}:
		return "a limit that is none"
	case strings.ContainsFunc(r.Comment, func(c rune) bool { return c < ' ' }) || strings.TrimSpace(r.Comment) != r.Comment ||
		!utf8.ValidString(r.Comment):
		return "a comment with a control character, or space around it"
	}
	for _, e := range [...]*Endpoint{&r.From, &r.To} {
		if e.Not && len(e.Prefixes) == 0 || slices.ContainsFunc(e.Prefixes, badPrefix) {
			return "an address that is none"
		}
		if slices.ContainsFunc(e.Ports, func(p Ports) bool { return p.First > p.Last }) {
			return "a range of ports that ends before it begins"
		}
	}
	return ""
}

func (w *PortForward) check() string {
	switch {
	case len(w.Protocols) == 0 || slices.ContainsFunc(w.Protocols, func(p uint8) bool { return p != protoTCP && p != protoUDP }):
		return "the protocol is tcp, udp or both"
	case w.Port == 0 || w.Last != 0 && w.Last < w.Port || w.To.Port() == 0 || int(w.To.Port())+int(w.last()-w.Port) > 0xffff:
		return "ports that are none"
	case badAddr(w.To.Addr()) || w.External.IsValid() && (badAddr(w.External) || w.External.Is4() != w.To.Addr().Is4()):
		return "two addresses of one family are needed"
	case w.External.IsValid() == (w.On != "") || w.On != "" && !isName(w.On):
		return "either an external address or an interface is needed"
	}
	return ""
}

func badAddr(a netip.Addr) bool { return !a.IsValid() || a.Is4In6() || a.Zone() != "" }

func badPrefix(p netip.Prefix) bool { return !p.IsValid() || p.Addr().Is4In6() || p != p.Masked() }

// isName reports whether an interface's name can stand in the text form.
func isName(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return isSpace(c) || c == '#' })
}

// forwards reports whether a forward has the external address and port, which then is not to be given out.
func (p *program) forwards(proto uint8, at netip.AddrPort) bool {
	for i := range p.source.Forwards {
		w := &p.source.Forwards[i]
		if w.matches(proto, at.Port()) && (!w.External.IsValid() || w.External == at.Addr()) {
			return true
		}
	}
	return false
}

// inside reports whether a source is masqueraded when it goes out by that interface.
func (p *program) inside(on string, src netip.Addr) bool {
	return slices.ContainsFunc(p.source.Masquerades, func(m Masquerade) bool { return m.On == on && m.covers(src) })
}

// translates reports whether the packet's source would be translated, if it were part of a connection.
func (p *program) translates(k *Packet) bool {
	if k.Direction == In {
		return false
	}
	src := address(&k.key.src)
	return k.Direction == Forward && p.inside(k.Out, src) || slices.ContainsFunc(p.source.Maps, func(m Map) bool { return m.Internal == src && (m.On == "" || m.On == k.Out) })
}
