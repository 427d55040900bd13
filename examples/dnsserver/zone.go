package main

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// A zone holds records by name, in lower case and with the final dot. It is all that there is: who asks for another name
// learns that it does not exist.
type zone map[string][]dnsmessage.Resource

// ttl is how many seconds a record may be remembered: a minute, as who plays with an example changes it often.
const ttl = 60

// parseZone reads a record a line: name, type, value. What follows a # is a comment.
func parseZone(text string) (zone, error) {
	z, number := zone{}, 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) < 3 {
			return nil, fmt.Errorf("zone: line %d: want a name, a type and a value", number)
		}
		r, err := parseRecord(f[0], f[1], strings.Join(f[2:], " "))
		if err != nil {
			return nil, fmt.Errorf("zone: line %d: %w", number, err)
		}
		name := r.Header.Name.String()
		z[name] = append(z[name], r)
	}
	return z, nil
}

func parseName(s string) (dnsmessage.Name, error) {
	return dnsmessage.NewName(strings.ToLower(strings.TrimSuffix(s, ".")) + ".")
}

func parseRecord(name, kind, value string) (r dnsmessage.Resource, err error) {
	r.Header = dnsmessage.ResourceHeader{Class: dnsmessage.ClassINET, TTL: ttl}
	if r.Header.Name, err = parseName(name); err != nil {
		return r, err
	}
	switch addr, _ := netip.ParseAddr(value); {
	case kind == "A" && addr.Is4():
		r.Body = &dnsmessage.AResource{A: addr.As4()}
	case kind == "AAAA" && addr.Is6():
		r.Body = &dnsmessage.AAAAResource{AAAA: addr.As16()}
	case kind == "TXT":
		r.Body = &dnsmessage.TXTResource{TXT: []string{value}}
	case kind == "CNAME":
		c, err := parseName(value)
		if err != nil {
			return r, err
		}
		r.Body = &dnsmessage.CNAMEResource{CNAME: c}
	default:
		return r, fmt.Errorf("%s %s: not a record that we know", kind, value)
	}
	m := dnsmessage.Message{Answers: []dnsmessage.Resource{r}}
	_, err = m.Pack() // it notices what is too long, and fills in the header's type
	return m.Answers[0], err
}

// Limits of an answer, in octets.
const (
	minUDP = 512       // that any client takes (RFC 1035 §4.2.1)
	maxUDP = 1232      // that passes in one packet (RFC 9715 §3): IPv6's least MTU of 1280, less two headers
	maxTCP = 1<<16 - 1 // that the length in front can say
)

// answer is what we say to a query by UDP or TCP, or nil where it is none.
func (z zone) answer(query []byte, overTCP bool) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || m.Response || len(m.Questions) != 1 {
		return nil
	}
	limit, edns := minUDP, m.Additionals
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, OpCode: m.OpCode, Authoritative: true, RecursionDesired: m.RecursionDesired}
	m.Answers, m.Authorities, m.Additionals = nil, nil, nil
	for _, r := range edns {
		if _, ok := r.Body.(*dnsmessage.OPTResource); ok { // RFC 6891 §6.2.3: its class is the length that the client takes
			limit = max(minUDP, min(int(r.Header.Class), maxUDP))
			var opt dnsmessage.ResourceHeader
			opt.SetEDNS0(maxUDP, dnsmessage.RCodeSuccess, false)
			m.Additionals = []dnsmessage.Resource{{Header: opt, Body: &dnsmessage.OPTResource{}}}
		}
	}
	if overTCP {
		limit = maxTCP
	}
	if m.RCode = dnsmessage.RCodeNotImplemented; m.OpCode == 0 {
		m.Answers, m.RCode = z.look(m.Questions[0])
	}
	b, err := m.Pack()
	if err == nil && len(b) > limit { // RFC 2181 §9: who sees TC asks again, by TCP
		m.Truncated, m.Answers = true, nil
		b, err = m.Pack()
	}
	if err != nil {
		return nil
	}
	return b
}

// maxAliases is how many CNAMEs are followed, as they may lead in circles.
const maxAliases = 8

// look finds the records that answer a question.
func (z zone) look(q dnsmessage.Question) (found []dnsmessage.Resource, code dnsmessage.RCode) {
	owner := q.Name // spelled as it was asked
	for range maxAliases {
		records, ok := z[strings.ToLower(owner.String())]
		if !ok {
			return found, dnsmessage.RCodeNameError
		}
		next := dnsmessage.Name{}
		for _, r := range records {
			r.Header.Name = owner
			alias, isAlias := r.Body.(*dnsmessage.CNAMEResource)
			if isAlias && q.Type != dnsmessage.TypeCNAME {
				next = alias.CNAME
			}
			if isAlias || r.Header.Type == q.Type {
				found = append(found, r)
			}
		}
		if next.Length == 0 {
			break
		}
		owner = next
	}
	return found, dnsmessage.RCodeSuccess
}
