// Package neighbor remembers which card on the wire has which IP address, and
// whether it still answers: the neighbour cache of one interface, for ARP
// (RFC 826, RFC 1122 §2.3.2) and IPv6 Neighbor Discovery (RFC 4861 §7) alike.
//
// ARP says how to ask and how to learn; it does not say when to stop believing.
// RFC 4861 does, and RFC 1122 asks the same of ARP, so both families share the
// state machine of RFC 4861 §7.3.2:
//
//	           ask, wait                 confirmed
//	INCOMPLETE ───────────► REACHABLE ◄─────────────┐
//	    │ no answer             │ 30 s              │
//	    ▼                       ▼        packet     │  5 s      no answer
//	 (failed)                 STALE ───────────► DELAY ───► PROBE ───► deleted
//
// A neighbour that nobody talks to costs nothing: it rests in STALE and is
// only asked after somebody sends to it. Where TCP sees its data acknowledged it
// says Confirm, and no probe is ever sent.
//
// A Cache has no clock, lock or goroutine and sends nothing. Its caller says what
// time it is and what arrived, and is told what to send:
//
//	hw, r := c.Resolve(now, ip)      // for each packet
//	c.Update(now, message)           // for each ARP packet, NS, NA, RA
//	c.Confirm(now, ip)               // for each acknowledgement of new data
//	at, ok := c.Deadline()           // when to do the following, after each of the above
//	failed := c.Expire(now)          // these packets go nowhere
//	s, ok := c.Next(now)             // send this solicitation; again until !ok
//
// It is bounded: strangers can neither grow it beyond Config.Size nor push out a
// neighbour that is in use. Broadcast and multicast addresses have no neighbour
// and are the caller's, who also strips zones.
package neighbor

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
)

// State is what is known of a neighbour (RFC 4861 §7.3.2).
type State uint8

// The states. Those of RFC 4861 have its meaning.
const (
	Incomplete  State = iota // asked for, no answer yet: there is no address to send to
	Reachable                // confirmed within the reachable time
	Stale                    // not confirmed lately, which matters to nobody yet
	Delay                    // used while STALE: waits for a confirmation by the upper layers
	Probe                    // asked by unicast whether it is still there
	Permanent                // set by hand: never asked, never changed by what arrives
	Unreachable              // did not answer: for a moment nobody asks again (not in RFC 4861)
)

var stateNames = [...]string{"INCOMPLETE", "REACHABLE", "STALE", "DELAY", "PROBE", "PERMANENT", "UNREACHABLE"}

// String returns the state's name as in RFC 4861.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "State(?)"
}

// Protocol constants. RFC 4861 §10, unless they say otherwise.
const (
	maxMulticastSolicit = 3                // MAX_MULTICAST_SOLICIT
	maxUnicastSolicit   = 3                // MAX_UNICAST_SOLICIT
	reachableTime       = 30 * time.Second // REACHABLE_TIME
	retransTimer        = time.Second      // RETRANS_TIMER, and RFC 1122 §2.3.2.1's rate for ARP
	delayFirstProbe     = 5 * time.Second  // DELAY_FIRST_PROBE_TIME

	// redraw is how long one random reachable time is used. RFC 4861 §6.3.2: "A new
	// random value should be calculated when BaseReachableTime changes (due to Router
	// Advertisements) or at least every few hours even if no Router Advertisements
	// are received."
	redraw = 2 * time.Hour

	// hold is how long a failed resolution is remembered. One second keeps RFC
	// 1122 §2.3.2.1's rate for callers who try again at once.
	hold = time.Second

	defaultSize = 1024 // Linux's gc_thresh3 for either family

	// inUse is how long after the last packet to it an entry is safe from eviction:
	// REACHABLE_TIME of RFC 4861 §10, whatever a router advertises.
	inUse = reachableTime

	// touchEvery is how exact the order of last use is, so that not every packet
	// moves its neighbour in the list.
	touchEvery = time.Second
)

// Config says how a Cache behaves. The zero Config is RFC 4861's.
type Config struct {
	Size      int           // entries, static ones not counted; 0: 1024. At most half of them are being resolved
	Reachable time.Duration // BaseReachableTime; 0: 30 s
	Retrans   time.Duration // RetransTimer, between solicitations; 0: 1 s
	Delay     time.Duration // DELAY_FIRST_PROBE_TIME; 0: 5 s
	Rand      func() uint64 // for the reachable time, 0.5 to 1.5 times Reachable; nil: exactly Reachable
}

// Result is Resolve's answer.
type Result uint8

// What Resolve can say.
const (
	Resolved Result = iota // here is the address
	Pending                // asked, or about to be through Next: keep the packet until Change.Resolved or Expire
	Failed                 // did not answer a moment ago: EHOSTUNREACH
	Full                   // no room to ask: drop the packet, try again later
)

// Kind is which message brought a link-layer address.
type Kind uint8

// The kinds of Message.
const (
	ARPRequest Kind = iota // a request for an address of ours
	ARPOther               // a request for somebody else's, or a gratuitous ARP packet of either operation
	ARPReply               // a reply to us
	NS                     // a Neighbor Solicitation for an address of ours; also Router Solicitation and Redirect
	RA                     // a Router Advertisement
	NA                     // a Neighbor Advertisement
)

// A Message is what an ARP packet or a Neighbor Discovery message says about its
// sender (for NA and Redirect: about its target).
type Message struct {
	IP    netip.Addr
	HW    ethernet.Addr // sender hardware address; source (NA, Redirect: target) link-layer address option
	HasHW bool          // false: the option was absent
	Kind  Kind

	Solicited, Override, Router bool // the S, O and R flags of NA
}

// Change is what Update did. The zero Change is nothing.
type Change struct {
	Created   bool // the neighbour was not in the cache
	Updated   bool // it has another link-layer address than before
	Resolved  bool // it had no usable address and has one now: packets that wait for it can go
	NotRouter bool // it was a router and says it is none any more (RFC 4861 §7.2.5): drop it as default router
}

// A Solicit is a solicitation to send now: an ARP request or an NS for IP.
type Solicit struct {
	IP      netip.Addr
	HW      ethernet.Addr // where to, if Unicast
	Unicast bool          // false: to the broadcast or the solicited-node multicast address
}

// An Entry describes a neighbour.
type Entry struct {
	IP     netip.Addr
	HW     ethernet.Addr // zero if State is Incomplete or Unreachable
	State  State         // REACHABLE is STALE once Until has passed
	Router bool          // its last NA had the R flag, or it sent an RA
	Since  time.Duration // when it came into State; 0 if Permanent
	Until  time.Duration // if State is Reachable: until when
	Used   time.Duration // when a packet was last sent to it, to touchEvery (1 s)
}

// A Cache is the neighbour cache of one interface. New makes one.
type Cache struct {
	conf      Config
	entries   map[netip.Addr]*entry
	permanent int // of entries: not counted against Size
	resolving int // of entries: Incomplete

	// Lists in the order of their members' times, so that what is due next stands
	// at the front: within one list all waits are equally long.
	ready  list // to be solicited by Next
	asked  list // solicited, wait for the answer: Incomplete and Probe
	delay  list // in DELAY
	failed list // Unreachable
	// Lists in the order of use, for eviction.
	idle list // created by a neighbour's message, never sent to
	used list // sent to; least recently used first

	reachable    time.Duration // ReachableTime (RFC 4861 §6.3.2): random
	drawAgain    time.Duration // when it is drawn again
	pressedUntil time.Duration // until then resolution is impatient, as there was no room

	gaveUp, spare []netip.Addr // for Expire; the other one is with its caller
	gaveUpAt      time.Duration
	free          *entry // entries to use again, linked by next of links[byTime]
}

// New makes an empty cache.
func New(c Config) *Cache {
	if c.Size <= 0 {
		c.Size = defaultSize
	}
	if c.Reachable <= 0 {
		c.Reachable = reachableTime
	}
	if c.Retrans <= 0 {
		c.Retrans = retransTimer
	}
	if c.Delay <= 0 {
		c.Delay = delayFirstProbe
	}
	return &Cache{
		conf:    c,
		entries: map[netip.Addr]*entry{},
		ready:   list{by: byTime}, asked: list{by: byTime}, delay: list{by: byTime}, failed: list{by: byTime},
		idle: list{by: byUse}, used: list{by: byUse},
		pressedUntil: -1 << 63,
	}
}

// SetTimers changes BaseReachableTime and RetransTimer from now on, as a Router
// Advertisement may ask (RFC 4861 §6.3.4); 0 leaves one as it is.
func (c *Cache) SetTimers(reachable, retrans time.Duration) {
	if reachable > 0 && reachable != c.conf.Reachable {
		c.conf.Reachable, c.reachable = reachable, 0
	}
	if retrans > 0 {
		c.conf.Retrans = retrans
	}
}

// Set makes a static entry, which no message changes and no flood evicts, or
// changes one. Packets that wait for ip can go.
func (c *Cache) Set(ip netip.Addr, hw ethernet.Addr) {
	if e := c.entries[ip]; e != nil {
		c.remove(e)
	}
	e := c.insert(0, ip)
	e.state, e.hw = Permanent, hw
	c.permanent++
}

// Delete forgets ip, static or not, and reports whether it was there. A resolution
// under way has failed, and Expire says so.
func (c *Cache) Delete(ip netip.Addr) bool {
	e := c.entries[ip]
	if e == nil {
		return false
	}
	if e.state == Incomplete {
		c.gaveUp = append(c.gaveUp, ip)
	}
	c.remove(e)
	return true
}

// Flush is Delete of all but the static entries: the link went down and up.
func (c *Cache) Flush() {
	for ip, e := range c.entries {
		if e.state != Permanent {
			c.Delete(ip)
		}
	}
}

// All returns the entries in the order of their addresses. It allocates.
func (c *Cache) All() iter.Seq[Entry] {
	all := make([]Entry, 0, len(c.entries))
	for _, e := range c.entries {
		all = append(all, Entry{e.ip, e.hw, e.state, e.router, e.since, e.until, e.used})
	}
	slices.SortFunc(all, func(a, b Entry) int { return a.IP.Compare(b.IP) })
	return slices.Values(all)
}

// Len returns the number of entries, in any state.
func (c *Cache) Len() int { return len(c.entries) }
