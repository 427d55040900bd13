package stack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// Interface is a device that is attached to a Stack, with its addresses.
type Interface struct {
	stack    *Stack
	name     string
	index    uint32
	loopback bool
	device   link.Device
	caps     link.Caps // when it was attached
	queues   []link.Queue
	mac      ethernet.Addr
	hops     uint8
	onLink   hop // straight to a neighbour
	up       atomic.Bool
	lowered  atomic.Int32                  // SetMTU's; 0: none
	back     atomic.Pointer[chan struct{}] // LinkReturned's; nil: nobody has asked
	live     atomic.Pointer[limits]        // what may change of caps
	addrs    atomic.Pointer[[]Addr]        // replaced whole, under Stack.admin
	neigh    neighbors
	dad      dad
	acd      conflicts
	auto     auto
	advert   advert
	multi    multicast
	names    [2]atomic.Pointer[names] // name servers: those given, and those that routers advertise
	full     full
	catch    atomic.Pointer[catcher] // nil: nothing was ever intercepted
	lazily   sync.Once               // starts the loop of the loopback interface
}

// Attach connects the stack to what is behind d, under the given addresses, and starts to read. Each prefix is an
// address of ours with the length of the network that is on the link. An Ethernet device also gets an IPv6 link-local
// address. Its IPv6 addresses may be used at once; one that turns out to be taken is withdrawn again (RFC 4429).
// The stack owns d from here on, and closes it in Close, or at once where Attach fails.
func (s *Stack) Attach(d link.Device, addrs ...netip.Prefix) (*Interface, error) {
	if d == nil {
		return nil, fmt.Errorf("stack: attach: %w", syscall.EINVAL)
	}
	if len(d.Queues()) == 0 || d.Caps().MTU < minMTU {
		d.Close()
		return nil, fmt.Errorf("stack: attach: %w: a device without a queue, or with an MTU below %d", syscall.EINVAL, minMTU)
	}
	i := &Interface{stack: s, hops: s.config.HopLimit}
	i.onLink.ifc = i
	for _, p := range addrs {
		if err := usable(p); err != nil {
			d.Close()
			return nil, fmt.Errorf("stack: attach %v: %w", p, err)
		}
	}
	i.adopt(d)
	if err := i.pickMAC(); err != nil {
		d.Close()
		return nil, fmt.Errorf("stack: attach: %w", err)
	}
	if !s.enter(i, addrs) {
		d.Close()
		return nil, fmt.Errorf("stack: attach: %w", net.ErrClosed)
	}
	i.follow()
	i.startDAD(nil)
	return i, nil
}

// enter makes the interface one of the stack's, and begins to read from it; false: the stack is closed.
func (s *Stack) enter(i *Interface, addrs []netip.Prefix) bool {
	s.admin.Lock()
	defer s.admin.Unlock()
	if s.closed.Load() {
		return false
	}
	i.index = uint32(len(s.view.Load().ifaces))
	if i.name = i.caps.Name; i.name == "" {
		i.name = fmt.Sprintf("if%d", i.index)
	}
	if _, err := s.zoneIndex(i.name); err == nil {
		i.name = fmt.Sprintf("%s.%d", i.name, i.index) // another has the name, and a zone has to tell them apart
	}
	i.setAddrs(addrs)
	s.replaceView(func(v *view) { v.ifaces = append(v.ifaces, i) })
	i.start()
	return true
}

// adopt takes what the device says of itself.
func (i *Interface) adopt(d link.Device) {
	i.device, i.caps, i.queues, i.mac = d, d.Caps(), d.Queues(), d.Caps().Addr
	i.limit(i.caps)
	i.neigh.init(i)
	i.multi.init(i)
	i.dad.alarm = alarm{stack: i.stack, fire: i.tickDAD}
	i.acd.init(i)
	i.auto.alarm = alarm{stack: i.stack, fire: i.tickAuto}
	i.advert.alarm = alarm{stack: i.stack, fire: i.tickAdvert}
	i.full.udp.L = &i.full.Mutex
	i.full.kick = make(chan struct{}, 1)
	i.up.Store(true)
}

// tcpConfig is the stack's TCP configuration for one family on this link, which carries segments of mtu octets behind an
// IP header (RFC 9293 §3.7.1).
func (i *Interface) tcpConfig(mtu, header int, defaultMSS uint16, gso int) tcp.Config {
	c := i.stack.config.TCP
	c.MTU, c.DefaultMSS, c.Memory = mtu, defaultMSS, &i.stack.memory
	if gso > 0 && i.caps.Checksum {
		c.MaxText = min(gso, maxPacket) - header - tcp.MaxHeaderLen
	}
	return c
}

// minMTU: RFC 791 §3.2, "Every internet module must be able to forward a datagram of 68 octets without further
// fragmentation."
const minMTU = 68

// maxPacket is the longest IP packet without jumbograms (RFC 791 §3.1, RFC 8200 §3).
const maxPacket = 1<<16 - 1

// pickMAC takes a random station address, locally administered and not a group, where the device brings none.
func (i *Interface) pickMAC() error {
	if !i.caps.Ethernet || i.mac != (ethernet.Addr{}) {
		return nil
	}
	if err := i.stack.config.Rand(i.mac[:]); err != nil {
		return err
	}
	i.mac[0] = i.mac[0]&^1 | 2 // IEEE 802 §8.4: the U/L bit set, the I/G bit clear
	return nil
}

// setAddrs stores the addresses that Attach brings, and a link-local one on Ethernet (RFC 4291 §2.8).
func (i *Interface) setAddrs(prefixes []netip.Prefix) {
	var addrs []Addr
	linkLocal := false
	for _, p := range prefixes {
		linkLocal = linkLocal || p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()
		addrs = append(addrs, Addr{Prefix: p, State: i.firstState(p.Addr())})
	}
	if i.caps.Ethernet && !linkLocal {
		ll := ipv6.LinkLocal(i.mac)
		addrs = append(addrs, Addr{Prefix: netip.PrefixFrom(ll, 64), State: i.firstState(ll)})
	}
	i.addrs.Store(&addrs)
}

// start begins to read from the device.
func (i *Interface) start() {
	if i.caps.Polled {
		i.stack.bells.Open(i.stack.now)
	}
	for n := range i.queues {
		i.stack.running.Add(1)
		go i.loop(n)
		if i.queues[n].Ready() != nil {
			i.stack.running.Add(1)
			go i.drain(i.queues[n].Ready())
		}
	}
	if changed := link.Changed(i.device); changed != nil {
		i.stack.running.Add(1)
		go i.watch(changed)
	}
}

// wake starts the loopback interface with the first packet that goes there: a stack that has no use for it, and was
// never closed, leaves no goroutine behind.
func (i *Interface) wake() {
	i.lazily.Do(func() {
		i.stack.admin.Lock()
		defer i.stack.admin.Unlock()
		if !i.stack.closed.Load() {
			i.start()
		}
	})
}

// loop reads what arrives at one queue, and answers it.
func (i *Interface) loop(n int) {
	defer i.stack.running.Done()
	in := newInbox(i, n)
	var f failures
	for {
		k, err := i.queues[n].Read(in.packets[:])
		now := i.stack.now()
		for p := range k {
			i.input(now, in, &in.packets[p])
		}
		in.finish(now)
		if k > 0 {
			f.n = 0
		}
		if err != nil && !i.retry(&f, err) {
			i.readFailed(err)
			return
		}
	}
}

// readFailed notes that a queue came to its end.
func (i *Interface) readFailed(err error) {
	if i.stack.closed.Load() || errors.Is(err, net.ErrClosed) && !i.up.Load() {
		return
	}
	i.up.Store(false)
	i.switched(i.stack.now())
	i.stack.log.Error("interface is down", "interface", i.name, "err", err)
}

// drain waits for room in the device, and sends what waits for it.
func (i *Interface) drain(ready <-chan struct{}) {
	defer i.stack.running.Done()
	for {
		select {
		case <-i.stack.stop:
			return
		case <-i.full.kick:
		case _, ok := <-ready:
			if !ok || i.stack.closed.Load() {
				return
			}
		}
		i.unpark()
	}
}

func (i *Interface) close() error {
	i.up.Store(false)
	err := i.device.Close()
	if x := i.catch.Load(); x != nil {
		x.close()
	}
	i.neigh.close()
	i.multi.close()
	i.dad.Lock()
	i.dad.alarm.stop()
	i.dad.Unlock()
	i.acd.close()
	i.auto.Lock()
	i.auto.alarm.stop()
	i.auto.Unlock()
	i.advert.Lock()
	i.advert.alarm.stop()
	i.advert.Unlock()
	i.wakeFull()
	return err
}

// Name is the device's name, or one that the stack gave it.
func (i *Interface) Name() string { return i.name }

// MTU is the longest IPv4 packet that the interface sends now, in octets: what the link carries, or SetMTU's if that is less.
func (i *Interface) MTU() int { return i.live.Load().mtu4 }

// HardwareAddr is the station's Ethernet address, nil where the link is not Ethernet.
func (i *Interface) HardwareAddr() net.HardwareAddr {
	if !i.caps.Ethernet {
		return nil
	}
	return slices.Clone(net.HardwareAddr(i.mac[:]))
}
