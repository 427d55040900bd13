package stack

import (
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// AdvertConfig is what a router tells the hosts of a link (RFC 4861 §4.2), so that they configure themselves.
type AdvertConfig struct {
	// Prefixes are those that hosts make addresses in, and reach each other in directly; nil: the networks of the
	// interface's own addresses. At most ipv6.MaxPrefixes.
	Prefixes []netip.Prefix
	// DNS are name servers (RFC 8106 §5.1), at most ipv6.MaxServers.
	DNS []netip.Addr
	// Lifetime is for how long hosts send by this router what leaves the link, in whole seconds. 0: three times Interval;
	// less than 0: they never do.
	Lifetime time.Duration
	// Interval is the time between two advertisements; 0: 10 minutes (RFC 4861 §6.2.1, MaxRtrAdvInterval). Solicitations are
	// answered besides.
	Interval time.Duration
}

// RFC 4861 §10, and §6.2.1 for the lifetimes of prefixes.
const (
	defaultAdvertInterval = 600 * time.Second
	initialAdvertInterval = 16 * time.Second
	initialAdverts        = 3
	minAdvertDelay        = 3 * time.Second
	maxAdvertDelay        = 500 * time.Millisecond
	minAdvertInterval     = 4 * time.Second
	maxAdvertInterval     = 1800 * time.Second
	maxAdvertLifetime     = 9000 * time.Second
	prefixValid           = 30 * 24 * time.Hour
	prefixPreferred       = 7 * 24 * time.Hour
)

// advert is what an interface advertises.
type advert struct {
	sync.Mutex
	conf  *AdvertConfig // nil: nothing
	alarm alarm
	sent  int           // advertisements
	last  time.Duration // when the last was
	next  time.Duration // when the next is due
}

// Advertise has the interface send Router Advertisements to its link, from its link-local address, until it is called again;
// nil ends it, and tells the hosts. The stack is to be a router (see SetForwarding) if hosts are to send by it. The error
// wraps EOPNOTSUPP where the interface is not Ethernet, and EINVAL where c cannot be.
func (i *Interface) Advertise(c *AdvertConfig) error {
	fail := func(err error) error { return fmt.Errorf("stack: %s: advertise: %w", i.name, err) }
	if !i.caps.Ethernet || i.loopback {
		return fail(syscall.EOPNOTSUPP)
	}
	a, now := &i.advert, i.stack.now()
	if c == nil {
		a.Lock()
		was := a.conf
		a.conf = nil
		a.alarm.stop()
		a.Unlock()
		if was != nil {
			last := *was
			last.Lifetime = -1
			i.sendAdvert(&last)
		}
		return nil
	}
	conf := *c
	if conf.Interval == 0 {
		conf.Interval = defaultAdvertInterval
	}
	if conf.Lifetime == 0 {
		conf.Lifetime = 3 * conf.Interval
	}
	bad := len(c.Prefixes) > ipv6.MaxPrefixes || len(c.DNS) > ipv6.MaxServers || conf.Interval < minAdvertInterval ||
		conf.Interval > maxAdvertInterval || conf.Lifetime > maxAdvertLifetime
	for _, p := range c.Prefixes {
		bad = bad || !p.IsValid() || !p.Addr().Is6() || p.Addr().IsLinkLocalUnicast()
	}
	for _, d := range c.DNS {
		bad = bad || !d.Is6()
	}
	if bad {
		return fail(syscall.EINVAL)
	}
	a.Lock()
	defer a.Unlock()
	a.conf, a.sent, a.next = &conf, 0, now
	a.alarm.set(now)
	return nil
}

// advertises reports whether the interface is a router's that says so.
func (i *Interface) advertises() bool {
	i.advert.Lock()
	defer i.advert.Unlock()
	return i.advert.conf != nil
}

// routerSolicited brings the next advertisement forward. RFC 4861 §6.2.6: "Router Advertisements sent in response
// to a Router Solicitation MUST be delayed by a random time between 0 and MAX_RA_DELAY_TIME seconds", and no two go to all
// nodes within MIN_DELAY_BETWEEN_RAS.
func (i *Interface) routerSolicited(now time.Duration) {
	a := &i.advert
	a.Lock()
	defer a.Unlock()
	if a.conf == nil {
		i.stack.stats.drop(UnknownICMP)
		return
	}
	at := now + time.Duration(i.stack.secret.random()%uint64(maxAdvertDelay))
	if a.sent > 0 {
		at = max(at, a.last+minAdvertDelay)
	}
	if at < a.next {
		a.next = at
		a.alarm.set(at)
	}
}

// tickAdvert sends the advertisement that is due.
func (i *Interface) tickAdvert(now time.Duration) {
	a := &i.advert
	a.Lock()
	if !a.alarm.fired() || a.conf == nil {
		a.Unlock()
		return
	}
	var due *AdvertConfig
	if now >= a.next {
		due, a.last = a.conf, now
		// RFC 4861 §6.2.4: "the timer is reset to a uniformly distributed random value between the interface's configured
		// MinRtrAdvInterval and MaxRtrAdvInterval", of which the least is a third.
		wait := a.conf.Interval - time.Duration(i.stack.secret.random()%uint64(a.conf.Interval*2/3))
		if a.sent++; a.sent < initialAdverts {
			wait = min(wait, initialAdvertInterval)
		}
		a.next = now + max(wait, minAdvertDelay)
	}
	a.alarm.set(a.next)
	a.Unlock()
	if due != nil {
		i.sendAdvert(due)
	}
}

// sendAdvert sends an advertisement to all nodes.
func (i *Interface) sendAdvert(c *AdvertConfig) {
	var src netip.Addr
	prefixes := c.Prefixes
	for _, a := range *i.addrs.Load() {
		addr := a.Prefix.Addr()
		switch {
		case addr.Is4():
		case addr.IsLinkLocalUnicast():
			src = addr
		case c.Prefixes == nil && len(prefixes) < ipv6.MaxPrefixes:
			prefixes = append(prefixes, a.Prefix.Masked())
		}
	}
	if !src.IsValid() {
		return
	}
	l := i.live.Load()
	m := ipv6.NDP{Type: ipv6.RouterAdvertisement, HopLimit: i.hops, Lifetime: uint16(max(c.Lifetime, 0) / time.Second),
		MTU: uint32(l.caps.MTU), SourceLL: i.mac, HasSourceLL: true}
	for _, p := range prefixes {
		m.Prefixes[m.NumPrefixes] = ipv6.Prefix{Prefix: p.Masked(), OnLink: true, Autonomous: true,
			Valid: uint32(prefixValid / time.Second), Preferred: uint32(prefixPreferred / time.Second)}
		m.NumPrefixes++
	}
	for _, d := range c.DNS {
		m.Servers[m.NumServers] = ipv6.Server{Addr: d, Lifetime: uint32(max(c.Lifetime, 3*c.Interval) / time.Second)}
		m.NumServers++
	}
	const ip = ethernet.HeaderLen + ipv6.HeaderLen
	b, body := make([]byte, ip+ipv6.ICMPLen+m.Len()), make([]byte, m.Len())
	msg := m.Encode(body)
	n := msg.Encode(b[ip:], src, allNodes)
	e := ethernet.Header{Dst: ethernet.Multicast(allNodes), Src: i.mac, Type: ethernet.TypeIPv6}
	e.Encode(b)
	h := ipv6.Header{PayloadLength: n, NextHeader: ipv6.ProtoICMP, HopLimit: ipv6.HopLimitNDP, Src: src, Dst: allNodes}
	h.Encode(b[ethernet.HeaderLen:])
	i.write(b[:ip+n])
}
