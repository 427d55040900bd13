package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/acd"
)

// conflicts is an interface's IPv4 address conflict detection (RFC 5227).
type conflicts struct {
	sync.Mutex
	detector acd.Detector
	claims   map[netip.Addr]*Claim
	attempt  uint32 // link-local addresses that turned out to be taken
	alarm    alarm
}

func (d *conflicts) init(i *Interface) {
	d.detector.Rand = i.stack.secret.random
	d.claims = map[netip.Addr]*Claim{}
	d.alarm = alarm{stack: i.stack, fire: i.tickACD}
}

// Claim is an IPv4 address that an interface asked for on its link before it took it, and that it yields to a host that
// insists on having it. Other addresses are announced and defended as well, but never given up.
type Claim struct {
	ifc    *Interface
	prefix netip.Prefix
	sure   chan bool     // the answer: nobody has it
	lost   chan struct{} // closed when the interface has it no more
	err    error         // why; before lost is closed
}

// Claim gives the interface an IPv4 address as AddAddr does, but first asks on the link whether anybody has it, which takes
// four to seven seconds (RFC 5227 §2.1.1); where the link is not Ethernet nobody is asked. The error wraps EADDRINUSE where
// another host has the address or asks for it too, the context's error where that ends first, and else AddAddr's.
func (i *Interface) Claim(ctx context.Context, p netip.Prefix) (*Claim, error) {
	c, err := i.claim(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("stack: %s: address %v: %w", i.name, p, err)
	}
	return c, nil
}

func (i *Interface) claim(ctx context.Context, p netip.Prefix) (*Claim, error) {
	a := p.Addr()
	if err := usable(p); err != nil {
		return nil, err
	}
	if !a.Is4() {
		return nil, syscall.EAFNOSUPPORT
	}
	c := &Claim{ifc: i, prefix: p, sure: make(chan bool, 1), lost: make(chan struct{})}
	if err := i.ask(c); err != nil {
		return nil, err
	}
	var err error
	select {
	case sure := <-c.sure:
		if !sure {
			err = syscall.EADDRINUSE
		}
	case <-ctx.Done():
		err = ctx.Err()
	case <-i.stack.stop:
		err = net.ErrClosed
	}
	if err == nil {
		if i.caps.Ethernet {
			i.acd.Lock()
			i.acd.detector.Announce(i.stack.now(), a, true)
			i.acd.Unlock()
		}
		err = i.addAddr(Addr{Prefix: p})
	}
	if err != nil {
		i.acd.end(a, err)
		return nil, err
	}
	return c, nil
}

// ask begins to ask for the address of a claim.
func (i *Interface) ask(c *Claim) error {
	a, d, now := c.prefix.Addr(), &i.acd, i.stack.now()
	d.Lock()
	switch {
	case i.has(a) || d.claims[a] != nil:
		d.Unlock()
		return syscall.EEXIST
	case i.stack.closed.Load():
		d.Unlock()
		return net.ErrClosed
	case !i.caps.Ethernet:
		c.sure <- true
	case !d.detector.Probe(now, a):
		d.Unlock()
		return syscall.ENOBUFS
	}
	d.claims[a] = c
	d.Unlock()
	i.followACD(now)
	return nil
}

// ClaimLinkLocal gives the interface an address of 169.254/16 that nobody else on the link has (RFC 3927): the first choice
// follows from the hardware address. It tries until it finds one or the context ends. The error wraps EOPNOTSUPP where the
// link is not Ethernet.
func (i *Interface) ClaimLinkLocal(ctx context.Context) (*Claim, error) {
	if !i.caps.Ethernet {
		return nil, fmt.Errorf("stack: %s: link-local address: %w", i.name, syscall.EOPNOTSUPP)
	}
	for conflicts := 1; ; conflicts++ {
		i.acd.Lock()
		attempt := i.acd.attempt
		i.acd.Unlock()
		c, err := i.Claim(ctx, netip.PrefixFrom(acd.Candidate(i.mac, attempt), acd.Network.Bits()))
		if !errors.Is(err, syscall.EADDRINUSE) {
			return c, err
		}
		// RFC 3927 §2.2.1: "If the number of conflicts exceeds MAX_CONFLICTS then the host MUST limit the rate at which it
		// probes for new addresses to no more than one new address per RATE_LIMIT_INTERVAL."
		if conflicts > acd.MaxConflicts {
			t := time.NewTimer(acd.RateLimitInterval)
			select {
			case <-t.C:
			case <-ctx.Done():
			case <-i.stack.stop:
			}
			t.Stop()
		}
	}
}

// Prefix is the address, with the length of its network.
func (c *Claim) Prefix() netip.Prefix { return c.prefix }

// Lost is closed when the interface no longer has the address.
func (c *Claim) Lost() <-chan struct{} { return c.lost }

// Err is nil as long as the interface has the address. It is EADDRINUSE where another host has it now, and net.ErrClosed
// where it was removed, or the stack closed.
func (c *Claim) Err() error {
	select {
	case <-c.lost:
		return c.err
	default:
		return nil
	}
}

// Release removes the address as RemoveAddr does, if the interface still has it.
func (c *Claim) Release() {
	if c.Err() == nil {
		c.ifc.remove(c.prefix.Addr())
	}
}

// end forgets an address that is no longer ours, or was not to be.
func (d *conflicts) end(a netip.Addr, why error) {
	d.Lock()
	defer d.Unlock()
	d.detector.End(a)
	d.finish(a, why)
}

// finish ends the claim to an address, if there is one. The lock is held.
func (d *conflicts) finish(a netip.Addr, why error) {
	c := d.claims[a]
	if c == nil {
		return
	}
	delete(d.claims, a)
	select {
	case c.sure <- false: // if it is still asked for
	default:
	}
	c.err = why
	close(c.lost)
}

// close ends all claims.
func (d *conflicts) close() {
	d.Lock()
	defer d.Unlock()
	d.alarm.stop()
	for a := range d.claims {
		d.finish(a, net.ErrClosed)
	}
}

// announce tells the link that an IPv4 address is ours, from now on or still.
func (i *Interface) announce(now time.Duration, a netip.Addr) {
	i.acd.Lock()
	if !i.acd.detector.Repeat(now, a) {
		i.acd.detector.Announce(now, a, false)
	}
	i.acd.Unlock()
	i.followACD(now)
}

// followACD sends what is due, and sets the alarm for what comes next.
func (i *Interface) followACD(now time.Duration) {
	var send []acd.Packet
	i.acd.Lock()
	for {
		p, ok := i.acd.detector.Next(now)
		if !ok {
			break
		}
		send = append(send, p)
	}
	if at, ok := i.acd.detector.Deadline(); ok {
		i.acd.alarm.set(at)
	}
	i.acd.Unlock()
	for k := range send {
		i.sendARP(ethernet.Broadcast, send[k].ARP(i.mac))
	}
}

// tickACD tells who asked for an address that nobody has it, and sends what else is due.
func (i *Interface) tickACD(now time.Duration) {
	i.acd.Lock()
	if !i.acd.alarm.fired() {
		i.acd.Unlock()
		return
	}
	for {
		a, ok := i.acd.detector.Sure(now)
		if !ok {
			break
		}
		if c := i.acd.claims[a]; c != nil {
			c.sure <- true
		}
	}
	i.acd.Unlock()
	i.followACD(now)
}

// hearARP looks whether another station uses, or asks for, an address of ours.
func (i *Interface) hearARP(now time.Duration, a *ethernet.ARP) {
	i.acd.Lock()
	ip, v := i.acd.detector.Heard(now, a, i.mac)
	if v == acd.Taken || v == acd.Yield {
		if acd.Network.Contains(ip) {
			i.acd.attempt++
		}
		i.acd.finish(ip, syscall.EADDRINUSE)
	}
	i.acd.Unlock()
	switch v {
	case acd.Defend:
		i.followACD(now)
	case acd.Yield:
		i.stack.log.Warn("address is another's", "interface", i.name, "address", ip, "station", a.SenderHW.String())
		i.remove(ip)
	}
}
