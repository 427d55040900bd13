package stack

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/internal/autoconf"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
)

// configured is a lan whose stack has configured itself.
func configured(t *testing.T, c Config, a AutoConfig) *lan {
	t.Helper()
	l := newLAN(t, c)
	if err := l.ifc.Autoconfigure(a); err != nil {
		t.Fatal(err)
	}
	l.pass(5 * time.Second)
	return l
}

func TestC186C187C190C192Autoconfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t, Config{})
		advert := func() *ipv6.NDP {
			n := advertises(lanNet)
			n.HopLimit, n.MTU, n.Reachable, n.Retrans = 99, 1400, 20000, 2000
			n.Servers[0], n.NumServers = ipv6.Server{Addr: farAddr.Addr(), Lifetime: 600}, 1
			n.Servers[1], n.NumServers = ipv6.Server{Addr: routerA, Lifetime: 600}, 2
			n.Search[0].Lifetime, n.NumSearch = 600, 1
			n.Search[0].Add("example")
			return n
		}
		l.set(func() { l.advert = advert })
		if _, err := l.stack.Dial("tcp", "[2001:db8:ff::1]:80"); !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("before: %v, want ENETUNREACH", err)
		}
		start := time.Now()
		if err := l.ifc.Autoconfigure(AutoConfig{}); err != nil {
			t.Fatal(err)
		}
		if err := l.ifc.Autoconfigure(AutoConfig{}); !errors.Is(err, syscall.EALREADY) {
			t.Errorf("twice: %v", err)
		}
		l.pass(2 * time.Second)
		if a := l.addrs(lanNet); len(a) != 1 || a[0].State != AddrOptimistic {
			t.Fatalf("while it is asked for: %+v", a)
		}
		l.pass(3 * time.Second)
		var rs, dad int
		for _, n := range l.nd {
			switch n.Type {
			case ipv6.RouterSolicitation:
				if rs++; n.dst != allRouters || !n.src.IsLinkLocalUnicast() {
					t.Errorf("a solicitation from %v to %v", n.src, n.dst)
				}
			case ipv6.NeighborSolicitation:
				if n.src.IsUnspecified() && lanNet.Contains(n.Target) {
					if dad++; n.dst != ipv6.SolicitedNode(n.Target) || !n.HasNonce {
						t.Errorf("C190: asked for by %+v", n)
					}
				}
			}
		}
		if rs != 1 || dad != 1 {
			t.Errorf("%d router solicitations, %d questions for the address; want one of each", rs, dad)
		}
		a := l.addrs(lanNet)
		if len(a) != 1 || a[0].State != AddrValid || a[0].Router != routerA || a[0].Deprecated {
			t.Fatalf("the address is %+v", a)
		}
		if until := a[0].ValidUntil.Sub(start); until < 3*time.Hour || until > 3*time.Hour+3*time.Second || a[0].PreferredUntil.Sub(start) > time.Hour+3*time.Second {
			t.Errorf("its lifetimes are over after %v and %v", until, a[0].PreferredUntil.Sub(start))
		}
		if ll := l.addrs(linkLocal6); len(ll) != 1 || ll[0].Prefix.Addr() == ipv6.LinkLocal(l.ifc.mac) || !ll[0].ValidUntil.IsZero() {
			t.Errorf("C192: the link-local address is %+v", ll)
		}
		ways := map[netip.Prefix]Route{}
		for r := range l.stack.Routes() {
			ways[r.Dst] = r
		}
		if r := ways[world]; r.Via != routerA || r.Interface != l.ifc || r.Static || r.Expires.Sub(start).Round(time.Minute) != 30*time.Minute {
			t.Errorf("the default route is %+v", r)
		}
		if r := ways[lanNet]; r.Via.IsValid() || r.Interface != l.ifc || r.Expires.IsZero() {
			t.Errorf("the route to the link is %+v", r)
		}
		if r := slices.Collect(l.stack.Routers()); len(r) != 1 || r[0].IP != routerA || !r[0].Reachable || r[0].Preference != "medium" {
			t.Errorf("routers: %+v", r)
		}
		want := []netip.AddrPort{netip.AddrPortFrom(farAddr.Addr(), 53), netip.AddrPortFrom(routerA.WithZone(l.ifc.Name()), 53)}
		if got := slices.Collect(l.stack.NameServers()); !slices.Equal(got, want) {
			t.Errorf("name servers: %v, want %v", got, want)
		}
		c := l.dial()
		c.Write(make([]byte, 100000))
		l.pass(time.Second)
		if l.hops != 99 || l.longest != 1400 || c.LocalAddr().String() == "" || l.ifc.MTU() != 1500 {
			t.Errorf("C186: packets of %d octets with hop limit %d, want 1400, 99", l.longest, l.hops)
		}
	})
}

// TestNameServers: an interface's servers are asked, and names without a dot are looked for in its domains.
func TestNameServers(t *testing.T) {
	client, server := pair(t, link.PipeConfig{Ethernet: true, MTU: 1500}, Config{})
	testNames().serve(t, server)
	i := slices.Collect(client.Interfaces())[1]
	look := func(name string) error {
		_, err := client.lookupHost(context.Background(), name, family{v4: true, v6: true})
		return err
	}
	if err := look("both.example"); err == nil {
		t.Error("without a server there is an answer")
	}
	i.SetNameServers([]netip.AddrPort{netip.AddrPortFrom(server4.Addr(), 53)}, []string{"nowhere.example", "example"})
	for _, name := range []string{"both.example", "both.example.", "both"} {
		if err := look(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var dns *net.DNSError
	if err := look("nobody"); !errors.As(err, &dns) || !dns.IsNotFound || dns.Name != "nobody" {
		t.Errorf("a name that nobody has: %v", err)
	}
	i.SetNameServers(nil, nil)
	if n := slices.Collect(client.NameServers()); len(n) != 0 {
		t.Errorf("servers that were taken away: %v", n)
	}
}

func TestAutoconfigureRefuses(t *testing.T) {
	client, _ := pair(t, link.PipeConfig{MTU: 1500}, Config{})
	ip := slices.Collect(client.Interfaces())[1]
	if err := ip.Autoconfigure(AutoConfig{}); !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("without Ethernet: %v", err)
	}
	client, _ = pair(t, link.PipeConfig{Ethernet: true, MTU: 1279}, Config{})
	small := slices.Collect(client.Interfaces())[1]
	if err := small.Autoconfigure(AutoConfig{}); !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("with an MTU below IPv6's: %v", err)
	}
	client, _ = pair(t, link.PipeConfig{Ethernet: true, MTU: 1500}, Config{})
	client.Close()
	if err := slices.Collect(client.Interfaces())[1].Autoconfigure(AutoConfig{}); err == nil {
		t.Error("on a closed stack it goes on")
	}
}

// TestC191PrefixChange: a network is renumbered. What is connected goes on from the old address until that is over, what is
// new begins from the new one.
func TestC191PrefixChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := configured(t, Config{}, AutoConfig{})
		old := l.dial()
		from := func(c *TCPConn) netip.Addr { return c.localAddr() }
		l.echoes(old, "before")
		n := advertises(lanNet, newNet)
		n.Prefixes[0].Valid, n.Prefixes[0].Preferred = 1, 0 // the two-hour rule
		l.advertise(routerA, n)
		l.pass(5 * time.Second)
		if a := l.addrs(lanNet); len(a) != 1 || !a[0].Deprecated || time.Until(a[0].ValidUntil).Round(time.Minute) != 2*time.Hour {
			t.Errorf("the old address: %+v", a)
		}
		next := l.dial()
		if !lanNet.Contains(from(old)) || !newNet.Contains(from(next)) {
			t.Errorf("C193: the connection after the change is from %v, the one before from %v", from(next), from(old))
		}
		l.echoes(old, "deprecated")
		for range 5 {
			l.pass(25 * time.Minute)
			l.advertise(routerA, advertises(newNet))
		}
		if a := l.addrs(lanNet); len(a) != 0 {
			t.Errorf("after its lifetime: %+v", a)
		}
		old.SetDeadline(time.Time{})
		if _, err := old.Write([]byte("x")); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("what was connected from it: %v, want EADDRNOTAVAIL", err)
		}
		l.echoes(next, "after")
		bye := advertises(newNet)
		bye.Lifetime = 0
		l.advertise(routerA, bye)
		l.pass(time.Second)
		if _, err := l.stack.Dial("tcp", "[2001:db8:ff::1]:80"); !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("C186: without a router: %v, want ENETUNREACH", err)
		}
	})
}

// TestC187RouterFailover: the router goes silent, and what is connected goes on over the other.
func TestC187C184RouterFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := configured(t, Config{}, AutoConfig{})
		n := advertises(lanNet)
		n.Preference = ipv6.Low
		l.advertise(routerB, n)
		c := l.dial()
		for range 10 { // C184: progress confirms the router
			l.pass(20 * time.Second)
			l.echoes(c, "before")
		}
		for _, n := range l.sent(ipv6.NeighborSolicitation) {
			if n.dst == routerA {
				t.Errorf("C184: the router is probed at %v though TCP makes progress", n.at)
			}
		}
		if a, b := l.went(); a == 0 || b != 0 {
			t.Errorf("%d packets over A, %d over B", a, b)
		}
		l.set(func() { l.silent[routerA] = true })
		start := time.Now()
		l.echoes(c, "A is silent")
		// TCP doubts the router with its third retransmission, the router is asked for 3 s, and the next one goes over the other
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("it took %v to notice", d)
		} else {
			t.Logf("what went over a silent router arrives over the other after %v", d)
		}
		if _, b := l.went(); b == 0 {
			t.Error("nothing went over B")
		}
		reachable := func() bool {
			return slices.ContainsFunc(slices.Collect(l.stack.Routers()), func(r Router) bool { return r.IP == routerA && r.Reachable })
		}
		if reachable() {
			t.Error("A is said to be reachable")
		}
		l.set(func() { l.silent[routerA] = false })
		l.pass(3 * time.Minute)
		if !reachable() {
			t.Error("A is not found again")
		}
		l.went()
		l.echoes(c, "A is back")
		if a, _ := l.went(); a == 0 {
			t.Error("nothing goes over A, which is preferred")
		}
	})
}

func TestC188RedirectFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := configured(t, Config{}, AutoConfig{})
		l.advertise(routerB, advertises(lanNet))
		c := l.dial()
		l.echoes(c, "before")
		redirect := func(from netip.Addr) {
			r := l.routers[from]
			r.ndp(l.ifc.mac, from, c.localAddr(), &ipv6.NDP{Type: ipv6.Redirect, Target: routerB, Dest: farAddr.Addr(),
				TargetLL: l.routers[routerB].mac, HasTargetLL: true})
			l.pass(time.Second)
		}
		redirect(routerB)
		l.went()
		if l.echoes(c, "a redirect by another"); l.through[routerB] > 0 || l.stack.Stats().Drops["bad-ndp"] != 1 {
			t.Error("a redirect that is not from the first hop is followed")
		}
		redirect(routerA)
		l.went()
		l.echoes(c, "redirected")
		if a, b := l.went(); a > 0 || b == 0 {
			t.Errorf("%d packets over A, %d over B", a, b)
		}
		l.set(func() { l.silent[routerB] = true })
		l.pass(time.Minute)
		l.echoes(c, "the better router is silent")
		if a, _ := l.went(); a == 0 {
			t.Error("the redirect outlives its target")
		}
	})
}

// TestA54DADDoS: somebody claims every address.
func TestA54DADDoS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var log bytes.Buffer
		l := newLAN(t, Config{Log: slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))})
		l.set(func() { l.taken = true })
		if err := l.ifc.Autoconfigure(AutoConfig{}); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			l.pass(time.Minute)
			l.advertise(routerA, advertises(lanNet))
		}
		if a := l.ifc.Addrs(); len(a) != 0 {
			t.Errorf("in use: %+v", a)
		}
		asked := map[netip.Addr]int{}
		for _, n := range l.sent(ipv6.NeighborSolicitation) {
			if n.src.IsUnspecified() {
				asked[n.Target]++
			}
		}
		if len(asked) < 7 || len(asked) > 9 { // that of the station, and four of either prefix
			t.Errorf("%d addresses were asked for", len(asked))
		}
		mu.Lock()
		defer mu.Unlock()
		if n := strings.Count(log.String(), "no address to be had"); n != 2 {
			t.Errorf("%d errors, want one for each prefix:\n%s", n, log.String())
		}
	})
}

// lockedWriter makes a buffer safe for several goroutines.
type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// TestA60Loop: the network sends back what it gets, for a while (RFC 7527).
func TestA60Loop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t, Config{})
		l.set(func() { l.echo = true })
		if err := l.ifc.Autoconfigure(AutoConfig{}); err != nil {
			t.Fatal(err)
		}
		l.pass(time.Minute)
		a := l.addrs(lanNet)
		if len(a) != 1 || a[0].State != AddrOptimistic {
			t.Fatalf("in a loop the address is %+v, want one that is in doubt", a)
		}
		sent := l.stack.Stats().PacketsOut
		l.pass(time.Minute)
		if n := l.stack.Stats().PacketsOut - sent; n > 200 {
			t.Errorf("a storm: %d packets in a minute", n)
		}
		l.set(func() { l.echo = false })
		l.pass(10 * time.Second)
		if b := l.addrs(lanNet); len(b) != 1 || b[0].State != AddrValid || b[0].Prefix != a[0].Prefix {
			t.Errorf("when the loop is gone: %+v", b)
		}
	})
}

// TestA55A56RAFlood: advertisements of random prefixes, routers and name servers, with a connection beside.
func TestA55A56RAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := configured(t, Config{}, AutoConfig{Temporary: true})
		c := l.dial()
		l.echoes(c, "before")
		from := c.localAddr()
		var before, after runtime.MemStats
		n := *floodOf
		for k := range n {
			a := l.routers[routerA]
			router := netip.AddrFrom16([16]byte{0xfe, 0x80, 8: byte(k >> 16), 9: byte(k >> 8), 10: byte(k), 15: 7})
			bad := advertises(netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(k >> 16), byte(k >> 8), byte(k)}), 64),
				netip.PrefixFrom(netip.AddrFrom16([16]byte{0x30, 1, 0xd, 0xb8, byte(k >> 16), byte(k >> 8), byte(k)}), 64))
			bad.Servers[0], bad.NumServers = ipv6.Server{Addr: router, Lifetime: ipv6.Infinite}, 1
			bad.Routes[0] = ipv6.Route{Prefix: bad.Prefixes[0].Prefix, Lifetime: ipv6.Infinite}
			bad.NumRoutes, bad.HopLimit, bad.MTU, bad.Reachable, bad.Retrans = 1, uint8(k%32), uint32(k%1280), 1, 1<<32-1
			bad.SourceLL, bad.HasSourceLL = [6]byte{2, 3, 4, byte(k >> 16), byte(k >> 8), byte(k)}, true
			a.ndp(l.ifc.mac, router, allNodes, bad)
			if k%50 == 0 {
				l.pass(5 * time.Millisecond)
			}
			if k%1000 == 0 {
				l.echoes(c, "beside the flood")
			}
			if k == n/10 {
				runtime.GC()
				runtime.ReadMemStats(&before)
			}
		}
		l.pass(time.Second)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
			t.Errorf("the heap has grown by %d octets", grown)
		}
		l.echoes(c, "after")
		routes, neighbors := 0, 0
		for range l.stack.Routes() {
			routes++
		}
		for range l.stack.Neighbors() {
			neighbors++
		}
		limit := autoconf.MaxAddrs*2 + autoconf.MaxPrefixes + autoconf.MaxRouters + autoconf.MaxRoutes + 10
		if a := l.ifc.Addrs(); len(a) > autoconf.MaxAddrs || routes > limit || neighbors > 1024 {
			t.Errorf("%d addresses, %d routes, %d neighbours", len(a), routes, neighbors)
		}
		if !l.ifc.has(from) || l.hops != 64 {
			t.Errorf("the address in use is there: %v; hop limit %d", l.ifc.has(from), l.hops)
		}
	})
}

func TestC192TemporaryIsPreferred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := configured(t, Config{}, AutoConfig{Temporary: true, Key: []byte("secret")})
		a := l.addrs(lanNet)
		if len(a) != 2 || a[0].Temporary || !a[1].Temporary {
			t.Fatalf("addresses: %+v", a)
		}
		if c := l.dial(); c.localAddr() != a[1].Prefix.Addr() {
			t.Errorf("C193 rule 7: connected from %v, want %v", c.localAddr(), a[1].Prefix.Addr())
		}
		again := configured(t, Config{}, AutoConfig{Key: []byte("secret")})
		if b := again.addrs(lanNet); len(b) != 1 || b[0].Prefix != a[0].Prefix {
			t.Errorf("with the same key %+v, want %v", b, a[0].Prefix)
		}
	})
}

// TestAutoconfigureFollowsTheLink: when the link returns, routers are asked again.
func TestAutoconfigureFollowsTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := configured(t, Config{}, AutoConfig{})
		l.sent(ipv6.RouterSolicitation)
		l.ifc.returned(l.stack.now())
		l.pass(2 * time.Second)
		if n := l.sent(ipv6.RouterSolicitation); len(n) != 1 {
			t.Errorf("%d solicitations when the link is back, want 1", len(n))
		}
	})
}
