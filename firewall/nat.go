package firewall

import (
	"net/netip"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/tcp"
)

const (
	protoTCP = ipv4.ProtoTCP
	protoUDP = ipv4.ProtoUDP
	flagSYN  = tcp.SYN
)

// destination translates the destination of a packet that begins a connection: by the first of the port forwards, the
// one-to-one maps and the mappings that has it. The reason is why it is dropped.
func (f *Firewall) destination(p *Packet) Reason {
	dst := p.key.target()
	for i := range f.rules.source.Forwards {
		w := &f.rules.source.Forwards[i]
		if !w.matches(p.key.proto, dst.Port()) || !f.isExternal(w, dst.Addr()) {
			continue
		}
		p.translated, p.State = true, StateNew|StateTranslated
		p.setTarget(w.To.Addr().As16(), w.To.Port()+dst.Port()-w.Port)
		return 0
	}
	for i := range f.rules.source.Maps {
		if m := &f.rules.source.Maps[i]; m.External == dst.Addr() && portable(p.key.proto) {
			p.translated, p.State = true, StateNew|StateTranslated
			p.setTarget(m.Internal.As16(), p.key.dport)
			return 0
		}
	}
	if p.key.dport == 0 || f.mappings.n == 0 {
		return 0
	}
	outer := outerKey(p.key.proto, p.key.dst, p.key.dport)
	ref := f.lookup(&outer, true)
	if ref == 0 {
		return 0
	}
	m := &f.mappings.list[ref]
	// RFC 4787 REQ-9 has hosts behind reach each other this way; filtering is about those outside.
	if inside := m.on != p.In && f.rules.inside(m.on, p.key.source().Addr()); !inside && !f.admits(ref, p.key.src) {
		// Not for the host either: RFC 5382 REQ-4 has an unsolicited SYN stay without an answer.
		return Filtered
	}
	p.translated, p.State = true, StateNew|StateTranslated
	p.target, p.targetGen = ref, m.gen
	p.setTarget(m.inside.src, m.inside.sport)
	return 0
}

// isExternal reports whether a is the external address of the forward.
func (f *Firewall) isExternal(w *PortForward, a netip.Addr) bool {
	if w.External.IsValid() {
		return w.External == a
	}
	return f.config.Address != nil && f.config.Address(w.On, a.Is6()) == a
}

// portable reports whether an address may change under a protocol: it has no checksum that covers addresses, or one that
// is known here.
func portable(proto uint8) bool {
	switch proto {
	case 47, 50, 132: // IANA: GRE, ESP, SCTP
		return true
	}
	return ported(proto)
}

// commit makes a connection of the packet, whose destination was translated and which the rules let pass.
func (f *Firewall) commit(now time.Duration, p *Packet) Reason {
	first := p.before
	if ref, side := f.find(now, &first); ref != 0 { // a packet that was judged meanwhile made it
		c := f.at(ref)
		p.conn, p.gen, p.side = ref, c.gen, uint8(side)
		to := c.heading(side)
		p.setTarget(to.dst, to.dport)
		f.touch(now, ref)
		return 0
	}
	target := p.target
	if target != 0 {
		if f.mappings.list[target].gen != p.targetGen {
			return Stale
		}
		f.mappings.list[target].refs++
	}
	to, source, r := f.origin(now, p)
	if r != 0 {
		f.unmap(target)
		return r
	}
	ref := f.insert(now, first, to.inverse())
	if ref == 0 {
		f.unmap(source)
		f.unmap(target)
		return TableFull
	}
	if p.Direction != Out {
		f.began(now, p)
	}
	c := f.at(ref)
	c.source, c.target, c.translated = source, target, p.translated
	if source != 0 && f.mappings.list[source].filter == AddressDependent {
		f.peer(source, first.dst)
		c.peered = true
	}
	c.follow(0, p)
	c.packets[0]++
	p.conn, p.gen, p.side = ref, c.gen, 0
	return 0
}

// origin is the packet's tuple as it will leave, with the mapping whose port that takes, if any.
func (f *Firewall) origin(now time.Duration, p *Packet) (to tuple, source uint32, r Reason) {
	to = p.key
	if p.Direction == In {
		return to, 0, f.collides(now, &to)
	}
	src := address(&to.src)
	for i := range f.rules.source.Maps {
		m := &f.rules.source.Maps[i]
		if m.Internal != src || !(m.On == "" || m.On == p.Out || f.hairpin(p)) {
			continue
		}
		if !portable(to.proto) {
			return to, 0, Untranslatable
		}
		to.src = m.External.As16()
		return to, 0, f.collides(now, &to)
	}
	external, on, filter, r := f.external(p, src)
	if r != 0 {
		return to, 0, r
	}
	if !external.IsValid() {
		back := to.inverse()
		if ref, _ := f.find(now, &back); ref == 0 {
			return to, 0, 0
		}
		// Another connection's answers come to this address and port: only the host's own packets may take another port.
		if p.Direction != Out || !ported(to.proto) {
			return to, 0, Collision
		}
		external, filter = src, AddressAndPortDependent
	}
	if !ported(to.proto) {
		return to, 0, Untranslatable
	}
	source, r = f.allocate(to.proto, to.src, to.sport, external.As16(), on, filter)
	if r != 0 {
		return to, 0, r
	}
	out := &f.mappings.list[source].outside
	to.src, to.sport = out.dst, out.dport
	if r = f.collides(now, &to); r != 0 {
		f.unmap(source)
	}
	return to, source, r
}

// collides says if the answers to that tuple would be another connection's.
func (f *Firewall) collides(now time.Duration, to *tuple) Reason {
	back := to.inverse()
	if ref, _ := f.find(now, &back); ref != 0 {
		return Collision
	}
	return 0
}

// external is the external address that the packet's source is to have, or none if it stays as it is.
func (f *Firewall) external(p *Packet, src netip.Addr) (a netip.Addr, on string, filter Filtering, r Reason) {
	for i := range f.rules.source.Masquerades {
		m := &f.rules.source.Masquerades[i]
		if !m.covers(src) {
			continue
		}
		if m.On == p.Out {
			a = f.choose(m, src)
			if !a.IsValid() {
				return a, "", 0, NoAddress
			}
			if a == src { // the host's own
				return netip.Addr{}, "", 0, 0
			}
			return a, m.On, m.Filter, 0
		}
		// RFC 4787 REQ-9, RFC 5382 REQ-8: a host behind that uses an external address is seen with its own.
		if p.translated && m.On != p.In {
			if a = f.choose(m, src); a.IsValid() && a.Is4() == address(&p.before.dst).Is4() {
				return a, m.On, m.Filter, 0
			}
		}
	}
	if f.hairpin(p) { // the answer has to come back here, though nothing is masqueraded
		return address(&p.before.dst), "", AddressAndPortDependent, 0
	}
	return netip.Addr{}, "", 0, 0
}

// hairpin reports whether the packet goes back to where it came from, to another destination than it had.
func (f *Firewall) hairpin(p *Packet) bool {
	return p.translated && p.Direction == Forward && p.In == p.Out
}

// choose is the external address of a source. RFC 4787 REQ-2: an internal address always has the same of several.
func (f *Firewall) choose(m *Masquerade, src netip.Addr) netip.Addr {
	if len(m.To) == 0 {
		if f.config.Address == nil {
			return netip.Addr{}
		}
		return f.config.Address(m.On, src.Is6())
	}
	t := tuple{src: src.As16(), zone: 0xffff}
	k := int(f.key.hash(&t) % uint32(len(m.To)))
	for i := range m.To {
		if a := m.To[(k+i)%len(m.To)]; a.Is4() == src.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// clamp lowers the segment size of a SYN where a rule says so.
func (f *Firewall) clamp(p *Packet) {
	for i := range f.rules.source.Clamps {
		c := &f.rules.source.Clamps[i]
		if c.On != p.In && c.On != p.Out {
			continue
		}
		limit := c.MSS
		if limit == 0 && p.MTU > 0 {
			limit = p.MTU - ipv4.MinHeaderLen - tcp.HeaderLen // RFC 9293 §3.7.1: less the headers without options
			if p.v6 {
				limit = p.MTU - ipv6.HeaderLen - tcp.HeaderLen
			}
		}
		p.clampMSS(limit)
	}
}
