// Package acd is IPv4 address conflict detection (RFC 5227): an address is asked for before it is used, announced, and then
// defended; and the choice of link-local addresses (RFC 3927). Values: now and what arrives go in, what is to be
// sent comes out.
package acd

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
)

// RFC 5227 §1.1, which are those of RFC 3927 §9 as well.
const (
	probeWait        = time.Second      // PROBE_WAIT
	probeNum         = 3                // PROBE_NUM
	probeMin         = time.Second      // PROBE_MIN
	probeMax         = 2 * time.Second  // PROBE_MAX
	announceWait     = 2 * time.Second  // ANNOUNCE_WAIT
	announceNum      = 2                // ANNOUNCE_NUM
	announceInterval = 2 * time.Second  // ANNOUNCE_INTERVAL
	defendInterval   = 10 * time.Second // DEFEND_INTERVAL

	MaxConflicts      = 10          // MAX_CONFLICTS: who met more asks for new addresses no faster than once in RateLimitInterval
	RateLimitInterval = time.Minute // RATE_LIMIT_INTERVAL
)

// Forever is later than everything.
const Forever time.Duration = math.MaxInt64

// maxAddrs bounds the addresses of one interface that are looked after; beyond, they are used without it. The figure is ours.
const maxAddrs = 1024

// Detector looks after the IPv4 addresses of one interface. Of the zero Detector Rand is to be set.
type Detector struct {
	Rand func() uint64 // random bits

	addrs []addr
}

// addr is an address that is asked for, or ours.
type addr struct {
	ip       netip.Addr
	probing  bool
	yield    bool          // a host that defends it too shall have it
	left     int           // probes or announcements to send
	due      time.Duration // when to send the next, or where none is left and it is asked for, when to be sure
	conflict time.Duration // when another last used it; before that, -Forever
}

// Probe asks for an address that is to become ours. It begins anew where it is asked for already, and reports false where
// there are too many addresses.
func (d *Detector) Probe(now time.Duration, a netip.Addr) bool {
	// RFC 5227 §2.1.1: "When ready to begin probing, the host should then wait for a random time interval selected uniformly
	// in the range zero to PROBE_WAIT seconds".
	return d.enter(addr{ip: a, probing: true, left: probeNum, due: now + d.random(probeWait)})
}

// Announce announces an address that is ours from now on, and defends it. Where yield is set, another host that insists on it
// shall have it; else it is never given up.
func (d *Detector) Announce(now time.Duration, a netip.Addr, yield bool) {
	d.enter(addr{ip: a, yield: yield, left: announceNum, due: now, conflict: -Forever})
}

// Repeat announces an address of ours once more, as after the link was gone, and reports whether it is one.
func (d *Detector) Repeat(now time.Duration, a netip.Addr) bool {
	k := slices.IndexFunc(d.addrs, func(x addr) bool { return x.ip == a && !x.probing })
	if k >= 0 {
		d.addrs[k].left, d.addrs[k].due = announceNum, now
	}
	return k >= 0
}

func (d *Detector) enter(x addr) bool {
	d.End(x.ip)
	if len(d.addrs) == maxAddrs {
		return false
	}
	d.addrs = append(d.addrs, x)
	return true
}

// End forgets an address.
func (d *Detector) End(a netip.Addr) {
	d.addrs = slices.DeleteFunc(d.addrs, func(x addr) bool { return x.ip == a })
}

// Packet is an ARP packet to be broadcast.
type Packet struct {
	Addr  netip.Addr
	Probe bool // from 0.0.0.0, to ask whether anybody has Addr; else an announcement
}

// ARP is the packet as the station hw sends it.
func (p *Packet) ARP(hw ethernet.Addr) ethernet.ARP {
	a := ethernet.ARP{Op: ethernet.OpRequest, SenderHW: hw, SenderIP: p.Addr, TargetIP: p.Addr}
	if p.Probe { // RFC 5227 §2.1.1: "The 'sender IP address' field MUST be set to all zeroes"
		a.SenderIP = netip.IPv4Unspecified()
	}
	return a
}

// Next is a packet to send now; ok is false where there is none.
func (d *Detector) Next(now time.Duration) (p Packet, ok bool) {
	for k := range d.addrs {
		x := &d.addrs[k]
		if x.left == 0 || now < x.due {
			continue
		}
		x.left--
		switch {
		case !x.probing:
			x.due = now + announceInterval
		case x.left > 0:
			x.due = now + probeMin + d.random(probeMax-probeMin)
		default:
			x.due = now + announceWait
		}
		return Packet{x.ip, x.probing}, true
	}
	return p, false
}

// Sure is an address that was asked for and that nobody has, by now; ok is false where there is none. It is forgotten here.
func (d *Detector) Sure(now time.Duration) (a netip.Addr, ok bool) {
	for k := range d.addrs {
		if x := &d.addrs[k]; x.probing && x.left == 0 && now >= x.due {
			a = x.ip
			d.addrs = slices.Delete(d.addrs, k, k+1)
			return a, true
		}
	}
	return a, false
}

// Verdict is what an ARP packet means for an address of ours.
type Verdict uint8

// What a packet may mean.
const (
	Fine   Verdict = iota
	Taken          // the address that is asked for is another's, or another asks for it as well; it is forgotten
	Defend         // another uses our address: the announcement that says that it is ours is due at once
	Endure         // another uses our address, and was told so less than ten seconds ago
	Yield          // another insists on our address, which it shall have; it is forgotten
)

// Heard takes in an ARP packet that the station hw, ours, did not send, and returns the address that it is about.
func (d *Detector) Heard(now time.Duration, a *ethernet.ARP, hw ethernet.Addr) (netip.Addr, Verdict) {
	if a.SenderHW == hw {
		return netip.Addr{}, Fine
	}
	for k, x := range d.addrs {
		if x.probing {
			// RFC 5227 §2.1.1: "If […] the host receives any ARP packet (Request *or* Reply) […] where the packet's 'sender
			// IP address' is the address being probed for, then the host MUST treat this address as being in use by some
			// other host"; and so where another probes for the same address.
			if a.SenderIP == x.ip || a.Op == ethernet.OpRequest && a.SenderIP.IsUnspecified() && a.TargetIP == x.ip {
				d.addrs = slices.Delete(d.addrs, k, k+1)
				return x.ip, Taken
			}
			continue
		}
		if a.SenderIP == x.ip {
			return x.ip, d.disputed(now, k)
		}
	}
	return netip.Addr{}, Fine
}

// disputed is RFC 5227 §2.4 (b) for an address that may be yielded, and (c) for others.
func (d *Detector) disputed(now time.Duration, k int) Verdict {
	x := &d.addrs[k]
	again := x.conflict != -Forever && now-x.conflict < defendInterval
	switch {
	case again && x.yield:
		d.addrs = slices.Delete(d.addrs, k, k+1)
		return Yield
	case again: // (c): "it MUST NOT send another defensive ARP Announcement" within the interval
		return Endure
	}
	x.conflict = now
	x.left, x.due = max(x.left, 1), now
	return Defend
}

// Deadline is when Sure and Next are to be called, in this order; ok is false where there is nothing to wait for.
func (d *Detector) Deadline() (at time.Duration, ok bool) {
	at = Forever
	for k := range d.addrs {
		if x := &d.addrs[k]; x.probing || x.left > 0 {
			at = min(at, x.due)
		}
	}
	return at, at != Forever
}

// random is a time from 0 up to d, exclusive.
func (d *Detector) random(most time.Duration) time.Duration {
	return time.Duration(d.Rand() % uint64(most))
}
