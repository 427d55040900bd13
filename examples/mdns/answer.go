package main

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/seed87e66d9f/waybill/stack"
)

// canonical is a name as names are compared: with a dot at the end, and without regard to case.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) + "." }

// port is where everybody listens (RFC 6762 §3).
const port = 5353

// The class of a record and of a question is 15 bits. RFC 6762 §10.2: the highest bit of a record's says that there are no others of the
// name and type; §5.4: of a question's, that the answer may come to the asker alone.
const (
	classMask  = 0x7fff
	cacheFlush = 0x8000
)

// Times to live of what we answer, in seconds: RFC 6762 §10 for an address, §6.7 for who does not know multicast DNS.
const (
	ttlAddress = 120
	ttlLegacy  = 10
)

// question is a query for names: for who offers a service, or for the addresses of a host.
func question(names []string) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{})
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	for _, s := range names {
		name, err := dnsmessage.NewName(s)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", s, err)
		}
		kinds := []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA}
		if strings.HasSuffix(s, "._udp.local.") || strings.HasSuffix(s, "._tcp.local.") {
			kinds = []dnsmessage.Type{dnsmessage.TypePTR}
		}
		for _, k := range kinds {
			if err := b.Question(dnsmessage.Question{Name: name, Type: k, Class: dnsmessage.ClassINET}); err != nil {
				return nil, err
			}
		}
	}
	return b.Finish()
}

// answer is a record that somebody has told.
type answer struct {
	name, kind, value string
}

// String is the record as it is printed.
func (a answer) String() string { return a.name + " " + a.kind + " " + a.value }

// understand reads a message: reply is what to say to it, nil for nothing, and answers what it says.
func (l *link) understand(b []byte, from stack.PacketInfo) (reply []byte, answers []answer) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.OpCode != 0 || h.RCode != dnsmessage.RCodeSuccess { // RFC 6762 §18.3, §18.11: silently ignored
		return nil, nil
	}
	if !h.Response {
		return l.reply(&p, h, from), nil
	}
	// RFC 6762 §6: "Multicast DNS implementations MUST silently ignore any Multicast DNS responses they receive where the source
	// UDP port is not 5353."
	if from.From.Port() != port || p.SkipAllQuestions() != nil {
		return nil, nil
	}
	for {
		r, err := p.AnswerHeader()
		if err != nil {
			return nil, answers
		}
		a := answer{name: r.Name.String()}
		switch r.Type {
		case dnsmessage.TypeA:
			var v dnsmessage.AResource
			v, err = p.AResource()
			a.kind, a.value = "A", fmt.Sprintf("%d.%d.%d.%d", v.A[0], v.A[1], v.A[2], v.A[3])
		case dnsmessage.TypeAAAA:
			var v dnsmessage.AAAAResource
			v, err = p.AAAAResource()
			a.kind, a.value = "AAAA", netip.AddrFrom16(v.AAAA).String()
		case dnsmessage.TypePTR:
			var v dnsmessage.PTRResource
			v, err = p.PTRResource()
			a.kind, a.value = "PTR", v.PTR.String()
		default:
			err = p.SkipAnswer()
			if err == nil {
				continue
			}
		}
		if err != nil {
			return nil, answers
		}
		answers = append(answers, a)
	}
}

// reply answers what is asked about our name, with the addresses that the question came to: those of its interface.
func (l *link) reply(p *dnsmessage.Parser, h dnsmessage.Header, from stack.PacketInfo) []byte {
	legacy := from.From.Port() != port
	header, flush, ttl := dnsmessage.Header{Response: true, Authoritative: true}, dnsmessage.Class(cacheFlush), uint32(ttlAddress)
	if legacy { // RFC 6762 §6.7: the answer is one of ordinary DNS
		header.ID, flush, ttl = h.ID, 0, ttlLegacy
	}
	b := dnsmessage.NewBuilder(nil, header)
	asked, wanted := map[dnsmessage.Type]bool{}, []dnsmessage.Question(nil)
	for {
		q, err := p.Question()
		if err != nil {
			break
		}
		if canonical(q.Name.String()) == l.name && q.Class&classMask == dnsmessage.ClassINET {
			asked[q.Type] = true
			wanted = append(wanted, q)
		}
	}
	if legacy && b.StartQuestions() == nil {
		for _, q := range wanted {
			b.Question(q)
		}
	}
	b.StartAnswers()
	told := false
	all := asked[dnsmessage.TypeALL]
	for _, a := range from.Interface.Addrs() {
		r := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(l.name), Class: dnsmessage.ClassINET | flush, TTL: ttl}
		switch addr := a.Prefix.Addr(); {
		case a.State != stack.AddrValid: // nobody is to be told of an address that may be another's
		case addr.Is4() && (asked[dnsmessage.TypeA] || all):
			told = b.AResource(r, dnsmessage.AResource{A: addr.As4()}) == nil
		case addr.Is6() && (asked[dnsmessage.TypeAAAA] || all):
			told = b.AAAAResource(r, dnsmessage.AAAAResource{AAAA: addr.As16()}) == nil
		}
	}
	if !told {
		return nil
	}
	m, err := b.Finish()
	if err != nil {
		return nil
	}
	return m
}
