package autoconf

import (
	"net/netip"
	"slices"
	"time"
)

// Detector is duplicate address detection on one interface (RFC 4862 §5.4), which knows its own questions when the network
// sends them back (RFC 7527). Nobody having answered, an address is ours. The zero Detector needs a Nonce.
type Detector struct {
	Nonce   [6]byte       // RFC 7527 §4.1: random, and the same for all that is asked here
	Retrans time.Duration // RetransTimer; 0: a second

	probes []probe
}

// probe is an address that is asked for.
type probe struct {
	addr   netip.Addr
	due    time.Duration // when to ask, or where left is 0 when to be sure
	left   int           // questions to ask
	looped bool          // one of them came back
}

const (
	transmits   = 1           // RFC 4862 §5.1, DupAddrDetectTransmits
	moreOnLoop  = 3           // RFC 7527 §4.1 goes on with MAX_MULTICAST_SOLICIT questions, RFC 4861 §10
	dadRetrans  = time.Second // RFC 4861 §10, RETRANS_TIMER
	maxAskedFor = 256         // addresses at a time; an interface has far fewer
)

// Begin asks for an address after delay. It begins anew where it is asked for already.
func (d *Detector) Begin(now, delay time.Duration, a netip.Addr) {
	d.End(a)
	if len(d.probes) < maxAskedFor {
		d.probes = append(d.probes, probe{addr: a, due: now + delay, left: transmits})
	}
}

// End no longer asks for an address: it is gone.
func (d *Detector) End(a netip.Addr) {
	d.probes = slices.DeleteFunc(d.probes, func(p probe) bool { return p.addr == a })
}

// Heard reports whether a question for an address that arrived with this nonce is our own, and then asks for longer. Such a
// question does not make the address a duplicate (RFC 7527 §4.2).
func (d *Detector) Heard(a netip.Addr, nonce [6]byte) bool {
	if nonce != d.Nonce {
		return false
	}
	for k := range d.probes {
		if d.probes[k].addr == a {
			d.probes[k].looped = true
		}
	}
	return true
}

// Next is an address to ask for now; ok is false where there is none.
func (d *Detector) Next(now time.Duration) (a netip.Addr, ok bool) {
	for k := range d.probes {
		p := &d.probes[k]
		if p.left > 0 && now >= p.due {
			p.left--
			p.due = now + d.retrans()
			return p.addr, true
		}
	}
	return a, false
}

// Sure is an address that is ours, since nobody has answered for it; ok is false where there is none. While the network
// sends our own questions back it may hide another's, and we are not sure: RFC 7527 §4.1 goes on asking.
func (d *Detector) Sure(now time.Duration) (a netip.Addr, ok bool) {
	for k := range d.probes {
		p := &d.probes[k]
		if p.left > 0 || now < p.due {
			continue
		}
		if p.looped {
			p.looped, p.left = false, moreOnLoop
			continue
		}
		a = p.addr
		d.probes = slices.Delete(d.probes, k, k+1)
		return a, true
	}
	return a, false
}

// Deadline is when Sure and Next are to be called, in this order.
func (d *Detector) Deadline() (at time.Duration, ok bool) {
	at = Forever
	for k := range d.probes {
		at = min(at, d.probes[k].due)
	}
	return at, len(d.probes) > 0
}

func (d *Detector) retrans() time.Duration {
	if d.Retrans > 0 {
		return d.Retrans
	}
	return dadRetrans
}
