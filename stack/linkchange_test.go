package stack

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
)

// pliable is a device whose link a test switches off and on, and whose MTU it changes. It looks at what is written.
type pliable struct {
	link.Device
	changed chan struct{}

	mu        sync.Mutex
	caps      link.Caps
	longest   int // the longest packet written since the MTU was set, by the packets that a super-segment becomes
	announced int // ARP announcements
	asked     int // questions of duplicate address detection
	arp       int // ARP requests that are no announcements
	from      map[netip.Addr]int
	frames    int
}

func newPliable(d link.Device) *pliable {
	return &pliable{Device: d, changed: make(chan struct{}, 1), caps: d.Caps(), from: map[netip.Addr]int{}}
}

func (d *pliable) Changed() <-chan struct{} { return d.changed }
func (d *pliable) Queues() []link.Queue     { return []link.Queue{pliableQueue{d.Device.Queues()[0], d}} }

func (d *pliable) Caps() link.Caps {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.caps
}

// change changes the caps, and says so.
func (d *pliable) change(f func(c *link.Caps)) {
	d.mu.Lock()
	down := d.caps.Down
	f(&d.caps)
	if !down && d.caps.Down {
		d.caps.Flaps++
	}
	d.longest = 0
	d.mu.Unlock()
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

func (d *pliable) setMTU(n int)   { d.change(func(c *link.Caps) { c.MTU = n }) }
func (d *pliable) setDown(b bool) { d.change(func(c *link.Caps) { c.Down = b }) }

// counts returns how many announcements, questions and ARP requests there were.
func (d *pliable) counts() (announced, asked, arp int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.announced, d.asked, d.arp
}

type pliableQueue struct {
	link.Queue
	d *pliable
}

func (q pliableQueue) Write(p []link.Packet) (int, error) {
	for k := range p {
		if !q.d.passes(&p[k]) {
			continue
		}
		if n, err := q.Queue.Write(p[k : k+1]); n == 0 {
			return k, err
		}
	}
	return len(p), nil
}

// passes looks at a packet, and reports whether the link carries it.
func (d *pliable) passes(p *link.Packet) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frames++
	n, head := p.Len(), 0
	if d.caps.Ethernet {
		head = ethernet.HeaderLen
		d.look(p.Head)
	}
	if o := &p.Offload; o.GSO != link.None {
		n = min(n, int(o.HeaderLen)+int(o.Size))
	}
	d.longest = max(d.longest, n-head)
	return !d.caps.Down && n-head <= d.caps.MTU
}

// look counts the frames in which a station speaks of itself.
func (d *pliable) look(b []byte) {
	var h ethernet.Header
	n, err := h.Decode(b)
	if err != nil {
		return
	}
	switch {
	case h.Type == ethernet.TypeARP:
		var a ethernet.ARP
		if a.Decode(b[n:]) == nil && a.Op == ethernet.OpRequest {
			if a.SenderIP == a.TargetIP {
				d.announced++
			} else {
				d.arp++
			}
		}
	case h.Type == ethernet.TypeIPv6:
		var ip ipv6.Header
		if ip.Decode(b[n:]) == nil {
			d.from[ip.Src]++
			if ip.NextHeader == ipv6.ProtoICMP && ip.Src.IsUnspecified() {
				d.asked++
			}
		}
	}
}

// transfer sends octets from one end to the other, and calls half when the half of them has arrived.
func transfer(t *testing.T, from, to net.Conn, octets int, half func()) {
	t.Helper()
	text := random(octets, 7)
	go from.Write(text)
	got := make([]byte, octets)
	if _, err := io.ReadFull(to, got[:octets/2]); err != nil {
		t.Fatal(err)
	}
	half()
	if _, err := io.ReadFull(to, got[octets/2:]); err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(got) != sha256.Sum256(text) {
		t.Error("what arrived is not what was sent")
	}
}

// A71: after a hundred flaps, and half a minute without a carrier, a connection goes on, neighbours have been asked for
// again, addresses announced and checked again, and no goroutine is left over.
func TestA71LinkFlap(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			a, b := link.Pipe(link.PipeConfig{Ethernet: true, MTU: 1500, Delay: time.Millisecond})
			dev := newPliable(a)
			client, server := host(t, dev, Config{}, client4, client6), host(t, b, Config{}, server4, server6)
			i := client.view.Load().ifaces[1]
			c, s := connected(t, client, server, to)
			time.Sleep(2 * time.Second)
			transfer(t, c, s, 100, func() {})
			goroutines := bubbled()
			for n := range 100 {
				announced, asked, _ := dev.counts()
				dev.setDown(true)
				if n%2 == 0 { // or the two changes are seen as one
					synctest.Wait()
					if i.Up() {
						t.Fatal("the interface is up without a link")
					}
				}
				dev.setDown(false)
				synctest.Wait()
				if nowAnnounced, nowAsked, _ := dev.counts(); nowAnnounced != announced+1 || nowAsked < asked+2 {
					t.Fatalf("flap %d: %d announcements of one address, %d questions about two", n, nowAnnounced-announced, nowAsked-asked)
				}
			}
			start := time.Now()
			transfer(t, c, s, 4<<20, func() {
				dev.setDown(true)
				time.Sleep(30 * time.Second)
				_, _, asked := dev.counts()
				dev.setDown(false)
				synctest.Wait()
				if !i.Up() {
					t.Error("the link is back, and the interface is not")
				}
				if to.Addr().Is4() {
					time.Sleep(time.Minute)
					if _, _, now := dev.counts(); now == asked {
						t.Error("the neighbour was not asked for again")
					}
				}
			})
			t.Logf("took %v", time.Since(start))
			time.Sleep(2 * time.Second)
			for _, x := range i.Addrs() {
				if x.State != AddrValid {
					t.Errorf("%v is %v", x.Prefix, x.State)
				}
			}
			if n := bubbled(); n > goroutines {
				t.Errorf("%d goroutines, before the flaps %d", n, goroutines)
			}
		})
	})
}

// A72: an address that turns out to be another's when the link returns is withdrawn: its connections fail, nothing more is
// sent from it, and those from other addresses go on.
func TestA72AddressRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := link.Pipe(link.PipeConfig{Ethernet: true, MTU: 1500})
		dev := newPliable(a)
		client, server := host(t, dev, Config{}, client4, client6, netip.MustParsePrefix("2001:db8:51::7/64")), host(t, b, Config{}, server4, server6)
		c, s := connected(t, client, server, server6)
		local := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr() // one of two on the same link, so that there is a way left
		kept, keptPeer := connected(t, client, server, server4)
		time.Sleep(2 * time.Second)
		transfer(t, c, s, 100, func() {})
		failed := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			failed <- err
		}()
		dev.setDown(true)
		c.Write(make([]byte, 5000)) // waits for the link
		dev.setDown(false)
		time.Sleep(900 * time.Millisecond) // less than detection takes, and enough to send what waits
		synctest.Wait()
		dev.mu.Lock()
		before := dev.from[local]
		dev.mu.Unlock()
		if before == 0 {
			t.Error("nothing was sent from the address while it was ours")
		}
		server.view.Load().ifaces[1].sendNDP(ethernet.Multicast(allNodes), local, allNodes,
			&ipv6.NDP{Type: ipv6.NeighborAdvertisement, Target: local, Override: true, TargetLL: testerMAC, HasTargetLL: true})
		if err := <-failed; !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("Read: %v, want %v", err, syscall.EADDRNOTAVAIL)
		}
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("Write works")
		}
		transfer(t, kept, keptPeer, 100<<10, func() {})
		time.Sleep(time.Hour)
		dev.mu.Lock()
		defer dev.mu.Unlock()
		if n := dev.from[local]; n != before {
			t.Errorf("%d packets from an address that is not ours", n-before)
		}
	})
}

// A73: 9000 to 1400 and back, in the middle of a transfer: segments are cut anew at once, and grow again.
func TestA73MTUChanges(t *testing.T) {
	for _, wire := range []struct {
		name string
		link.PipeConfig
	}{
		{"Ethernet", link.PipeConfig{Ethernet: true, MTU: 9000, Delay: 5 * time.Millisecond}},
		{"GSO", link.PipeConfig{GSO: maxPacket, MTU: 9000, Delay: 5 * time.Millisecond}},
	} {
		t.Run(wire.name, func(t *testing.T) {
			families(t, func(t *testing.T, to netip.Prefix) {
				synctest.Test(t, func(t *testing.T) {
					a, b := link.Pipe(wire.PipeConfig)
					near, far := newPliable(a), newPliable(b)
					client, server := host(t, near, Config{}, client4, client6), host(t, far, Config{}, server4, server6)
					c, s := connected(t, client, server, to)
					set := func(n int) {
						near.setMTU(n)
						far.setMTU(n)
						synctest.Wait()
						if got := client.view.Load().ifaces[1].MTU(); got != n {
							t.Errorf("MTU %d, want %d", got, n)
						}
						near.setMTU(n) // what was built before has been written by now
					}
					start := time.Now()
					transfer(t, c, s, 8<<20, func() { set(1400) })
					if took := time.Since(start); took > 3*time.Second {
						t.Errorf("smaller: took %v", took)
					}
					if near.longest > 1400 || near.longest < 1300 {
						t.Errorf("packets of %d octets at an MTU of 1400", near.longest)
					}
					start = time.Now()
					transfer(t, s, c, 8<<20, func() { set(9000) })
					if took := time.Since(start); took > 3*time.Second {
						t.Errorf("larger: took %v", took)
					}
					if far.longest < 8900 {
						t.Errorf("packets of at most %d octets at an MTU of 9000", far.longest)
					}
					set(1400)
					c, s = connected(t, client, server, to)
					transfer(t, c, s, 1<<20, func() {})
					if near.longest > 1400 {
						t.Errorf("a new connection: packets of %d octets at an MTU of 1400", near.longest)
					}
					if n := client.Stats().Drops["too-long"] + server.Stats().Drops["too-long"]; n != 0 {
						t.Errorf("%d packets too long", n)
					}
				})
			})
		})
	}
}

var errBroken = errors.New("broken")

// faulty is a tunnel whose Read and Write fail as a test says: one packet a call, over the end of a pipe.
type faulty struct {
	end   link.Device
	mu    sync.Mutex
	reads int
	read  func(n int) ([]byte, error) // of the nth Read: octets or an error; neither: what the pipe has
	write func(n int) (int, error)    // of the nth Write: an error, or fewer octets; neither, with -1: all of them
	n     int
}

func (f *faulty) Read(b []byte) (int, error) {
	f.mu.Lock()
	n := f.reads
	f.reads++
	f.mu.Unlock()
	if f.read != nil {
		if p, err := f.read(n); p != nil || err != nil {
			return copy(b, p), err
		}
	}
	var p [1]link.Packet
	if _, err := f.end.Queues()[0].Read(p[:]); err != nil {
		return 0, err
	}
	return copy(b, p[0].Head), nil
}

func (f *faulty) Write(b []byte) (int, error) {
	f.mu.Lock()
	n := f.n
	f.n++
	f.mu.Unlock()
	if f.write != nil {
		if n, err := f.write(n); n >= 0 {
			return n, err
		}
	}
	if n, err := f.end.Queues()[0].Write([]link.Packet{{Head: b}}); n == 0 {
		return 0, err
	}
	return len(b), nil
}

func (f *faulty) Close() error { return f.end.Close() }

func (f *faulty) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads
}

// A74: what passes is tried again, after pauses; what does not takes the interface down, and nothing else.
func TestA74ReadErrors(t *testing.T) {
	first := func(n int, err error) func(int) ([]byte, error) {
		return func(k int) ([]byte, error) {
			if k < n {
				return nil, err
			}
			return nil, nil
		}
	}
	odd := func(k int) ([]byte, error) { // cut-off, and far too long
		whole := bytes.Repeat([]byte{0x45, 0, 0xff, 0xff, 0, 0, 0, 0, 64, 6}, 7000)
		switch {
		case k < 100:
			return whole[:k+1], nil
		case k == 100:
			return whole, nil
		}
		return nil, nil
	}
	const ever = 1 << 30
	var began time.Time
	while := func(n int) ([]byte, error) {
		if n == 0 {
			began = time.Now()
		}
		if time.Since(began) < 50*time.Minute {
			return nil, syscall.EAGAIN
		}
		return nil, nil
	}
	for _, x := range []struct {
		name  string
		read  func(int) ([]byte, error)
		reads int // at most, in an hour with nothing else to read
		errs  uint64
		down  bool
	}{
		{"EAGAIN", first(3, syscall.EAGAIN), 5, 3, false},
		{"EINTR", first(3, syscall.EINTR), 5, 3, false},
		{"EIO once", first(1, syscall.EIO), 3, 1, false},
		{"EIO, as a path error", first(2, &net.OpError{Op: "read", Err: syscall.EIO}), 4, 2, false},
		{"EIO for ever", first(ever, syscall.EIO), maxFailures, maxFailures, true},
		{"EAGAIN for 50 minutes", while, 6000, 5868, false},
		{"nothing, for ever", func(int) ([]byte, error) { return []byte{}, nil }, 100 * maxFailures, maxFailures, true},
		{"EOF", first(ever, io.EOF), 1, 1, true},
		{"closed by somebody else", first(ever, net.ErrClosed), 1, 0, true},
		{"short and oversized", odd, 103, 0, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := link.Pipe(link.PipeConfig{MTU: 1500})
				f := &faulty{end: a, read: x.read}
				client := host(t, link.Wrap(f, link.Caps{MTU: 1500}), Config{}, client4)
				server := host(t, b, Config{}, server4)
				i := client.view.Load().ifaces[1]
				time.Sleep(time.Hour)
				synctest.Wait()
				if n := f.count(); n > x.reads {
					t.Errorf("%d reads, want at most %d", n, x.reads)
				}
				if n := client.Stats().ReadErrors; n != x.errs {
					t.Errorf("%d errors counted, want %d", n, x.errs)
				}
				if i.Up() == x.down {
					t.Errorf("up: %v", i.Up())
				}
				to, peer := server, server4
				if x.down { // the stack lives, and so do other interfaces
					c, d := link.Pipe(link.PipeConfig{MTU: 1500})
					peer = netip.MustParsePrefix("203.0.113.2/24")
					to = host(t, d, Config{}, peer)
					if _, err := client.Attach(c, netip.MustParsePrefix("203.0.113.1/24")); err != nil {
						t.Fatal(err)
					}
				}
				c, s := connected(t, client, to, peer)
				transfer(t, c, s, 100<<10, func() {})
				transfer(t, s, c, 100<<10, func() {})
			})
		})
	}
}

// A74: a tunnel that says now and then that a peer is not there, as a connected UDP socket does, is not given up.
func TestA74ReadErrorsFarApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := link.Pipe(link.PipeConfig{MTU: 1500})
		f := &faulty{end: a, read: func(n int) ([]byte, error) {
			if n > 100 {
				return nil, nil
			}
			time.Sleep(time.Minute)
			return nil, syscall.ECONNREFUSED
		}}
		client, server := host(t, link.Wrap(f, link.Caps{MTU: 1500}), Config{}, client4), host(t, b, Config{}, server4)
		time.Sleep(3 * time.Hour)
		c, s := connected(t, client, server, server4)
		transfer(t, s, c, 100<<10, func() {})
	})
}

// A75: what the device does not take is lost and counted, and TCP sends it again.
func TestA75WriteErrors(t *testing.T) {
	every := func(n, written int, err error) func(int) (int, error) {
		return func(k int) (int, error) {
			if k%n == n-1 {
				return written, err
			}
			return -1, nil
		}
	}
	for _, x := range []struct {
		name  string
		write func(int) (int, error)
	}{
		{"ENOBUFS", every(7, 0, syscall.ENOBUFS)},
		{"EAGAIN", every(7, 0, syscall.EAGAIN)},
		{"EIO", every(7, 0, syscall.EIO)},
		{"short", every(7, 20, nil)},
		{"unknown", every(7, 0, errBroken)},
		{"EIO a while", func(k int) (int, error) {
			if k > 50 && k < 60 {
				return 0, syscall.EIO
			}
			return -1, nil
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := link.Pipe(link.PipeConfig{MTU: 1500, Delay: time.Millisecond})
				f := &faulty{end: a, write: x.write}
				client, server := host(t, link.Wrap(f, link.Caps{MTU: 1500}), Config{}, client4), host(t, b, Config{}, server4)
				c, s := connected(t, client, server, server4)
				transfer(t, c, s, 300<<10, func() {})
				transfer(t, s, c, 300<<10, func() {})
				st := client.Stats()
				if st.Drops["device-error"] < 5 || st.Retransmits == 0 {
					t.Errorf("%d packets refused, %d sent again", st.Drops["device-error"], st.Retransmits)
				}
				if !client.view.Load().ifaces[1].Up() {
					t.Error("the interface is down")
				}
			})
		})
	}
}

// A75: while a Write blocks, no lock is held: everything else goes on, and Close returns.
func TestA75WriterBlocks(t *testing.T) {
	for _, released := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			gate, blocked := make(chan struct{}), make(chan struct{})
			var once sync.Once
			var block bool
			a, b := link.Pipe(link.PipeConfig{MTU: 1500})
			f := &faulty{end: a}
			f.write = func(int) (int, error) {
				f.mu.Lock()
				on := block
				f.mu.Unlock()
				if on {
					once.Do(func() { close(blocked) })
					<-gate
				}
				return -1, nil
			}
			client, server := host(t, link.Wrap(&gated{f, gate, sync.Once{}}, link.Caps{MTU: 1500}), Config{}, client4), host(t, b, Config{}, server4)
			x, y := link.Pipe(link.PipeConfig{MTU: 1500})
			beside := host(t, y, Config{}, netip.MustParsePrefix("203.0.113.2/24"))
			if _, err := client.Attach(x, netip.MustParsePrefix("203.0.113.1/24")); err != nil {
				t.Fatal(err)
			}
			c, s := connected(t, client, server, server4)
			other, otherPeer := connected(t, client, beside, netip.MustParsePrefix("203.0.113.2/24"))
			f.mu.Lock()
			block = true
			f.mu.Unlock()
			text := random(300<<10, 3)
			go c.Write(text)
			<-blocked
			transfer(t, other, otherPeer, 300<<10, func() {})
			for range client.Conns() {
			}
			c.Info()
			c.SetDeadline(time.Now().Add(time.Hour))
			client.Stats()
			if released {
				f.mu.Lock()
				block = false
				f.mu.Unlock()
				close(gate)
				got := make([]byte, len(text))
				if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, text) {
					t.Errorf("what waited arrived otherwise: %v", err)
				}
			} else {
				c.Close()
			}
			client.Close()
		})
	}
}

// gated opens the gate when it is closed, as a tunnel ends the Writes that are pending.
type gated struct {
	*faulty
	gate chan struct{}
	once sync.Once
}

func (g *gated) Close() error {
	g.once.Do(func() {
		select {
		case <-g.gate:
		default:
			close(g.gate)
		}
	})
	return g.faulty.Close()
}
