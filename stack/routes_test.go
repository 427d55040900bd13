package stack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// twoWays joins two hosts by two wires, over which each reaches an address that the other has on its loopback interface: by
// a route over the first of metric 10.
type twoWays struct {
	client, server *Stack
	first, second  *pliable // the client's devices
	to             netip.Addr
	from           netip.Addr
	via            [2]netip.Addr // the server on each wire
}

func newTwoWays(t *testing.T, six bool, mtu int) *twoWays {
	a, b := link.Pipe(link.PipeConfig{MTU: 1500, Ethernet: true, Delay: time.Millisecond})
	c, d := link.Pipe(link.PipeConfig{MTU: mtu, Ethernet: true, Delay: time.Millisecond})
	w := &twoWays{first: newPliable(a), second: newPliable(c)}
	names := [8]string{"198.51.100.1/24", "198.51.100.2/24", "203.0.113.1/25", "203.0.113.2/25", "203.0.113.200/32", "203.0.113.201/32"}
	if six {
		names = [8]string{"2001:db8:51::1/64", "2001:db8:51::2/64", "2001:db8:52::1/64", "2001:db8:52::2/64", "2001:db8:53::1/128", "2001:db8:54::1/128"}
	}
	var p [6]netip.Prefix
	for k := range p {
		p[k] = netip.MustParsePrefix(names[k])
	}
	w.client, w.server = host(t, w.first, Config{}, p[0]), host(t, b, Config{}, p[1])
	w.from, w.to, w.via = p[4].Addr(), p[5].Addr(), [2]netip.Addr{p[1].Addr(), p[3].Addr()}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.client.Attach(w.second, p[2])
	must(err)
	_, err = w.server.Attach(d, p[3])
	must(err)
	must(w.client.lo.AddAddr(p[4]))
	must(w.server.lo.AddAddr(p[5]))
	must(w.client.AddRouteWith(Route{Dst: p[5], Via: p[1].Addr(), Metric: 10}))
	must(w.server.AddRouteWith(Route{Dst: p[4], Via: p[0].Addr(), Metric: 10}))
	return w
}

// connect makes a connection between the two addresses.
func (w *twoWays) connect(t *testing.T) (c, s *TCPConn) {
	t.Helper()
	l, err := w.server.ListenTCP("tcp", netip.AddrPortFrom(w.to, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err = w.client.DialTCP(context.Background(), "tcp", netip.AddrPortFrom(w.from, 0), l.Addr().(interface{ AddrPort() netip.AddrPort }).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	if s, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	return c, s
}

// sent is how many frames the device was given.
func (d *pliable) sent() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.frames
}

// A route that is better, or no longer there, moves a connection that is open, and its segments become what fits.
func TestRouteChangeMovesConnections(t *testing.T) {
	for _, six := range []bool{false, true} {
		for _, mtu := range []int{1300, 9000} {
			t.Run(fmt.Sprintf("six=%v/mtu=%d", six, mtu), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newTwoWays(t, six, mtu)
					c, s := w.connect(t)
					before := c.Info().MSS
					dst := netip.PrefixFrom(w.to, w.to.BitLen())
					transfer(t, c, s, 1<<20, func() {
						if err := w.client.AddRoute(dst, w.via[1], nil); err != nil {
							t.Error(err)
						}
					})
					// The peer, which answers over the first wire, never offered more than fits there.
					if got, want := c.Info().MSS, before+min(mtu, 1500)-1500; got != want {
						t.Errorf("MSS %d after the change, %d before, want %d", got, before, want)
					}
					old, now := w.first.sent(), w.second.sent()
					transfer(t, c, s, 100_000, func() {})
					if got := w.first.sent(); got != old || w.second.sent() == now {
						t.Errorf("%d packets more over the first wire, %d over the second", got-old, w.second.sent()-now)
					}
					if err := w.client.DeleteRoute(Route{Dst: dst, Via: w.via[1]}); err != nil {
						t.Error(err)
					}
					if got := c.Info().MSS; got != before {
						t.Errorf("MSS %d on the old way, %d before", got, before)
					}
					transfer(t, c, s, 100_000, func() {})
					if w.first.sent() == old {
						t.Error("nothing went the old way")
					}
				})
			})
		}
	}
}

// A connection that waits for a gateway which does not answer goes on at once where a better route is found.
func TestRouteChangeFreesWhatWaits(t *testing.T) {
	for _, six := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newTwoWays(t, six, 1300)
			dst, dead := netip.PrefixFrom(w.to, w.to.BitLen()), w.via[0]
			for range 7 {
				dead = dead.Next()
			}
			if err := w.client.AddRouteWith(Route{Dst: dst, Via: dead, Metric: 5}); err != nil {
				t.Fatal(err)
			}
			var better time.Time
			time.AfterFunc(500*time.Millisecond, func() {
				better = time.Now()
				if err := w.client.AddRoute(dst, w.via[1], nil); err != nil {
					t.Error(err)
				}
			})
			c, s := w.connect(t)
			if took := time.Since(better); took > 10*time.Millisecond {
				t.Errorf("connected %v after there was a way", took)
			}
			transfer(t, c, s, 100_000, func() {})
		})
	}
}

// Of two routes with different metrics the better serves as long as its interface is up, and again when it is back.
func TestRouteMetricAndLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwoWays(t, false, 1300)
		c, s := w.connect(t)
		dst := netip.PrefixFrom(w.to, 32)
		if err := w.client.AddRouteWith(Route{Dst: dst, Via: w.via[1], Metric: 20}); err != nil {
			t.Fatal(err)
		}
		began := w.second.sent()
		transfer(t, c, s, 100_000, func() {})
		if n := w.second.sent(); n != began {
			t.Errorf("%d packets took the worse way", n-began)
		}
		mss := c.Info().MSS
		start := time.Now()
		transfer(t, c, s, 1<<20, func() { w.first.setDown(true) })
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("took %v, with a way that worked", took)
		}
		if w.second.sent() == began || c.Info().MSS != mss-200 {
			t.Errorf("%d packets over the second wire, MSS %d, want %d", w.second.sent(), c.Info().MSS, mss-200)
		}
		w.first.setDown(false)
		synctest.Wait()
		old := w.second.sent()
		transfer(t, c, s, 100_000, func() {})
		if w.second.sent() != old || c.Info().MSS != mss {
			t.Errorf("%d packets over the second wire after the first was back, MSS %d, want %d", w.second.sent()-old, c.Info().MSS, mss)
		}
	})
}

// A host prefers the interface of the source address, and takes another way only where that has none.
func TestC150StrongHostOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwoWays(t, false, 1500)
		v := w.client.view.Load()
		to := netip.MustParseAddr("198.51.100.2")
		for _, c := range []struct {
			what, src string
			add       bool
			want      int
		}{
			{"its own interface", "198.51.100.1", false, 1},
			{"unbound", "0.0.0.0", false, 1},
			{"another interface's, which has no way", "203.0.113.1", false, 1},
			{"another interface's, with a default route", "203.0.113.1", true, 2},
			{"its own, with that default route", "198.51.100.1", true, 1},
			{"the host's", "203.0.113.200", true, 1},
			{"not ours", "192.0.2.7", true, 1},
		} {
			if c.add {
				w.client.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), w.via[1], nil)
				v = w.client.view.Load()
			}
			if h, ok := v.route(netip.MustParseAddr(c.src), to, 0); !ok || h.ifc != v.ifaces[c.want] {
				t.Errorf("%s, from %s: %v over %v, want interface %d", c.what, c.src, ok, h.ifc, c.want)
			}
		}
		if h, ok := v.route(netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("224.0.0.251"), 0); !ok || h.ifc != v.ifaces[2] {
			t.Errorf("a multicast leaves by %v, want the interface of its source", h.ifc)
		}
	})
}

// What arrives is for us where its destination is an address of that interface, or of the host.
func TestC150StrongHostIn(t *testing.T) {
	for _, six := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newTwoWays(t, six, 1500)
			l, err := w.server.Listen("tcp", ":7")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			first := w.client.view.Load().ifaces[1]
			// The server's address on the second wire, over the first.
			dst := netip.PrefixFrom(w.via[1], w.to.BitLen())
			if err := w.client.AddRoute(dst, w.via[0], first); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if _, err := w.client.DialTCP(ctx, "tcp", netip.AddrPortFrom(w.from, 0), netip.AddrPortFrom(w.via[1], 7)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("another interface's address answers: %v", err)
			}
			if w.server.Stats().Drops[OtherHost.String()] == 0 {
				t.Error("nothing was dropped as another host's")
			}
			if _, err := w.client.DialTCP(context.Background(), "tcp", netip.AddrPortFrom(w.from, 0), netip.AddrPortFrom(w.to, 7)); err != nil {
				t.Errorf("the host's address: %v", err)
			}
		})
	}
}

// A sender is told of a route that leads nowhere as Linux tells it; a longer prefix may still lead somewhere.
func TestRoutesThatLeadNowhere(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			client, server := pair(t, link.PipeConfig{MTU: 1500}, Config{})
			c, s := connected(t, client, server, to)
			all := netip.PrefixFrom(to.Addr(), 8).Masked()
			host := netip.PrefixFrom(to.Addr(), to.Addr().BitLen())
			for _, r := range []struct {
				kind RouteType
				err  error
				soft tcp.Reason
			}{
				{RouteBlackhole, syscall.EINVAL, tcp.None},
				{RouteUnreachable, syscall.EHOSTUNREACH, tcp.HostUnreachable},
				{RouteProhibited, syscall.EACCES, tcp.Prohibited},
			} {
				for _, dst := range []netip.Prefix{all, host} {
					if err := client.AddRouteWith(Route{Dst: dst, Type: r.kind}); err != nil {
						t.Fatal(err)
					}
				}
				for _, network := range []string{"tcp", "udp"} {
					if _, err := client.Dial(network, netip.AddrPortFrom(to.Addr(), 9).String()); !errors.Is(err, r.err) {
						t.Errorf("%v, %s: %v, want %v", r.kind, network, err, r.err)
					}
				}
				c.mu.Lock()
				if got := c.noWay(); got != r.soft {
					t.Errorf("%v: a connection that is open hears %v, want %v", r.kind, got, r.soft)
				}
				c.mu.Unlock()
				c.Write([]byte("late"))
				if err := client.DeleteRoute(Route{Dst: host, Type: r.kind}); err != nil {
					t.Error(err)
				}
				var b [8]byte // the network of the link is a longer prefix than the route that is left
				if n, err := s.Read(b[:]); string(b[:n]) != "late" || err != nil {
					t.Errorf("%v, after it was taken away: read %q, %v", r.kind, b[:n], err)
				}
				if err := client.DeleteRoute(Route{Dst: all, Type: r.kind}); err != nil {
					t.Error(err)
				}
			}
		})
	})
}

func TestRouteErrors(t *testing.T) {
	client, server := pair(t, link.PipeConfig{MTU: 1500}, Config{})
	i, other := client.view.Load().ifaces[1], server.view.Load().ifaces[1]
	net4, gw, gw6 := netip.MustParsePrefix("203.0.113.0/24"), server4.Addr(), server6.Addr()
	for _, c := range []struct {
		what string
		r    Route
		want error
	}{
		{"no destination", Route{Via: gw}, syscall.EINVAL},
		{"neither gateway nor interface", Route{Dst: net4}, syscall.EINVAL},
		{"families differ", Route{Dst: net4, Via: gw6}, syscall.EINVAL},
		{"source of another family", Route{Dst: net4, Via: gw, Source: gw6}, syscall.EINVAL},
		{"a local route", Route{Dst: net4, Type: RouteLocal}, syscall.EINVAL},
		{"an unknown type", Route{Dst: net4, Type: 99}, syscall.EINVAL},
		{"a black hole with a gateway", Route{Dst: net4, Via: gw, Type: RouteBlackhole}, syscall.EINVAL},
		{"a gateway that nothing reaches", Route{Dst: net4, Via: netip.MustParseAddr("192.0.2.1")}, syscall.ENETUNREACH},
		{"a gateway that is ourselves", Route{Dst: net4, Via: client4.Addr()}, syscall.ENETUNREACH},
		{"another stack's interface", Route{Dst: net4, Interface: other}, syscall.ENODEV},
		{"a zone of no interface", Route{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fe80::1%nix")}, syscall.ENODEV},
		{"good", Route{Dst: net4, Via: gw}, nil},
		{"the same again", Route{Dst: net4, Via: gw}, syscall.EEXIST},
		{"the same over a link", Route{Dst: net4, Interface: i}, syscall.EEXIST},
		{"another metric", Route{Dst: net4, Via: gw, Metric: 7}, nil},
		{"a zone", Route{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fe80::1%" + i.Name())}, nil},
	} {
		if err := client.AddRouteWith(c.r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	var got []string
	for r := range client.Routes() {
		if r.Static {
			got = append(got, fmt.Sprintf("%v %v via %v metric %d", r.Type, r.Dst, r.Via, r.Metric))
		}
	}
	want := []string{"unicast 203.0.113.0/24 via 198.51.100.2 metric 0", "unicast 203.0.113.0/24 via 198.51.100.2 metric 7", "unicast ::/0 via fe80::1 metric 0"}
	if !slices.Equal(got, want) {
		t.Errorf("routes %q, want %q", got, want)
	}
	for _, c := range []struct {
		what string
		r    Route
		want error
	}{
		{"another gateway", Route{Dst: net4, Via: client4.Addr()}, syscall.ESRCH},
		{"another prefix", Route{Dst: netip.MustParsePrefix("203.0.113.0/25")}, syscall.ESRCH},
		{"what follows from an address", Route{Dst: client4.Masked()}, syscall.ESRCH},
		{"no destination", Route{}, syscall.EINVAL},
		{"by metric", Route{Dst: net4, Metric: 7}, nil},
		{"any", Route{Dst: net4}, nil},
		{"none is left", Route{Dst: net4}, syscall.ESRCH},
	} {
		if err := client.DeleteRoute(c.r); !errors.Is(err, c.want) {
			t.Errorf("delete %s: %v, want %v", c.what, err, c.want)
		}
	}
}

// One route more among 100,000 is little work, and no reader's table changes under him.
func TestManyRoutes(t *testing.T) {
	client, _ := pair(t, link.PipeConfig{MTU: 1500}, Config{})
	const n = 100_000
	add := func(k int) {
		a := netip.AddrFrom4([4]byte{10, byte(k >> 16), byte(k >> 8), byte(k)})
		if err := client.AddRoute(netip.PrefixFrom(a, 32), server4.Addr(), nil); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	for k := range n {
		add(k)
	}
	t.Logf("%v a route", time.Since(start)/n)
	v := client.view.Load()
	add(n)
	if _, ok := v.lookup(netip.AddrFrom4([4]byte{10, n >> 16 & 0xff, n >> 8 & 0xff, n & 0xff}), 0); ok {
		t.Error("an older view has the new route")
	}
	if h, ok := client.view.Load().lookup(netip.MustParseAddr("10.0.1.2"), 0); !ok || h.via != server4.Addr() {
		t.Errorf("10.0.1.2: %v via %v", ok, h.via)
	}
}

// Addresses come and go while the host runs: each brings the network around it, and takes it away again with the last.
func TestAddressesComeAndGo(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			a, b := link.Pipe(link.PipeConfig{MTU: 1500, Ethernet: true})
			client, server := New(Config{}), host(t, b, Config{}, server4, server6)
			defer client.Close()
			i, err := client.Attach(a)
			if err != nil {
				t.Fatal(err)
			}
			ours := netip.PrefixFrom(client4.Addr(), 24)
			if to.Addr().Is6() {
				ours = client6
			}
			before := len(slices.Collect(client.Routes()))
			if _, err := client.Dial("udp", netip.AddrPortFrom(to.Addr(), 9).String()); !errors.Is(err, syscall.ENETUNREACH) {
				t.Errorf("without an address: %v", err)
			}
			for range 2 {
				if err := i.AddAddr(ours); err != nil {
					t.Fatal(err)
				}
				if err := i.AddAddr(ours); !errors.Is(err, syscall.EEXIST) {
					t.Errorf("the same again: %v", err)
				}
				c, s := connected(t, client, server, to)
				transfer(t, c, s, 100_000, func() {})
				time.Sleep(2 * time.Second)
				if got := i.stateOf(ours.Addr()); got != AddrValid {
					t.Errorf("%v is %v after duplicate address detection", ours, got)
				}
				if err := i.RemoveAddr(ours.Addr()); err != nil {
					t.Error(err)
				}
				if _, err := c.Write([]byte("late")); !errors.Is(err, syscall.EADDRNOTAVAIL) {
					t.Errorf("a connection from an address that was taken away: %v", err)
				}
				if n := len(slices.Collect(client.Routes())); n != before {
					t.Errorf("%d routes, before %d", n, before)
				}
				s.Close()
			}
			if err := i.RemoveAddr(ours.Addr()); !errors.Is(err, syscall.EADDRNOTAVAIL) {
				t.Errorf("an address that is not there: %v", err)
			}
			if err := i.AddAddr(netip.MustParsePrefix("224.0.0.1/4")); !errors.Is(err, syscall.EADDRNOTAVAIL) {
				t.Errorf("a multicast address: %v", err)
			}
		})
	})
}
