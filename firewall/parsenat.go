package firewall

import (
	"math"
	"net/netip"
	"strings"
)

func (s *scanner) limit(l *Limit) {
	w := s.next("a limit")
	n, unit, _ := strings.Cut(w.text, "/")
	l.N = s.number(word{n, w.column}, "number", 1, math.MaxInt32)
	l.Per = units[unit]
	if l.Per == 0 {
		s.fail(word{unit, w.column + len(n) + 1}, "%q is no unit: second, minute or hour", unit)
	}
	if s.is("burst") {
		l.Burst = s.number(s.next("a number"), "number", 1, math.MaxInt32)
	}
}

func (r *Rules) parseMasquerade(s *scanner) {
	var m Masquerade
	s.expect("on")
	m.On = s.next("an interface").text
	if s.is("from") && !s.is("any") {
		s.list("an address", func(w word) { m.From = append(m.From, s.prefix(w)) })
	}
	if s.is("to") {
		s.list("an address", func(w word) { m.To = append(m.To, s.addr(w)) })
	}
	if s.is("filter") {
		m.Filter = Filtering(s.choose(s.next("a filter"), "filter: address, any or port", filteringNames[:]))
	}
	r.Masquerades = append(r.Masquerades, m)
}

// parseForward returns what is wrong with the line as a whole.
func (r *Rules) parseForward(s *scanner) string {
	var w PortForward
	s.list("tcp or udp", func(p word) { w.Protocols = append(w.Protocols, s.protocol(p)) })
	var ports Ports
	if s.is("on") {
		w.On = s.next("an interface").text
		s.expect("port")
		ports = s.portRange(s.next("a port"))
	} else {
		at := s.next("an external address and port")
		host, port := splitPort(at)
		w.External = s.addr(host)
		ports = s.portRange(port)
	}
	w.Port = ports.First
	if ports.Last != ports.First {
		w.Last = ports.Last
	}
	s.expect("to")
	host, port := splitPort(s.next("an internal address and port"))
	w.To = netip.AddrPortFrom(s.addr(host), uint16(s.number(port, "port", 1, 65535)))
	r.Forwards = append(r.Forwards, w)
	if s.err != nil {
		return ""
	}
	return w.check()
}

// splitPort divides "192.0.2.1:80" and "[2001:db8::1]:80".
func splitPort(w word) (host, port word) {
	i := strings.LastIndexByte(w.text, ':')
	if i < 0 {
		return w, word{"", w.column + len(w.text)}
	}
	host, port = word{w.text[:i], w.column}, word{w.text[i+1:], w.column + i + 1}
	if strings.HasPrefix(host.text, "[") && strings.HasSuffix(host.text, "]") && len(host.text) > 2 && strings.Contains(host.text, ":") {
		host = word{host.text[1 : len(host.text)-1], w.column + 1}
	} else if strings.Contains(host.text, ":") {
		host.text = w.text // an IPv6 address without brackets: none of it is a port
		port = word{"", w.column + len(w.text)}
	}
	return host, port
}

func (r *Rules) parseMap(s *scanner) {
	var m Map
	m.External = s.addr(s.next("an external address"))
	s.expect("to")
	at := s.next("an internal address")
	m.Internal = s.addr(at)
	if s.err == nil && m.External.Is4() != m.Internal.Is4() {
		s.fail(at, "%s is of another family than %s", m.Internal, m.External)
	}
	if s.is("on") {
		m.On = s.next("an interface").text
	}
	r.Maps = append(r.Maps, m)
}

func (r *Rules) parseClamp(s *scanner) {
	var c Clamp
	s.expect("mss")
	if len(s.words) > 0 && s.words[0].text != "on" {
		c.MSS = s.number(s.next("a size"), "size", 1, 65535)
	}
	s.expect("on")
	c.On = s.next("an interface").text
	r.Clamps = append(r.Clamps, c)
}
