package neighbor

import (
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
)

// Update learns from a message that arrived and was found valid by its codec.
// It has no effect on a static entry, nor with an address that no neighbour
// can have: an IP address that is unspecified or multicast, a link-layer address
// that is zero or a group's. Hop limit 255 is the caller's check.
func (c *Cache) Update(now time.Duration, m Message) (changed Change) {
	if !m.IP.IsValid() || m.IP.IsUnspecified() || m.IP.IsMulticast() || m.HasHW && !usable(m.HW) {
		return changed
	}
	if m.Kind != NA && !m.HasHW {
		return c.routerOnly(m)
	}
	e := c.entries[m.IP]
	if e == nil {
		return c.create(now, m)
	}
	if e.state == Permanent {
		return changed
	}
	if m.Kind == RA {
		e.router = true
	}
	if e.state == Incomplete || e.state == Unreachable {
		return c.answer(now, e, m)
	}
	switch m.Kind {
	case NA:
		return c.advertised(now, e, m)
	case ARPReply:
		// The answer to a probe of ours confirms the way there and back; any other
		// reply only tells an address.
		if e.state == Probe {
			changed.Updated = e.hw != m.HW
			e.hw = m.HW
			c.reach(now, e)
			return changed
		}
	}
	// RFC 826, "Packet Reception": "If the pair <protocol type, sender protocol address> is
	// already in my translation table, update the sender hardware address field of the
	// entry with the new information in the packet".
	// RFC 4861 §7.2.3: "If an entry already exists, and the cached link-layer address differs
	// from the one in the received Source Link-Layer option, the cached address should be
	// replaced by the received address, and the entry's reachability state MUST be set to
	// STALE."
	if e.hw != m.HW {
		e.hw = m.HW
		c.enter(now, e, Stale)
		changed.Updated = true
	}
	return changed
}

// usable reports whether a card can have the address.
func usable(hw ethernet.Addr) bool { return !hw.IsMulticast() && !hw.IsZero() }

// routerOnly takes what a message without a link-layer address tells: an RA's sender
// is a router.
func (c *Cache) routerOnly(m Message) Change {
	if e := c.entries[m.IP]; m.Kind == RA && e != nil && e.state != Permanent {
		e.router = true
	}
	return Change{}
}

// create makes an entry for a neighbour that spoke first, if its message is of a
// kind that may and there is room. RFC 826: "?Am I the target protocol address? Yes: If
// Merge_flag is false, add the triplet". A reply that nobody asked for
// creates nothing (a departure from RFC 826, which does not look at the operation
// here), nor does an NA: RFC 4861 §7.2.5: "There is no need to create an entry if none exists".
func (c *Cache) create(now time.Duration, m Message) (changed Change) {
	switch m.Kind {
	case ARPRequest, NS, RA:
	default:
		return changed
	}
	if !c.makeRoom(now) {
		return changed
	}
	e := c.insert(now, m.IP)
	e.state, e.hw, e.router = Stale, m.HW, m.Kind == RA
	c.idle.push(e)
	changed.Created = true
	return changed
}

// answer takes the link-layer address of a neighbour that we have asked for. It is late
// but welcome where we had just given up.
func (c *Cache) answer(now time.Duration, e *entry, m Message) (changed Change) {
	// RFC 4861 §7.2.5: "If the link layer has addresses and no Target Link-Layer Address
	// option is included, the receiving node SHOULD silently discard the received
	// advertisement."
	if !m.HasHW {
		return changed
	}
	e.hw = m.HW
	if m.Kind == NA {
		e.router = m.Router
	}
	if m.Kind == ARPReply || m.Kind == NA && m.Solicited {
		c.reach(now, e)
	} else {
		c.enter(now, e, Stale)
	}
	c.touch(now, e)
	changed.Resolved = true
	return changed
}

// advertised is RFC 4861 §7.2.5 for an entry with a link-layer address.
func (c *Cache) advertised(now time.Duration, e *entry, m Message) (changed Change) {
	other := m.HasHW && m.HW != e.hw
	if other && !m.Override {
		// "If the state of the entry is REACHABLE, set it to STALE, but do not update the
		// entry in any other way."
		if e.state == Reachable {
			c.enter(now, e, Stale)
		}
		return changed
	}
	if other {
		e.hw = m.HW
		changed.Updated = true
	}
	// "If the Solicited flag is zero and the link-layer address was updated with a
	// different address, the state MUST be set to STALE."
	switch {
	case m.Solicited:
		c.reach(now, e)
	case other:
		c.enter(now, e, Stale)
	}
	changed.NotRouter = e.router && !m.Router
	e.router = m.Router
	return changed
}
