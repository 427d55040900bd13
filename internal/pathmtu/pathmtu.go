// Package pathmtu remembers what routers have said of the packets that paths carry: RFC 1191 for IPv4, RFC 8201 for IPv6.
package pathmtu

import (
	"net/netip"
	"time"
)

const (
	// Age is how long an answer is believed. RFC 1191 §6.3 recommends 10 minutes, and RFC 8201 §4 the same; Linux's
	// net.ipv4.route.mtu_expires.
	Age = 10 * time.Minute
	// MaxEntries bounds the destinations that are remembered. Only what we have sent to is.
	MaxEntries = 4096
	// MinIPv4 is how small a router can make our packets, whatever it says: Linux's net.ipv4.route.min_pmtu. RFC 791 would
	// allow 68, and one forged message would then make a connection send forty times the packets.
	MinIPv4 = 552
	// MinIPv6: RFC 8201 §4: "A node must not reduce its estimate of the Path MTU below the IPv6 minimum link MTU on receipt
	// of a Packet Too Big message."
	MinIPv6 = 1280
)

// Path is what is known of a path. The zero value is one of which nothing is.
type Path struct {
	MTU int // octets of an IP packet; 0: nobody said
	// Narrow says that the path carries even less than MTU, of IPv4: routers have to cut our packets, so DF must be clear.
	Narrow bool
}

// Judge says what a message means that tells of a path with an MTU of said octets, as a packet of length octets found
// out. It is false where the message makes no sense, since the packet would have passed, or where IPv6 has no use for it.
func Judge(v4 bool, said, length int) (Path, bool) {
	if said >= length {
		return Path{}, false
	}
	if !v4 {
		return Path{MTU: said}, said >= MinIPv6
	}
	if said == 0 {
		said = plateau(length)
	}
	return Path{MTU: max(said, MinIPv4), Narrow: said < MinIPv4}, true
}

// plateaus are the MTUs that are usual: RFC 1191 §7, Table 7-1, without those that share a plateau.
var plateaus = [...]int{32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68}

// plateau is the greatest usual MTU below the length of a packet that did not pass. RFC 1191 §5: a router that is older than
// this says no MTU, and the host searches for it in this table.
func plateau(length int) int {
	for _, p := range plateaus {
		if p < length {
			return p
		}
	}
	return plateaus[len(plateaus)-1]
}

// Cache is what is known by destination. The zero value is empty.
type Cache struct {
	entries map[netip.Addr]entry
	next    time.Duration // no entry expires before; 0: there is none
}

type entry struct {
	Path
	expires time.Duration
}

// Learn takes over what Judge has found out of the path to dst, and reports whether that is news: a smaller MTU. An MTU never
// grows but with age.
func (c *Cache) Learn(now time.Duration, dst netip.Addr, p Path) bool {
	if e, ok := c.entries[dst]; ok && now < e.expires && (e.MTU < p.MTU || e.MTU == p.MTU && (e.Narrow || !p.Narrow)) {
		return false
	}
	if c.entries == nil {
		c.entries = map[netip.Addr]entry{}
	}
	if _, ok := c.entries[dst]; !ok && len(c.entries) >= MaxEntries {
		for d := range c.entries { // any: who needs it will be told again
			delete(c.entries, d)
			break
		}
	}
	c.entries[dst] = entry{p, now + Age}
	if c.next == 0 {
		c.next = now + Age
	}
	return true
}

// To is what is known of the path to dst.
func (c *Cache) To(now time.Duration, dst netip.Addr) Path {
	if e, ok := c.entries[dst]; ok && now < e.expires {
		return e.Path
	}
	return Path{}
}

// Deadline is when Expire is to be called, and false where nothing is remembered.
func (c *Cache) Deadline() (time.Duration, bool) { return c.next, c.next != 0 }

// Expire forgets what is too old, and reports whether there was any.
func (c *Cache) Expire(now time.Duration) bool {
	before := len(c.entries)
	c.next = 0
	for d, e := range c.entries {
		if now >= e.expires {
			delete(c.entries, d)
		} else if c.next == 0 || e.expires < c.next {
			c.next = e.expires
		}
	}
	return len(c.entries) < before
}

// Len is how many destinations are remembered.
func (c *Cache) Len() int { return len(c.entries) }
