package stack

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/internal/autoconf"
	"github.com/seed87e66d9f/waybill/internal/neighbor"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// limits is what follows from what a device says of itself and may change: an immutable value, replaced whole.
type limits struct {
	caps link.Caps  // as they were read last
	mtu4 int        // of IPv4 packets: the link's, or SetMTU's
	mtu6 int        // of IPv6 packets: likewise, or the lower one that a router advertises (RFC 4861 §6.3.4)
	hop6 uint8      // of IPv6 packets, where a router says one; else 0
	tcp4 tcp.Config // what connections over the interface are made with
	tcp6 tcp.Config
}

// limit takes over what the device says now, and what routers have said of the link.
func (i *Interface) limit(caps link.Caps) {
	i.stack.admin.Lock()
	defer i.stack.admin.Unlock()
	i.limitTo(caps)
}

// limitTo is limit where Stack.admin is held.
func (i *Interface) limitTo(caps link.Caps) {
	mtu4, mtu6, hop6 := caps.MTU, caps.MTU, uint8(0)
	if n := int(i.lowered.Load()); n != 0 {
		mtu4, mtu6 = min(mtu4, n), min(mtu6, max(n, ipv6.MinMTU))
	}
	if l := i.auto.link.Load(); l != nil {
		hop6 = l.HopLimit
		if l.MTU != 0 {
			mtu6 = min(mtu6, l.MTU)
		}
	}
	i.live.Store(&limits{
		caps: caps,
		mtu4: mtu4,
		mtu6: mtu6,
		hop6: hop6,
		tcp4: i.tcpConfig(mtu4-ipv4.MinHeaderLen, ipv4.MinHeaderLen, 536, i.caps.GSO4),
		tcp6: i.tcpConfig(mtu6-ipv6.HeaderLen, ipv6.HeaderLen, 1220, i.caps.GSO6),
	})
}

// mtu is the longest packet to dst that the link carries now, in octets.
func (i *Interface) mtu(dst netip.Addr) int {
	if l := i.live.Load(); dst.Is6() {
		return l.mtu6
	} else {
		return l.mtu4
	}
}

// SetMTU has the interface send no packets of more than n octets, as where a DHCP server says what the network carries; 0 is
// the device's own MTU, which counts too where it is less. IPv6 packets may always have 1280 (RFC 8200 §5). The error wraps
// EINVAL where n is less than IPv4 needs.
func (i *Interface) SetMTU(n int) error {
	if n != 0 && n < minMTU || n > maxPacket {
		return fmt.Errorf("stack: %s: MTU %d: %w", i.name, n, syscall.EINVAL)
	}
	i.lowered.Store(int32(n))
	i.stack.admin.Lock()
	i.limitTo(i.live.Load().caps)
	i.stack.admin.Unlock()
	i.resize(i.stack.now())
	return nil
}

// hopLimit is the TTL or hop limit of packets to dst whose socket names none.
func (i *Interface) hopLimit(dst netip.Addr) uint8 {
	if hop6 := i.live.Load().hop6; dst.Is6() && hop6 != 0 {
		return hop6
	}
	return i.hops
}

// config is what connections of a family are made with.
func (l *limits) config(six bool) *tcp.Config {
	if six {
		return &l.tcp6
	}
	return &l.tcp4
}

// Up reports whether the interface can carry packets, as far as its device tells: it is attached, still read from, and
// has a link.
func (i *Interface) Up() bool { return i.up.Load() && !i.live.Load().caps.Down }

// watch follows what the device says of itself.
func (i *Interface) watch(changed <-chan struct{}) {
	defer i.stack.running.Done()
	for {
		select {
		case <-i.stack.stop:
			return
		case _, ok := <-changed:
			if !ok || i.stack.closed.Load() {
				return
			}
		}
		i.reread(i.stack.now())
	}
}

// reread acts on what has changed of the device.
func (i *Interface) reread(now time.Duration) {
	old, caps := i.live.Load().caps, i.device.Caps()
	if caps.MTU < minMTU {
		caps.MTU = old.MTU
	}
	i.limit(caps)
	if caps.Down != old.Down {
		i.stack.log.Info("link has changed", "interface", i.name, "up", !caps.Down)
		i.switched(now)
	}
	if !caps.Down && (old.Down || caps.Flaps != old.Flaps) {
		i.returned(now)
	}
	if caps.MTU != old.MTU {
		i.remeasure(now, caps.MTU)
		i.stack.log.Info("MTU has changed", "interface", i.name, "mtu", caps.MTU)
		i.resize(now)
	}
}

// returned is called when the link is back, perhaps to another network: neighbours are asked for again, and our addresses
// announced. RFC 4862 §5.4: duplicate address detection is performed "prior to assigning" an address, and Linux and BSD
// take the return of a link for that; RFC 5227 §2.1 has IPv4 probe "when a link-state change signals that an
// Ethernet cable has been connected", of which we do the announcement.
func (i *Interface) returned(now time.Duration) {
	if back := i.back.Swap(nil); back != nil {
		close(*back)
	}
	i.neigh.forget()
	i.startDAD(i.doubt)
	i.announceGroups(false)
	i.learn(now, func(h *autoconf.Host) { h.Start(now) })
}

// LinkReturned returns a channel that is closed when the link is next back after it was gone, perhaps to another network. After
// that there is another one to be asked for.
func (i *Interface) LinkReturned() <-chan struct{} {
	for {
		if back := i.back.Load(); back != nil {
			return *back
		}
		back := make(chan struct{})
		i.back.CompareAndSwap(nil, &back)
	}
}

// doubt makes our IPv6 addresses optimistic again.
func (i *Interface) doubt() {
	if i.stack.config.NoDAD {
		return
	}
	i.stack.admin.Lock()
	defer i.stack.admin.Unlock()
	addrs := slices.Clone(*i.addrs.Load())
	for k := range addrs {
		if addrs[k].Prefix.Addr().Is6() {
			addrs[k].State = AddrOptimistic
		}
	}
	i.addrs.Store(&addrs)
}

// forget removes what is known of the neighbours. Questions that are out stay, and who waits for their answers.
func (n *neighbors) forget() {
	n.Lock()
	defer n.Unlock()
	if n.parked == nil {
		return
	}
	for e := range n.cache.All() {
		if e.State != neighbor.Incomplete && e.State != neighbor.Permanent {
			n.cache.Delete(e.IP)
		}
	}
}

// resize tells the connections that leave by this interface of its MTU. One that is just being made either reads the new
// limits, or stands in the table by the time that we look there: Dial enters it before it reads them, and a listener holds
// its lock from reading them until it has entered the connection.
func (i *Interface) resize(now time.Duration) {
	s := i.stack
	for _, l := range s.ports.listeners() {
		l.pass()
	}
	for c := range s.each() {
		c.mu.Lock()
		if h, ok := s.view.Load().route(c.localAddr(), c.remoteAddr(), c.flow.Zone); ok && h.ifc == i && !c.gone {
			c.fit(now, i)
			c.output(now)
		}
		c.mu.Unlock()
	}
}

// pass waits until who holds the lock has gone.
func (l *TCPListener) pass() {
	l.mu.Lock()
	defer l.mu.Unlock()
}

// After a Read that failed, the next is tried after firstPause, and after each further failure in a row twice as long, but
// for longestPause at most. After maxFailures, a little more than a second, the device is given up; one that only says that
// there is nothing to read just now never is. The figures are ours.
const (
	firstPause   = time.Millisecond
	longestPause = 512 * time.Millisecond
	maxFailures  = 11
)

// failures counts failures in a row to read from a queue. One that comes after a Read has waited for long begins anew.
type failures struct {
	n  int
	at time.Duration // when the last pause ended
}

// retry waits after a failure to read, and reports whether to try again.
func (i *Interface) retry(f *failures, err error) bool {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
		return false
	}
	i.stack.stats.readErrors.Add(1)
	if i.stack.now()-f.at > longestPause {
		f.n = 0
	}
	f.n++
	var timeout interface{ Timeout() bool }
	nothing := errors.Is(err, syscall.EINTR) || errors.As(err, &timeout) && timeout.Timeout() // EAGAIN among them
	if errors.Is(err, io.EOF) || f.n >= maxFailures && !nothing {
		return false
	}
	t := time.NewTimer(min(firstPause<<min(f.n-1, maxFailures), longestPause))
	defer t.Stop()
	select {
	case <-i.stack.stop:
		return false
	case <-t.C:
		f.at = i.stack.now()
		return true
	}
}
