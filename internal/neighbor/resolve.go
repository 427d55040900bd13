package neighbor

import (
	"net/netip"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
)

// Resolve returns the link-layer address of ip for a packet that is about to
// leave. Only Resolved brings one. It does not allocate for a known neighbour.
func (c *Cache) Resolve(now time.Duration, ip netip.Addr) (hw ethernet.Addr, r Result) {
	e := c.entries[ip]
	if e == nil {
		return hw, c.ask(now, ip)
	}
	switch e.state {
	case Permanent:
		return e.hw, Resolved
	case Incomplete:
		return hw, Pending
	case Unreachable:
		if now < e.due {
			return hw, Failed
		}
		c.remove(e)
		return hw, c.ask(now, ip)
	case Reachable:
		// Nothing needs to happen when the reachable time is over, so no timer waits for it.
		if now >= e.until {
			c.enter(e.until, e, Stale)
		}
	}
	if e.state == Stale {
		// RFC 4861 §7.3.3: "The first time a node sends a packet to a neighbor whose entry
		// is STALE, the sender changes the state to DELAY and sets a timer to expire in
		// DELAY_FIRST_PROBE_TIME seconds."
		c.enter(now, e, Delay)
		c.delay.pushDue(e, now+c.conf.Delay)
	}
	c.touch(now, e)
	return e.hw, Resolved
}

// Confirm says that ip answers: data or an acknowledgement arrived that it can only have sent
// after ours reached it (RFC 4861 §7.3.1). Whether it has an entry does not matter.
func (c *Cache) Confirm(now time.Duration, ip netip.Addr) {
	e := c.entries[ip]
	if e == nil {
		return
	}
	switch e.state {
	case Reachable:
		e.until = now + c.reachableFor(now)
	case Stale, Delay, Probe:
		c.reach(now, e)
	}
}

// Doubt says that ip may have gone: what was sent to it is not answered, again and again. One that was said to be there
// is asked whether it is, without the wait of DELAY, but no sooner than its state is a RetransTimer old.
func (c *Cache) Doubt(now time.Duration, ip netip.Addr) {
	e := c.entries[ip]
	if e == nil || now-e.since < c.conf.Retrans || e.state != Reachable && e.state != Stale && e.state != Delay {
		return
	}
	c.enter(now, e, Probe)
	c.ready.pushDue(e, now)
}

// ask makes an INCOMPLETE entry for ip, which Next will solicit.
func (c *Cache) ask(now time.Duration, ip netip.Addr) Result {
	if c.resolving >= max(1, c.conf.Size/2) || !c.makeRoom(now) {
		c.pressedUntil = now + c.conf.Retrans
		return Full
	}
	e := c.insert(now, ip)
	e.state, e.used = Incomplete, now
	c.resolving++
	c.ready.pushDue(e, now)
	return Pending
}

// makeRoom evicts one entry if the cache is full, and reports whether there is
// room. Those go first that are worth least: one that did not answer, one that
// came unasked and was never sent to, one that was not sent to for a while. What
// is being resolved stays, since packets wait for it; instead it gets one try
// rather than three (see exhausted).
func (c *Cache) makeRoom(now time.Duration) bool {
	if len(c.entries)-c.permanent < c.conf.Size {
		return true
	}
	victim := c.failed.front
	if victim == nil {
		victim = c.idle.front
	}
	if lru := c.used.front; victim == nil && lru != nil && now-lru.used >= inUse {
		victim = lru
	}
	if victim == nil {
		return false
	}
	c.remove(victim)
	return true
}

// touch notes that a packet goes to e.
func (c *Cache) touch(now time.Duration, e *entry) {
	if e.links[byUse].in == &c.used && now-e.used < touchEvery {
		return
	}
	e.used = now
	e.unlink(byUse)
	c.used.push(e)
}

// enter changes e's state and stops whatever waited for the old one.
func (c *Cache) enter(now time.Duration, e *entry, s State) {
	if e.state == Incomplete && s != Incomplete {
		c.resolving--
	}
	e.unlink(byTime)
	e.state, e.since, e.tries = s, now, 0
}

// reach puts e into REACHABLE.
func (c *Cache) reach(now time.Duration, e *entry) {
	c.enter(now, e, Reachable)
	e.until = now + c.reachableFor(now)
}

// reachableFor returns the ReachableTime. RFC 4861 §6.3.2: "This value should be a
// uniformly distributed random value between MIN_RANDOM_FACTOR and
// MAX_RANDOM_FACTOR times BaseReachableTime milliseconds."
func (c *Cache) reachableFor(now time.Duration) time.Duration {
	if c.reachable == 0 || now >= c.drawAgain {
		c.reachable, c.drawAgain = c.conf.Reachable, now+redraw
		if c.conf.Rand != nil {
			c.reachable = c.conf.Reachable/2 + time.Duration(c.conf.Rand()%uint64(c.conf.Reachable)) + 1
		}
	}
	return c.reachable
}

// insert adds a new entry, which hangs in no list yet.
func (c *Cache) insert(now time.Duration, ip netip.Addr) *entry {
	e := c.free
	if e == nil {
		e = new(entry)
	} else {
		c.free = e.links[byTime].next
	}
	*e = entry{ip: ip, since: now}
	c.entries[ip] = e
	return e
}

// remove takes e out of everything.
func (c *Cache) remove(e *entry) {
	switch e.state {
	case Permanent:
		c.permanent--
	case Incomplete:
		c.resolving--
	}
	e.unlink(byTime)
	e.unlink(byUse)
	delete(c.entries, e.ip)
	e.links[byTime].next, c.free = c.free, e
}
