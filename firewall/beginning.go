package firewall

import (
	"time"

	"github.com/seed87e66d9f/waybill/internal/pace"
)

// Defaults of Config.SourceRate and Config.NewRate, and how much of them may be spent at once.
const (
	defaultSourceRate = 4096
	defaultNewRate    = 8192
	sourceBurst       = 4 // seconds' worth: 16,384 connections by default, a fourth of defaultConnections
	newBurst          = 2
)

// Sizes of the tables, which never grow: who meets another in one place shares its pace.
const (
	numSources = 4096 // eight octets each
	numWays    = 64   // interfaces
)

// beginnings bounds how fast packets that came in begin connections. RFC 6888 REQ-4C recommends it, lest one subscriber
// have all of a translator's processor.
type beginnings struct {
	source, way pace.Pace
	sources     []time.Duration // paid, by the hash of the source; made with the first connection
	ways        [numWays]time.Duration
}

// starts makes p new, one that begins a connection. With false it comes too soon, and is dropped.
func (f *Firewall) starts(now time.Duration, p *Packet) bool {
	p.State = StateNew
	if p.stage == arrived {
		if r := f.hurried(now, p); r != 0 {
			return f.lose(p, r)
		}
	}
	return true
}

// repeats bounds SYNs of connections that there are: each costs the other side an answer, and the router as much as one that
// begins another. One that does, in the place of c, pays later. With false it is dropped, and c is as it was.
func (f *Firewall) repeats(now time.Duration, c *conn, side int, p *Packet) bool {
	if r := f.hurried(now, p); r != 0 {
		return f.lose(p, r)
	}
	if !c.reopens(side, &p.seg) {
		f.began(now, p)
	}
	return true
}

// hurried says if the packet, which would begin a connection, comes too soon behind others that did. It charges nothing:
// what the rules drop is at nobody's cost.
func (f *Firewall) hurried(now time.Duration, p *Packet) Reason {
	b := &f.beginnings
	if p.way = zone(p.In) % numWays; !b.way.Allows(now, b.ways[p.way]) {
		return NewRate
	}
	if b.source == (pace.Pace{}) {
		return 0
	}
	p.sender = uint16(f.key.hash(p.key.sender()) % numSources)
	if b.sources != nil && !b.source.Allows(now, b.sources[p.sender]) {
		return SourceRate
	}
	return 0
}

// sender is what stands for who sent a packet: an IPv4 address, or a network of IPv6, in which a host has as many addresses
// as it likes (RFC 8981). Of link-local ones that would be everybody.
func (t *tuple) sender() *tuple {
	s := tuple{src: t.src, zone: 0xfffe}
	if !is4(&s.src) && !isLinkLocal(&s.src) {
		clear(s.src[8:])
	}
	return &s
}

// began charges the connection that the packet began to those who have to pay for it.
func (f *Firewall) began(now time.Duration, p *Packet) {
	b := &f.beginnings
	b.ways[p.way] = b.way.After(now, b.ways[p.way], 1)
	if b.source == (pace.Pace{}) {
		return
	}
	if b.sources == nil {
		b.sources = make([]time.Duration, numSources)
	}
	b.sources[p.sender] = b.source.After(now, b.sources[p.sender], 1)
}
