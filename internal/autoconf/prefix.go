package autoconf

import (
	"net/netip"
	"slices"
	"time"

	"github.com/seed87e66d9f/waybill/ipv6"
)

// onLink is a network whose addresses are neighbours (RFC 4861 §6.3.4).
type onLink struct {
	prefix netip.Prefix
	until  time.Duration
}

// auto is a prefix to make addresses of (RFC 4862 §5.5), with those that were made.
type auto struct {
	prefix           netip.Prefix
	router           netip.Addr    // who advertised it first
	preferred, valid time.Duration // when it ends
	deprecated       bool          // preferred is over, and that was said

	addr    netip.Addr    // the stable one; invalid while there is none
	counter uint8         // RFC 7217 §5's DAD_Counter
	retry   time.Duration // when to form another; Forever: not at all

	temps  []temp
	failed uint8 // temporary addresses in a row that were somebody else's
}

// temp is a temporary address (RFC 8981 §3.4).
type temp struct {
	addr             netip.Addr
	born, desync     time.Duration
	preferred, valid time.Duration
	deprecated       bool
	succeeded        bool // there is another, or none is to be
}

const (
	// twoHours: RFC 4862 §5.5.3 e, which keeps a forged advertisement from ending addresses.
	twoHours = 2 * time.Hour

	prefixBits = 64 // RFC 2464 §4: interface identifiers have 64 bits, so prefixes have the rest
)

// acceptable reports whether a network may be on the link: it has nothing of what never leaves a host or a link.
func acceptable(p netip.Prefix) bool {
	return p.IsValid() && p.Addr().Is6() && !p.Overlaps(multicast) && !p.Overlaps(allLinkLocal) && !p.Overlaps(special)
}

// onLink is RFC 4861 §6.3.4 for a prefix with the L flag.
func (h *Host) onLink(now time.Duration, p *ipv6.Prefix) {
	if !acceptable(p.Prefix) { // "If the prefix is the link-local prefix, silently ignore", and what nobody can mean
		return
	}
	k := slices.IndexFunc(h.prefixes, func(x onLink) bool { return x.prefix == p.Prefix })
	switch {
	case p.Valid == 0 && k >= 0: // "time-out the prefix immediately"
		h.prefixes, h.changed = slices.Delete(h.prefixes, k, k+1), true
	case p.Valid == 0:
	case k >= 0:
		h.prefixes[k].until = until(now, p.Valid)
	case room(h, now, &h.prefixes, MaxPrefixes, func(k int) bool { return h.used(h.prefixes[k].prefix) }):
		h.prefixes, h.changed = append(h.prefixes, onLink{p.Prefix, until(now, p.Valid)}), true
	}
}

// autonomous is RFC 4862 §5.5.3 for a prefix with the A flag.
func (h *Host) autonomous(now time.Duration, from netip.Addr, p *ipv6.Prefix) {
	// b) "If the prefix is the link-local prefix, silently ignore"; c) "If the preferred lifetime is greater than the
	// valid lifetime, silently ignore"; d) "If the sum of the prefix length and interface identifier length does not equal
	// 128 bits, the Prefix Information option MUST be ignored."
	if !acceptable(p.Prefix) || p.Preferred > p.Valid || p.Prefix.Bits() != prefixBits {
		return
	}
	k := slices.IndexFunc(h.autos, func(a auto) bool { return a.prefix == p.Prefix })
	if k < 0 {
		if p.Valid == 0 || !h.roomForAuto(now) {
			return
		}
		h.autos = append(h.autos, auto{prefix: p.Prefix, router: from, preferred: until(now, p.Preferred), valid: until(now, p.Valid), retry: Forever})
		a := &h.autos[len(h.autos)-1]
		a.deprecated = now >= a.preferred
		h.form(a)
		h.ensure(now, a)
		return
	}
	a := &h.autos[k]
	valid := until(now, p.Valid)
	switch {
	case valid-now > twoHours || valid > a.valid:
		// e 1) "If the received Valid Lifetime is greater than 2 hours or greater than RemainingLifetime, set the valid lifetime
		// of the corresponding address to the advertised Valid Lifetime."
		a.valid = valid
	case a.valid-now <= twoHours:
		// e 2) "If RemainingLifetime is less than or equal to 2 hours, ignore the Prefix Information option with regards to the
		// valid lifetime"
	default:
		// e 3) "Otherwise, reset the valid lifetime of the corresponding address to 2 hours."
		a.valid = now + twoHours
	}
	a.preferred = min(until(now, p.Preferred), a.valid)
	for j := range a.temps {
		a.limit(&a.temps[j])
	}
	h.age(now, a)
	h.ensure(now, a)
}

// roomForAuto makes room for another prefix, and reports whether there is. The link-local one stays.
func (h *Host) roomForAuto(now time.Duration) bool {
	most := len(h.autos) + 1
	if h.count() >= MaxAddrs {
		most = len(h.autos)
	}
	return room(h, now, &h.autos, most, func(k int) bool { return k == 0 || h.used(h.autos[k].prefix) })
}

// count is how many addresses there are, or are to be.
func (h *Host) count() (n int) {
	for k := range h.autos {
		n += 1 + len(h.autos[k].temps)
	}
	return n
}

// form makes the stable address of a prefix.
func (h *Host) form(a *auto) {
	a.addr, a.counter = stable(&h.conf, a.prefix, a.counter)
	a.retry, h.changed = Forever, true
}

// age does what time has brought to the addresses of a prefix.
func (h *Host) age(now time.Duration, a *auto) {
	if now >= a.retry {
		h.form(a)
	}
	if d := now >= a.preferred; d != a.deprecated {
		a.deprecated, h.changed = d, true
	}
	expire(h, &a.temps, func(t *temp) bool { return now >= t.valid })
	late := false
	for k := range a.temps {
		t := &a.temps[k]
		if d := now >= t.preferred; d != t.deprecated {
			t.deprecated, h.changed = d, true
		}
		if !t.succeeded && now >= t.preferred-regenAdvance {
			t.succeeded, late = true, true
			a.failed = 0
		}
	}
	if late {
		h.ensure(now, a)
	}
}

// deadline is when age has something to do.
func (a *auto) deadline() time.Duration {
	at := min(a.valid, a.retry)
	if !a.deprecated {
		at = min(at, a.preferred)
	}
	for k := range a.temps {
		t := &a.temps[k]
		at = min(at, t.valid)
		if !t.deprecated {
			at = min(at, t.preferred)
		}
		if !t.succeeded {
			at = min(at, t.preferred-regenAdvance)
		}
	}
	return at
}

// Addrs lists the addresses to have, the link-local one first.
func (h *Host) Addrs() []Addr {
	var all []Addr
	for k := range h.autos {
		a := &h.autos[k]
		if a.addr.IsValid() {
			all = append(all, Addr{Prefix: netip.PrefixFrom(a.addr, prefixBits), Router: a.router, Deprecated: a.deprecated,
				Preferred: a.preferred, Valid: a.valid})
		}
		for j := range a.temps {
			t := &a.temps[j]
			all = append(all, Addr{Prefix: netip.PrefixFrom(t.addr, prefixBits), Router: a.router, Temporary: true,
				Deprecated: t.deprecated, Preferred: t.preferred, Valid: t.valid})
		}
	}
	return all
}

// Duplicate says that an address is somebody else's: it is to be had no more. known is false where it is none of ours, and
// last is true where there will be no other in its place, since too many were taken already.
func (h *Host) Duplicate(now time.Duration, addr netip.Addr) (known, last bool) {
	for k := range h.autos {
		a := &h.autos[k]
		if a.addr == addr {
			// RFC 7217 §6: the counter makes another address of the next attempt, and of IDGEN_RETRIES no more.
			a.addr, h.changed = netip.Addr{}, true
			if a.counter++; a.counter > idgenRetries {
				return true, true
			}
			a.retry = now + idgenDelay
			return true, false
		}
		j := slices.IndexFunc(a.temps, func(t temp) bool { return t.addr == addr })
		if j < 0 {
			continue
		}
		a.temps, h.changed = slices.Delete(a.temps, j, j+1), true
		// RFC 8981 §3.4: after TEMP_IDGEN_RETRIES of them in a row, that is an error, and there will be none.
		a.failed++
		h.ensure(now, a)
		return true, a.failed > tempRetries
	}
	return false, false
}
