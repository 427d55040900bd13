package firewall

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// SyntaxError is what Parse finds wrong with a text, and where.
type SyntaxError struct {
	Line, Column int // from 1; the column counts characters
	Text         string
}

// Error is the message, as in "3:14: …".
func (e *SyntaxError) Error() string { return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Text) }

// Parse reads rules in their text form. Lines are independent but for the order of those that begin with allow, drop,
// reject, count and log, among nat lines, and among forward lines; what follows a # is a comment. The error is a
// *SyntaxError.
func Parse(text string) (*Rules, error) {
	r := &Rules{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		if err := r.parseLine(strings.TrimRight(line, "\r\n"), n); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// word is a word of a line, and the column that it begins at.
type word struct {
	text   string
	column int
}

// scanner goes through the words of a line.
type scanner struct {
	words []word
	line  int
	end   int // the column behind the last word
	err   *SyntaxError
}

func scan(text string, n int) *scanner {
	s := &scanner{line: n}
	column, start, first := 0, -1, 0
	flush := func(end int) {
		if start >= 0 {
			s.words = append(s.words, word{text[start:end], first})
			start, s.end = -1, column+1
		}
	}
	for i, c := range text {
		if isSpace(c) {
			flush(i)
		} else if start < 0 {
			start, first = i, column+1
		}
		column++
	}
	flush(len(text))
	s.end = max(s.end, 1)
	return s
}

// isSpace reports whether c divides words: blanks and control characters do.
func isSpace(c rune) bool { return c <= ' ' || c == 0x7f }

// fail notes the first error, at the word.
func (s *scanner) fail(w word, format string, args ...any) {
	if s.err == nil {
		s.err = &SyntaxError{s.line, w.column, fmt.Sprintf(format, args...)}
	}
}

// next is the next word; at the end it is an error that what was wanted is missing.
func (s *scanner) next(want string) word {
	if len(s.words) == 0 {
		w := word{"", s.end}
		s.fail(w, "%s is missing", want)
		return w
	}
	w := s.words[0]
	s.words = s.words[1:]
	return w
}

// is takes the next word if it is that one.
func (s *scanner) is(text string) bool {
	if len(s.words) > 0 && s.words[0].text == text {
		s.words = s.words[1:]
		return true
	}
	return false
}

// expect is is where nothing else may stand.
func (s *scanner) expect(text string) {
	if w := s.next(strconv.Quote(text)); s.err == nil && w.text != text {
		s.fail(w, "%q where %q belongs", w.text, text)
	}
}

// list calls one for each part of a word that commas divide, with its column.
func (s *scanner) list(want string, one func(w word)) {
	w := s.next(want)
	for s.err == nil {
		part, rest, more := strings.Cut(w.text, ",")
		if part == "" {
			s.fail(w, "%s is missing", want)
			return
		}
		one(word{part, w.column})
		if !more {
			return
		}
		w = word{rest, w.column + utf8.RuneCountInString(part) + 1}
	}
}

// choose is the value whose name w is.
func (s *scanner) choose(w word, what string, names []string) int {
	for i, n := range names {
		if n == w.text && n != "" {
			return i
		}
	}
	s.fail(w, "%q is no %s", w.text, what)
	return 0
}

// number is the number that w is, from low to high.
func (s *scanner) number(w word, what string, low, high int) int {
	n, err := strconv.Atoi(w.text)
	if err != nil || n < low || n > high || strconv.Itoa(n) != w.text {
		s.fail(w, "%q is no %s from %d to %d", w.text, what, low, high)
		return low
	}
	return n
}

// parseLine reads one line into r.
func (r *Rules) parseLine(text string, n int) error {
	if !utf8.ValidString(text) {
		return &SyntaxError{n, 1, "not UTF-8"}
	}
	text, comment, _ := strings.Cut(text, "#")
	s := scan(text, n)
	if len(s.words) == 0 {
		return nil
	}
	w := s.next("")
	var check string
	switch w.text {
	case "policy":
		r.parsePolicy(s)
	case "nat":
		r.parseMasquerade(s)
	case "forward":
		check = r.parseForward(s)
	case "map":
		r.parseMap(s)
	case "clamp":
		r.parseClamp(s)
	case "allow", "drop", "reject", "count", "log":
		rule := Rule{Action: Action(s.choose(w, "action", actionNames[:])), Comment: plain(comment)}
		s.rule(&rule)
		check = rule.check()
		r.Filter = append(r.Filter, rule)
	default:
		s.fail(w, "%q begins no line: allow, drop, reject, count, log, policy, nat, forward, map or clamp do", w.text)
	}
	if len(s.words) > 0 {
		s.fail(s.words[0], "%q does not belong here", s.words[0].text)
	}
	if check != "" {
		s.fail(w, "%s", check)
	}
	if s.err != nil {
		return s.err
	}
	return nil
}

// plain is a comment as rules keep it: one line without control characters.
func plain(s string) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if c < ' ' {
			return ' '
		}
		return c
	}, s))
}

func (r *Rules) parsePolicy(s *scanner) {
	d := s.choose(s.next("a direction"), "direction", directionNames[:])
	p := Policy{Action: Action(s.choose(s.next("allow, drop or reject"), "policy", actionNames[:Refuse+1]))}
	if p.Action == Refuse && s.is("with") {
		p.With = s.answer()
	}
	r.Policies[d] = p
}

func (s *scanner) answer() Answer {
	return Answer(s.choose(s.next("an answer"), "answer: reset, port, host, net or prohibited", answerNames[:]))
}

// rule reads what follows the action. Clauses may stand in any order, each once.
func (s *scanner) rule(r *Rule) {
	r.Log = s.is("log")
	r.Direction = Direction(s.choose(s.next("in, out or forward"), "direction: in, out or forward", directionNames[:]))
	seen := map[string]bool{}
	for s.err == nil && len(s.words) > 0 {
		w := s.words[0]
		name := w.text
		switch name {
		case "on", "via", "from", "to", "type", "state", "limit", "with":
			s.words = s.words[1:]
		default:
			name = "a protocol"
		}
		if seen[name] {
			s.fail(w, "%s stands twice", name)
			return
		}
		seen[name] = true
		s.clause(r, name)
	}
}

// clause reads the clause whose first word, unless it is a protocol, was read.
func (s *scanner) clause(r *Rule, name string) {
	switch name {
	case "on":
		r.On = s.next("an interface").text
	case "via":
		r.Via = s.next("an interface").text
	case "from":
		s.endpoint(&r.From)
	case "to":
		s.endpoint(&r.To)
	case "type":
		s.list("a type", func(w word) { r.Types = append(r.Types, s.icmpType(w, r.Protocols)) })
	case "state":
		s.list("a state", func(w word) {
			r.States |= 1 << s.choose(w, "state: new, established, related, invalid or translated", stateNames[:])
		})
	case "limit":
		s.limit(&r.Limit)
	case "with":
		r.With = s.answer()
	default:
		if !s.is("any") {
			s.list("a protocol", func(w word) { r.Protocols = append(r.Protocols, s.protocol(w)) })
		}
	}
}

func (s *scanner) protocol(w word) uint8 {
	for p, n := range protocolNames {
		if n == w.text {
			return p
		}
	}
	if w.text == "" || w.text[0] < '0' || w.text[0] > '9' {
		s.fail(w, "%q is neither a protocol nor a clause", w.text)
	}
	return uint8(s.number(w, "protocol", 0, 255))
}

func (s *scanner) icmpType(w word, protocols []uint8) uint8 {
	if len(protocols) != 1 || protocols[0] != protoICMP4 && protocols[0] != protoICMP6 {
		s.fail(w, "type stands behind icmp or icmp6")
		return 0
	}
	for t, n := range typeNames[protocols[0] == protoICMP6] {
		if n == w.text {
			return t
		}
	}
	return uint8(s.number(w, "type by name, or number", 0, 255))
}

func (s *scanner) endpoint(e *Endpoint) {
	if len(s.words) > 0 && s.words[0].text == "port" { // "to port 80"
		s.ports(e)
		return
	}
	if !s.is("any") {
		e.Not = s.is("not")
		s.list("an address", func(w word) { e.Prefixes = append(e.Prefixes, s.prefix(w)) })
	}
	if len(s.words) > 0 && s.words[0].text == "port" {
		s.ports(e)
	}
}

func (s *scanner) ports(e *Endpoint) {
	s.expect("port")
	s.list("a port", func(w word) { e.Ports = append(e.Ports, s.portRange(w)) })
}

func (s *scanner) portRange(w word) Ports {
	first, last, two := strings.Cut(w.text, "-")
	if !two {
		last = first
	}
	p := Ports{uint16(s.number(word{first, w.column}, "port", 0, 65535)),
		uint16(s.number(word{last, w.column + len(w.text) - len(last)}, "port", 0, 65535))}
	if p.First > p.Last {
		s.fail(w, "the range %s ends before it begins", w.text)
	}
	return p
}

func (s *scanner) prefix(w word) netip.Prefix {
	if !strings.Contains(w.text, "/") {
		a := s.addr(w)
		return netip.PrefixFrom(a, a.BitLen())
	}
	p, err := netip.ParsePrefix(w.text)
	if err != nil || p.Addr().Is4In6() {
		s.fail(w, "%q is no prefix", w.text)
	} else if p != p.Masked() {
		s.fail(w, "%s has bits beyond its length: %s?", w.text, p.Masked())
	}
	return p
}

func (s *scanner) addr(w word) netip.Addr {
	a, err := netip.ParseAddr(w.text)
	if err != nil || badAddr(a) {
		s.fail(w, "%q is no address", w.text)
		return netip.Addr{}
	}
	return a
}
