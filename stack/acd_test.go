package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/acd"
	"github.com/seed87e66d9f/waybill/link"
)

// arpTester is who looks at what an interface without an IPv4 address says over ARP.
func arpTester(t *testing.T) *tester {
	t.Helper()
	a, b := link.Pipe(link.PipeConfig{MTU: 1500, Ethernet: true})
	h := &tester{T: t, stack: New(Config{NoDAD: true}), queue: b.Queues()[0], eth: true, mac: testerMAC, us: client4.Addr(), peer: server4.Addr()}
	var err error
	if h.ifc, err = h.stack.Attach(a); err != nil {
		t.Fatal(err)
	}
	go h.read()
	t.Cleanup(func() { h.stack.Close(); b.Close() })
	h.arps()
	return h
}

// arps is the ARP packets that have come since it was last asked for.
func (h *tester) arps() (all []ethernet.ARP) {
	for _, p := range h.neighbor() {
		if p.eth.Type == ethernet.TypeARP {
			if p.eth.Dst != ethernet.Broadcast {
				h.Errorf("%+v goes to %v", p.arp, p.eth.Dst)
			}
			all = append(all, p.arp)
		}
	}
	return all
}

// C156, RFC 5227 §2.1 and §2.3: an address is asked for before it is used, and announced then.
func TestC156Claim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := arpTester(t)
		start := time.Now()
		c, err := h.ifc.Claim(t.Context(), server4)
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d < 4*time.Second || d > 7*time.Second {
			t.Errorf("it takes %v, want four to seven seconds", d)
		}
		h.pass(10 * time.Second)
		probe := ethernet.ARP{Op: ethernet.OpRequest, SenderHW: h.ifc.mac, SenderIP: netip.IPv4Unspecified(), TargetIP: server4.Addr()}
		announce := probe
		announce.SenderIP = server4.Addr()
		if got, want := h.arps(), []ethernet.ARP{probe, probe, probe, announce, announce}; !slices.Equal(got, want) {
			t.Errorf("it says %+v, want %+v", got, want)
		}
		if !h.ifc.has(server4.Addr()) || c.Err() != nil || c.Prefix() != server4 {
			t.Errorf("the interface has %v, the claim is to %v: %v", h.ifc.Addrs(), c.Prefix(), c.Err())
		}
		if _, err := h.ifc.Claim(t.Context(), server4); !errors.Is(err, syscall.EEXIST) {
			t.Error("once more:", err)
		}
		c.Release()
		if <-c.Lost(); h.ifc.has(server4.Addr()) || !errors.Is(c.Err(), net.ErrClosed) {
			t.Errorf("after its release the interface has %v: %v", h.ifc.Addrs(), c.Err())
		}
	})
}

// C156: and not used where somebody has it.
func TestC156ClaimFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := arpTester(t)
		claim := func(ctx context.Context, a netip.Prefix) chan error {
			done := make(chan error, 1)
			go func() {
				_, err := h.ifc.Claim(ctx, a)
				done <- err
			}()
			synctest.Wait()
			return done
		}
		done := claim(t.Context(), server4)
		h.pass(2 * time.Second)
		h.arp(ethernet.Broadcast, ethernet.ARP{Op: ethernet.OpReply, SenderHW: h.mac, SenderIP: server4.Addr(), TargetIP: netip.IPv4Unspecified()})
		if err := <-done; !errors.Is(err, syscall.EADDRINUSE) {
			t.Error("an address that somebody has:", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done = claim(ctx, server4)
		if _, err := h.ifc.Claim(ctx, server4); !errors.Is(err, syscall.EEXIST) {
			t.Error("an address that is asked for already:", err)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error("a context that ends:", err)
		}
		done = claim(t.Context(), server4)
		h.stack.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error("a stack that closes:", err)
		}
		if err := <-claim(t.Context(), server6); !errors.Is(err, syscall.EAFNOSUPPORT) {
			t.Error("an IPv6 address:", err)
		}
	})
}

// C157, RFC 5227 §2.4 (b): who insists on a claimed address gets it. TestC151ARP has the other policy, (c).
func TestC157ClaimYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := arpTester(t)
		c, err := h.ifc.Claim(t.Context(), server4)
		if err != nil {
			t.Fatal(err)
		}
		h.pass(10 * time.Second)
		h.arps()
		theirs := ethernet.ARP{Op: ethernet.OpRequest, SenderHW: h.mac, SenderIP: server4.Addr(), TargetIP: server4.Addr()}
		h.arp(ethernet.Broadcast, theirs)
		if got := h.arps(); len(got) != 1 || got[0].SenderIP != server4.Addr() || c.Err() != nil {
			t.Errorf("the first time it says %+v: %v", got, c.Err())
		}
		h.pass(9 * time.Second)
		h.arp(ethernet.Broadcast, theirs)
		if got := h.arps(); len(got) != 0 || !errors.Is(c.Err(), syscall.EADDRINUSE) || h.ifc.has(server4.Addr()) {
			t.Errorf("the second time it says %+v: %v; it has %v", got, c.Err(), h.ifc.Addrs())
		}
	})
}

// RFC 3927 §2.1, §2.2.1: another address after each conflict, and one a minute after ten; §2.5: replies are broadcast.
func TestClaimLinkLocal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := arpTester(t)
		const conflicts = 13
		done := make(chan *Claim)
		go func() {
			c, err := h.ifc.ClaimLinkLocal(t.Context())
			if err != nil {
				t.Error(err)
			}
			done <- c
		}()
		start := time.Now()
		var asked []netip.Addr
		for len(asked) < conflicts {
			h.pass(100 * time.Millisecond)
			for _, a := range h.arps() {
				if n := len(asked); n == 0 || asked[n-1] != a.TargetIP {
					asked = append(asked, a.TargetIP)
					h.arp(ethernet.Broadcast, ethernet.ARP{Op: ethernet.OpReply, SenderHW: h.mac, SenderIP: a.TargetIP, TargetIP: a.SenderIP})
				}
			}
		}
		if d := time.Since(start); d < 2*time.Minute || d > 3*time.Minute {
			t.Errorf("%d conflicts took %v, want two minutes and some seconds", conflicts, d)
		}
		c := <-done
		if want := acd.Candidate(h.ifc.mac, conflicts); c.Prefix() != netip.PrefixFrom(want, 16) || slices.Contains(asked, want) {
			t.Errorf("it has %v, want %v; it asked for %v", c.Prefix(), want, asked)
		}
		h.pass(time.Minute)
		h.arps()
		h.arp(h.ifc.mac, ethernet.ARP{Op: ethernet.OpRequest, SenderHW: h.mac, SenderIP: netip.MustParseAddr("169.254.7.7"), TargetIP: c.Prefix().Addr()})
		if got := h.arps(); len(got) != 1 || got[0].Op != ethernet.OpReply { // arps looks where it goes
			t.Errorf("asked for its address it says %+v", got)
		}
	})
}

// RFC 1122 §3.2.1.3 (a): a host without an address speaks from 0.0.0.0 to all, and is heard by sockets of the interface.
func TestInterfaceSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := link.Pipe(link.PipeConfig{MTU: 1500, Ethernet: true})
		c, d := link.Pipe(link.PipeConfig{MTU: 1500, Ethernet: true})
		client, other, server := host(t, a, Config{}), host(t, c, Config{}), host(t, b, Config{}, server4)
		second, err := server.Attach(d, netip.MustParsePrefix("203.0.113.1/24"))
		if err != nil {
			t.Fatal(err)
		}
		first := server.view.Load().ifaces[1]
		listen := func(i *Interface, port uint16) *UDPConn {
			u, err := i.ListenUDP("udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), port))
			if err != nil {
				t.Fatal(err)
			}
			return u
		}
		servers := []*UDPConn{listen(first, 67), listen(second, 67)}
		if _, err := server.ListenPacket("udp4", ":67"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Error("a socket for all interfaces beside them:", err)
		}
		deaf, err := server.ListenPacket("udp4", ":69")
		if err != nil {
			t.Fatal(err)
		}
		clients := []*UDPConn{listen(client.view.Load().ifaces[1], 68), listen(other.view.Load().ifaces[1], 68)}
		all := netip.AddrPortFrom(broadcast4, 67)
		for k, u := range clients {
			if _, err := u.WriteToUDPAddrPort(fmt.Appendf(nil, "hello %d", k), all); err != nil {
				t.Fatal(err)
			}
			if _, err := u.WriteToUDPAddrPort([]byte("nobody"), netip.AddrPortFrom(broadcast4, 69)); err != nil {
				t.Fatal(err)
			}
		}
		buf := make([]byte, 100)
		for k, u := range servers {
			n, from, err := u.ReadFromUDPAddrPort(buf)
			if want := netip.AddrPortFrom(netip.IPv4Unspecified(), 68); err != nil || from != want || !bytes.Equal(buf[:n], fmt.Appendf(nil, "hello %d", k)) {
				t.Errorf("interface %d hears %q from %v: %v", k, buf[:n], from, err)
			}
			if _, err := u.WriteToUDPAddrPort([]byte("answer"), netip.AddrPortFrom(broadcast4, 68)); err != nil {
				t.Fatal(err)
			}
			n, from, err = clients[k].ReadFromUDPAddrPort(buf)
			if want := []netip.Prefix{server4, netip.MustParsePrefix("203.0.113.1/24")}[k]; err != nil || from.Addr() != want.Addr() || string(buf[:n]) != "answer" {
				t.Errorf("client %d hears %q from %v: %v", k, buf[:n], from, err)
			}
		}
		synctest.Wait()
		deaf.SetReadDeadline(time.Now().Add(time.Second))
		if n, from, err := deaf.ReadFrom(buf); err == nil {
			t.Errorf("a socket of all interfaces hears %q from %v", buf[:n], from)
		}
	})
}

// SetMTU bounds what leaves, in both families, and takes it back.
func TestSetMTU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, link.PipeConfig{MTU: 1500, Ethernet: true}, Config{})
		i := client.view.Load().ifaces[1]
		for _, c := range []struct{ set, want4, want6 int }{{1400, 1400, 1400}, {600, 600, 1280}, {9000, 1500, 1500}, {0, 1500, 1500}} {
			if err := i.SetMTU(c.set); err != nil {
				t.Fatal(err)
			}
			four, err4 := client.PathMTU(server4.Addr())
			six, err6 := client.PathMTU(server6.Addr())
			if four != c.want4 || six != c.want6 || i.MTU() != c.want4 || err4 != nil || err6 != nil {
				t.Errorf("set to %d: %d and %d, MTU %d; want %d and %d", c.set, four, six, i.MTU(), c.want4, c.want6)
			}
			near, far := connected(t, client, server, server4)
			if err := copyOver(near, far, random(1<<16, 1)); err != nil {
				t.Errorf("set to %d: %v", c.set, err)
			}
			if got := near.Info().MSS; got > c.want4-40 {
				t.Errorf("set to %d: segments of %d octets", c.set, got)
			}
			near.Close()
			far.Close()
		}
		for _, n := range []int{-1, 67, 1 << 16} {
			if err := i.SetMTU(n); !errors.Is(err, syscall.EINVAL) {
				t.Errorf("set to %d: %v", n, err)
			}
		}
	})
}
