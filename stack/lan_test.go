package stack

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
)

// lan is a link with routers made by hand, and a host far behind them.
type lan struct {
	*testing.T
	stack *Stack     // who configures itself
	ifc   *Interface // its interface
	far   *Stack     // the host behind the routers

	queue link.Queue // of the link
	wan   link.Queue // to the far host

	mu      sync.Mutex
	routers map[netip.Addr]*tester
	silent  map[netip.Addr]bool // routers that do not answer, nor forward
	advert  func() *ipv6.NDP    // what a solicitation is answered with, by router A; nil: nothing
	taken   bool                // every address is somebody else's
	echo    bool                // the network sends back what it gets
	nd      []ndSeen
	hops    uint8              // of the last packet to the far host
	longest int                // packet to the far host
	through map[netip.Addr]int // packets to the far host over each router
}

// ndSeen is a message of Neighbor Discovery that the stack has sent.
type ndSeen struct {
	ipv6.NDP
	src, dst netip.Addr
	at       time.Duration
}

var (
	routerA = netip.MustParseAddr("fe80::a")
	routerB = netip.MustParseAddr("fe80::b")
	lanNet  = netip.MustParsePrefix("2001:db8:aa::/64")
	newNet  = netip.MustParsePrefix("2001:db8:bb::/64")
	farAddr = netip.MustParsePrefix("2001:db8:ff::1/64")
	world   = netip.MustParsePrefix("::/0")
)

// newLAN makes a link with two routers, of which A answers solicitations.
func newLAN(t *testing.T, c Config) *lan {
	a, b := link.Pipe(link.PipeConfig{MTU: 1500, Ethernet: true})
	w, x := link.Pipe(link.PipeConfig{MTU: 1500})
	l := &lan{T: t, stack: New(c), far: New(Config{}), queue: b.Queues()[0], wan: x.Queues()[0],
		routers: map[netip.Addr]*tester{}, silent: map[netip.Addr]bool{}, through: map[netip.Addr]int{}}
	var err error
	if l.ifc, err = l.stack.Attach(a); err != nil {
		t.Fatal(err)
	}
	i, err := l.far.Attach(w, farAddr)
	if err == nil {
		err = l.far.AddRoute(world, netip.Addr{}, i)
	}
	if err != nil {
		t.Fatal(err)
	}
	for k, addr := range []netip.Addr{routerA, routerB} {
		mac := ethernet.Addr{2, 0, 0x5e, 0x10, 1, byte(k)}
		l.routers[addr] = &tester{T: t, stack: l.stack, ifc: l.ifc, queue: l.queue, eth: true, mac: mac, us: addr}
	}
	l.advert = func() *ipv6.NDP { return advertises(lanNet) }
	done := make(chan struct{})
	go l.outward()
	go func() { l.inward(); close(done) }()
	t.Cleanup(func() { l.far.Close(); x.Close(); <-done; l.stack.Close(); b.Close() })
	return l
}

// advertises is an advertisement of prefixes that are preferred for an hour and valid for three.
func advertises(prefixes ...netip.Prefix) *ipv6.NDP {
	n := &ipv6.NDP{Type: ipv6.RouterAdvertisement, Lifetime: 1800}
	for k, p := range prefixes {
		n.Prefixes[k] = ipv6.Prefix{Prefix: p, OnLink: true, Autonomous: true, Valid: 3 * 3600, Preferred: 3600}
	}
	n.NumPrefixes = len(prefixes)
	return n
}

// outward answers what the stack asks, and forwards what is for the far host.
func (l *lan) outward() {
	in := make([]link.Packet, 16)
	for {
		n, err := l.queue.Read(in)
		for _, p := range in[:n] {
			l.frame(slices.Clone(p.Head))
		}
		if err != nil {
			return
		}
	}
}

func (l *lan) frame(b []byte) {
	var p packetSeen
	if err := p.decode(b, true); err != nil {
		l.Errorf("the stack sent % x: %v", b, err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.echo {
		l.queue.Write([]link.Packet{{Head: b}})
	}
	var msg ipv6.ICMP
	var n ipv6.NDP
	if p.proto == ipv6.ProtoICMP && p.src.Is6() && msg.Decode(p.text, p.src, p.dst) == nil && n.Decode(&msg) == nil {
		l.nd = append(l.nd, ndSeen{n, p.src, p.dst, l.stack.now()})
		l.asked(&p, &n)
		return
	}
	for addr, r := range l.routers {
		if r.mac == p.eth.Dst && !l.silent[addr] && p.dst.Is6() && !p.dst.IsLinkLocalUnicast() {
			l.through[addr]++
			l.hops, l.longest = p.hops, max(l.longest, len(p.packet))
			l.wan.Write([]link.Packet{{Head: p.packet}})
		}
	}
}

// asked answers a message of Neighbor Discovery.
func (l *lan) asked(p *packetSeen, n *ipv6.NDP) {
	switch r := l.routers[n.Target]; {
	case n.Type == ipv6.RouterSolicitation && l.advert != nil:
		l.advertise(routerA, l.advert())
	case n.Type == ipv6.NeighborSolicitation && r != nil && !l.silent[n.Target]:
		r.ndp(p.eth.Src, n.Target, p.src, &ipv6.NDP{Type: ipv6.NeighborAdvertisement, Target: n.Target, Router: true, Solicited: true,
			Override: true, TargetLL: r.mac, HasTargetLL: true})
	case n.Type == ipv6.NeighborSolicitation && l.taken && p.src.IsUnspecified():
		a := l.routers[routerA]
		a.ndp(ethernet.Multicast(allNodes), n.Target, allNodes, &ipv6.NDP{Type: ipv6.NeighborAdvertisement, Target: n.Target,
			Override: true, TargetLL: a.mac, HasTargetLL: true})
	}
}

// advertise has a router advertise itself to all.
func (l *lan) advertise(router netip.Addr, n *ipv6.NDP) {
	r := l.routers[router]
	n.SourceLL, n.HasSourceLL = r.mac, true
	r.ndp(ethernet.Multicast(allNodes), router, allNodes, n)
}

// inward forwards what the far host sends, by way of router A.
func (l *lan) inward() {
	in := make([]link.Packet, 16)
	for {
		n, err := l.wan.Read(in)
		for _, p := range in[:n] {
			l.routers[routerA].frame(l.ifc.mac, p.Head)
		}
		if err != nil {
			return
		}
	}
}

// pass lets time pass.
func (l *lan) pass(d time.Duration) {
	time.Sleep(d) // in a bubble
	synctest.Wait()
}

// sent returns the messages of one type that the stack has sent since the last look at any.
func (l *lan) sent(kind uint8) (all []ndSeen) {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.nd {
		if n.Type == kind {
			all = append(all, n)
		}
	}
	l.nd = nil
	return all
}

// set changes how the link behaves.
func (l *lan) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// went is how many packets went over each router since the last look.
func (l *lan) went() (a, b int) {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	a, b = l.through[routerA], l.through[routerB]
	clear(l.through)
	return a, b
}

// addrs lists the stack's addresses in a prefix.
func (l *lan) addrs(in netip.Prefix) (all []Addr) {
	synctest.Wait()
	for _, a := range l.ifc.Addrs() {
		if in.Contains(a.Prefix.Addr()) {
			all = append(all, a)
		}
	}
	return all
}

// dial connects the stack to the far host, which echoes what comes.
func (l *lan) dial() *TCPConn {
	l.Helper()
	c, s := connected(l.T, l.stack, l.far, farAddr)
	go func() { defer s.Close(); s.WriteTo(s) }()
	return c
}

// echoes sends a word over c and waits for it to come back.
func (l *lan) echoes(c *TCPConn, when string) {
	l.Helper()
	b := []byte("waybill")
	c.SetDeadline(time.Now().Add(3 * time.Minute))
	if _, err := c.Write(b); err != nil {
		l.Errorf("%s: %v", when, err)
		return
	}
	for n := 0; n < len(b); {
		k, err := c.Read(b[n:])
		if n += k; err != nil {
			l.Errorf("%s: %v", when, err)
			return
		}
	}
}
