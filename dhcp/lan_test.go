package dhcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// The network of the tests.
var (
	serverAddr = netip.MustParsePrefix("198.51.100.1/24")
	otherAddr  = netip.MustParsePrefix("198.51.100.2/24")
	poolFirst  = netip.MustParseAddr("198.51.100.100")
	poolLast   = netip.MustParseAddr("198.51.100.199")
	dnsAddr    = netip.MustParseAddr("198.51.100.53")
	elsewhere  = netip.MustParsePrefix("203.0.113.0/25")
)

// lan is a switch with hosts, in a bubble.
type lan struct {
	*testing.T
	sw *link.Switch
}

func newLAN(t *testing.T) *lan {
	l := &lan{t, link.NewSwitch(link.SwitchConfig{})}
	t.Cleanup(func() { l.sw.Close() })
	return l
}

// plug is a device whose cable can be pulled.
type plug struct {
	link.Device
	mu      sync.Mutex
	caps    link.Caps
	changed chan struct{}
}

func (p *plug) Caps() link.Caps {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.caps
}

func (p *plug) Changed() <-chan struct{} { return p.changed }

// replug pulls the cable and puts it in again.
func (p *plug) replug() {
	for _, down := range []bool{true, false} {
		p.mu.Lock()
		p.caps.Down = down
		p.mu.Unlock()
		p.changed <- struct{}{}
		synctest.Wait()
	}
}

// host attaches a host.
func (l *lan) host(addrs ...netip.Prefix) (*stack.Stack, *stack.Interface) {
	l.Helper()
	s, i, _ := l.pluggable(addrs...)
	return s, i
}

func (l *lan) pluggable(addrs ...netip.Prefix) (*stack.Stack, *stack.Interface, *plug) {
	l.Helper()
	d, err := l.sw.Port(link.PipeConfig{MTU: 1500, Ethernet: true, Delay: time.Millisecond}, link.PortConfig{})
	if err != nil {
		l.Fatal(err)
	}
	p := &plug{Device: d, caps: d.Caps(), changed: make(chan struct{})}
	s := stack.New(stack.Config{})
	i, err := s.Attach(p, addrs...)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { s.Close() })
	return s, i, p
}

// server is a server that says all there is to say, on a host of its own.
func (l *lan) server(addr netip.Prefix) *Server {
	l.Helper()
	_, i := l.host(addr)
	return serverOn(i, addr)
}

func serverOn(i *stack.Interface, addr netip.Prefix) *Server {
	return &Server{Interface: i, First: poolFirst, Last: poolLast, Lease: time.Hour, Routers: []netip.Addr{addr.Addr()},
		Routes: []Route{{elsewhere, otherAddr.Addr()}}, DNS: []netip.Addr{dnsAddr}, Search: []string{"lan.example"}, MTU: 1400}
}

// start runs something until stop is called, which returns its error.
func (l *lan) start(run func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	var err error
	stop = func() error {
		cancel()
		select {
		case e := <-done:
			err = e
			close(done)
		case <-time.After(time.Minute): // virtual: it does not end
			l.Error("it does not end")
		}
		return err
	}
	l.Cleanup(func() { cancel() })
	return stop
}

// watched is a client with what it has told of its leases.
type watched struct {
	Client
	mu   sync.Mutex
	told []*Lease
}

func (l *lan) client(s *stack.Stack, i *stack.Interface) *watched {
	w := &watched{Client: Client{Stack: s, Interface: i, Hostname: "client"}}
	w.Changed = func(x *Lease) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.told = append(w.told, x)
	}
	return w
}

// leases is what it has told so far.
func (w *watched) leases() []*Lease {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

// last is the lease in force.
func (w *watched) last() *Lease {
	all := w.leases()
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1]
}

// addr4 is the interface's IPv4 address, which is the only one.
func addr4(t *testing.T, i *stack.Interface) (a netip.Prefix) {
	t.Helper()
	for _, x := range i.Addrs() {
		if x.Prefix.Addr().Is4() {
			if a.IsValid() {
				t.Errorf("two addresses: %v and %v", a, x.Prefix)
			}
			a = x.Prefix
		}
	}
	return a
}

// routes lists the routes that were added, and are not derived.
func routes(s *stack.Stack) (all []Route) {
	for r := range s.Routes() {
		if r.Static {
			all = append(all, Route{r.Dst, r.Via})
		}
	}
	return all
}

// after lets time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// An hour's lease, for ten hours: what it configures, that it is renewed every half hour, and that a connection outlives that;
// then it is given back, and the interface is as before.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		far, there := l.host(serverAddr)
		srv := serverOn(there, serverAddr)
		stopServer := l.start(srv.Serve)
		s, i := l.host()
		c := l.client(s, i)
		stop := l.start(c.Run)
		after(10 * time.Second)
		if got, want := addr4(t, i), netip.PrefixFrom(poolFirst, 24); got != want {
			t.Fatalf("after ten seconds the address is %v, want %v", got, want)
		}
		if got, want := routes(s), []Route{{elsewhere, otherAddr.Addr()}, {defaultRoute, serverAddr.Addr()}}; !slices.Equal(got, want) {
			t.Errorf("routes %v, want %v", got, want)
		}
		if got, want := slices.Collect(s.NameServers()), []netip.AddrPort{netip.AddrPortFrom(dnsAddr, 53)}; !slices.Equal(got, want) {
			t.Errorf("name servers %v, want %v", got, want)
		}
		if i.MTU() != 1400 {
			t.Errorf("MTU %d, want 1400", i.MTU())
		}
		if got, want := c.last().Search, []string{"lan.example"}; !slices.Equal(got, want) {
			t.Errorf("search list %q, want %q", got, want)
		}
		near, peer := connect(t, s, far, serverAddr.Addr())
		after(10 * time.Hour)
		if n := len(c.leases()); n < 20 || n > 22 || c.last() == nil {
			t.Errorf("%d leases in ten hours, the last %+v; want one each half hour", n, c.last())
		}
		if _, err := near.Write([]byte("still")); err != nil {
			t.Error(err)
		}
		b := make([]byte, 5)
		if _, err := peer.Read(b); err != nil || string(b) != "still" {
			t.Errorf("after ten hours %q, %v arrives", b, err)
		}
		if b := srv.Bindings(); len(b) != 1 || b[0].Addr != poolFirst || b[0].State != Leased || b[0].Hostname != "client" || b[0].HW != i.HardwareAddr().String() {
			t.Errorf("the server has %+v", b)
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Error("the client ends with", err)
		}
		after(time.Second)
		if b := srv.Bindings(); len(b) != 1 || b[0].State != Free {
			t.Errorf("after the client has given its address back the server has %+v", b)
		}
		if addr4(t, i).IsValid() || len(routes(s)) > 0 || len(slices.Collect(s.NameServers())) > 0 || i.MTU() != 1500 || c.last() != nil {
			t.Errorf("left over: %v, %v, %v, MTU %d, %v", i.Addrs(), routes(s), slices.Collect(s.NameServers()), i.MTU(), c.last())
		}
		near.Close()
		peer.Close()
		if err := stopServer(); !errors.Is(err, context.Canceled) {
			t.Error("the server ends with", err)
		}
	})
}

// connect makes a TCP connection from a host to an address of another.
func connect(t *testing.T, s, to *stack.Stack, addr netip.Addr) (near, far net.Conn) {
	t.Helper()
	ln, err := to.ListenTCP("tcp", netip.AddrPortFrom(addr, 80))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if near, err = s.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// Where the server is gone the lease lasts until its end, and so does what is connected; then the address is gone, and comes
// again with the server.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		srv := l.server(serverAddr)
		stopServer := l.start(srv.Serve)
		s, i := l.host()
		c := l.client(s, i)
		l.start(c.Run)
		after(10 * time.Second)
		first := c.last()
		if first == nil {
			t.Fatal("no lease")
		}
		stopServer()
		after(time.Until(first.Expires) - time.Second)
		if !addr4(t, i).IsValid() {
			t.Error("the address is gone before its time")
		}
		after(2 * time.Second)
		if addr4(t, i).IsValid() || len(routes(s)) > 0 || c.last() != nil {
			t.Errorf("after the lease has ended: %v, %v, %+v", i.Addrs(), routes(s), c.last())
		}
		l.start(srv.Serve)
		after(2 * time.Minute)
		if got := addr4(t, i); got != first.Addr {
			t.Errorf("with the server the address is %v, want %v", got, first.Addr)
		}
	})
}

// A server that was started anew and remembers nothing lets its clients go on; one of another name is found at T2.
func TestServerRestart(t *testing.T) {
	for _, c := range []struct {
		name string
		addr netip.Prefix
		last time.Duration // until when the lease is extended
	}{{"the same", serverAddr, 31 * time.Minute}, {"another", otherAddr, 53 * time.Minute}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLAN(t)
				srv := l.server(serverAddr)
				stop := l.start(srv.Serve)
				next := srv
				if c.addr != serverAddr {
					next = l.server(c.addr)
				} else {
					next = &Server{Interface: srv.Interface, First: srv.First, Last: srv.Last, Lease: srv.Lease}
				}
				s, i := l.host()
				w := l.client(s, i)
				l.start(w.Run)
				after(10 * time.Second)
				stop()
				l.start(next.Serve)
				after(c.last - 2*time.Minute)
				if len(w.leases()) != 1 {
					t.Errorf("%d leases before it is time for another", len(w.leases()))
				}
				after(2 * time.Minute)
				if len(w.leases()) != 2 || w.last() == nil || w.last().Server != c.addr.Addr() || w.last().Addr.Addr() != poolFirst {
					t.Errorf("%d leases, the last %+v; want one more, of %v", len(w.leases()), w.last(), c.addr)
				}
			})
		})
	}
}

// A server that gives out other addresses says no, and the client takes one of those.
func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		srv := l.server(serverAddr)
		stop := l.start(srv.Serve)
		s, i := l.host()
		w := l.client(s, i)
		l.start(w.Run)
		after(10 * time.Second)
		stop()
		next := &Server{Interface: srv.Interface, First: poolLast, Last: poolLast}
		l.start(next.Serve)
		after(31 * time.Minute)
		if got := addr4(t, i).Addr(); got != poolLast || len(w.leases()) != 3 || w.leases()[1] != nil {
			t.Errorf("the address is %v, want %v; leases %v", got, poolLast, w.leases())
		}
	})
}

// RFC 2131 §3.7: a client whose cable was pulled asks whether its lease is good where it is now.
func TestReplug(t *testing.T) {
	for _, c := range []struct {
		name   string
		next   netip.Addr // what the server there gives out; invalid: there is none
		after  netip.Addr
		leases int // and losses of one
	}{{"same network", poolFirst, poolFirst, 2}, {"another", poolLast, poolLast, 3}, {"nobody answers", netip.Addr{}, poolFirst, 1}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLAN(t)
				srv := l.server(serverAddr)
				stop := l.start(srv.Serve)
				s, i, cable := l.pluggable()
				w := l.client(s, i)
				l.start(w.Run)
				after(10 * time.Second)
				stop()
				if c.next.IsValid() {
					l.start((&Server{Interface: srv.Interface, First: c.next, Last: c.next}).Serve)
				}
				cable.replug()
				after(20 * time.Second)
				if got := addr4(t, i).Addr(); got != c.after || len(w.leases()) != c.leases {
					t.Errorf("the address is %v, want %v; leases %v", got, c.after, w.leases())
				}
			})
		})
	}
}

// RFC 2131 §3.1 (5): an address that another host has is declined, and another one taken ten seconds later.
func TestDecline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		srv := l.server(serverAddr)
		l.start(srv.Serve)
		l.host(netip.PrefixFrom(poolFirst, 24)) // a squatter
		s, i := l.host()
		w := l.client(s, i)
		l.start(w.Run)
		after(30 * time.Second)
		if got := addr4(t, i).Addr(); got != poolFirst.Next() {
			t.Errorf("the address is %v, want %v", got, poolFirst.Next())
		}
		if b := srv.Bindings(); len(b) != 2 || b[0].State != Declined || b[1].State != Leased {
			t.Errorf("the server has %+v", b)
		}
	})
}

// RFC 5227 §2.4 (b): another host that insists on the leased address gets it, and the client another one.
func TestYield(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		srv := l.server(serverAddr)
		l.start(srv.Serve)
		s, i := l.host()
		w := l.client(s, i)
		l.start(w.Run)
		after(30 * time.Second)
		l.host(netip.PrefixFrom(poolFirst, 24)) // which announces itself twice
		after(30 * time.Second)
		if got := addr4(t, i).Addr(); got != poolFirst.Next() || len(w.leases()) != 3 || w.leases()[1] != nil {
			t.Errorf("the address is %v, want %v; leases %v", got, poolFirst.Next(), w.leases())
		}
		if b := srv.Bindings(); len(b) != 2 || b[0].State != Declined || b[1].State != Leased {
			t.Errorf("the server has %+v", b)
		}
	})
}

// RFC 3927: two hosts without a server find an address each, reach each other, and give them up for leases.
func TestLinkLocalUntilServerComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		var ifaces []*stack.Interface
		var stacks []*stack.Stack
		for range 2 {
			s, i := l.host()
			w := l.client(s, i)
			w.LinkLocal = true
			l.start(w.Run)
			ifaces, stacks = append(ifaces, i), append(stacks, s)
		}
		after(2 * time.Minute)
		a, b := addr4(t, ifaces[0]), addr4(t, ifaces[1])
		if !a.Addr().IsLinkLocalUnicast() || !b.Addr().IsLinkLocalUnicast() || a == b || a.Bits() != 16 {
			t.Fatalf("the addresses are %v and %v", a, b)
		}
		near, far := connect(t, stacks[0], stacks[1], b.Addr())
		near.Close()
		far.Close()
		srv := l.server(serverAddr)
		l.start(srv.Serve)
		after(3 * time.Minute)
		for k, i := range ifaces {
			if got := addr4(t, i); got.Addr().Less(poolFirst) || poolLast.Less(got.Addr()) {
				t.Errorf("host %d has %v once there is a server", k, got)
			}
		}
	})
}

// RFC 2131 §3.2: a host that knows its address of last time asks for that one, and is refused where it is another network's.
func TestInitReboot(t *testing.T) {
	for _, c := range []struct{ last, want netip.Addr }{{poolLast, poolLast}, {netip.MustParseAddr("203.0.113.9"), poolFirst}} {
		synctest.Test(t, func(t *testing.T) {
			l := newLAN(t)
			srv := l.server(serverAddr)
			l.start(srv.Serve)
			s, i := l.host()
			w := l.client(s, i)
			w.Last = c.last
			l.start(w.Run)
			after(10 * time.Second)
			if got := addr4(t, i).Addr(); got != c.want {
				t.Errorf("a client that had %v has %v, want %v", c.last, got, c.want)
			}
		})
	}
}

// What stands in a client's way is an error of its Run.
func TestRunFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		s, i := l.host()
		w, again := l.client(s, i), l.client(s, i)
		stop := l.start(w.Run)
		after(time.Second)
		if err := again.Run(t.Context()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Error("a second client on the interface:", err)
		}
		s.Close()
		synctest.Wait()
		if err := stop(); !errors.Is(err, net.ErrClosed) && !errors.Is(err, context.Canceled) {
			t.Error("when the stack is closed:", err)
		}
		a, b := link.Pipe(link.PipeConfig{})
		defer b.Close()
		s = stack.New(stack.Config{})
		defer s.Close()
		i, err := s.Attach(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.client(s, i).Run(t.Context()); !errors.Is(err, syscall.EOPNOTSUPP) {
			t.Error("without Ethernet:", err)
		}
	})
}
