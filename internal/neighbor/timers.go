package neighbor

import (
	"net/netip"
	"slices"
	"time"
)

// Next returns a solicitation that is to be sent now, and false if there is
// none. The first three for a new neighbour go to all, a second apart; those that
// ask whether an old one is still there go to it alone. RFC 1122 §2.3.2.1: "The
// recommended maximum rate is 1 per second per destination."
func (c *Cache) Next(now time.Duration) (s Solicit, ok bool) {
	c.advance(now)
	e := c.ready.front
	if e == nil {
		return s, false
	}
	e.unlink(byTime)
	e.tries++
	c.asked.pushDue(e, now+c.conf.Retrans)
	return Solicit{IP: e.ip, HW: e.hw, Unicast: e.state == Probe}, true
}

// Expire returns the neighbours that have been given up: those that were asked for
// and did not answer, so that packets waiting for them go nowhere, and those that
// no longer answer probes. The slice is the caller's until the next call.
func (c *Cache) Expire(now time.Duration) (failed []netip.Addr) {
	c.advance(now)
	failed = c.gaveUp
	c.gaveUp, c.spare = c.spare[:0], failed
	// Who has come back meanwhile, or is asked for again, has not failed.
	return slices.DeleteFunc(failed, func(ip netip.Addr) bool {
		e := c.entries[ip]
		return e != nil && e.state != Unreachable
	})
}

// Deadline returns when Expire and Next should be called, and false if nothing
// waits for time to pass. It may be in the past: then at once.
func (c *Cache) Deadline() (at time.Duration, ok bool) {
	if len(c.gaveUp) > 0 {
		return c.gaveUpAt, true
	}
	for _, l := range [...]*list{&c.ready, &c.asked, &c.delay, &c.failed} {
		if e := l.front; e != nil && (!ok || e.due < at) {
			at, ok = e.due, true
		}
	}
	return at, ok
}

// advance does what the time says: entries become ready to be solicited, or are
// given up, or forgotten.
func (c *Cache) advance(now time.Duration) {
	for e := c.delay.front; e != nil && e.due <= now; e = c.delay.front {
		// RFC 4861 §7.3.3: "If the entry is still in the DELAY state when the timer expires,
		// the entry's state changes to PROBE."
		c.enter(now, e, Probe)
		c.ready.pushDue(e, now)
	}
	for e := c.asked.front; e != nil && e.due <= now; e = c.asked.front {
		if c.exhausted(now, e) {
			c.giveUp(now, e)
		} else {
			e.unlink(byTime)
			c.ready.pushDue(e, now)
		}
	}
	for e := c.failed.front; e != nil && e.due <= now; e = c.failed.front {
		c.remove(e)
	}
}

// exhausted reports whether e, which did not answer the last solicitation in time,
// gets no other. Under pressure of more addresses than the cache has room for, as
// when somebody scans a network through us (RFC 6583 §3), one try must do.
func (c *Cache) exhausted(now time.Duration, e *entry) bool {
	if e.state == Probe {
		return e.tries >= maxUnicastSolicit
	}
	return e.tries >= maxMulticastSolicit || now < c.pressedUntil
}

// giveUp ends the solicitation of e without an answer.
func (c *Cache) giveUp(now time.Duration, e *entry) {
	c.gaveUp, c.gaveUpAt = append(c.gaveUp, e.ip), now
	if e.state == Probe {
		// RFC 4861 §7.3.3: "If no response is received after waiting RetransTimer
		// milliseconds after sending the MAX_UNICAST_SOLICIT solicitations, retransmissions
		// cease and the entry SHOULD be deleted." The next packet asks everybody.
		c.remove(e)
		return
	}
	c.enter(now, e, Unreachable)
	c.failed.pushDue(e, now+hold)
}
