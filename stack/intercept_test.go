package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/link"
)

// intercepting is a host on a wire with a stack that has no address there, and takes what goes anywhere.
func intercepting(t testing.TB, wire link.PipeConfig, h *Interceptor) (client *Stack, catch *Interface) {
	t.Helper()
	a, b := link.Pipe(wire)
	client = host(t, a, Config{NoDAD: true}, client4, client6)
	i := client.view.Load().ifaces[1]
	if err := errors.Join(client.AddRoute(everywhere4, netip.Addr{}, i), client.AddRoute(everywhere6, netip.Addr{}, i)); err != nil {
		t.Fatal(err)
	}
	s := New(Config{})
	t.Cleanup(func() { s.Close() })
	catch, err := s.Attach(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := catch.Intercept(h); err != nil {
		t.Fatal(err)
	}
	return client, catch
}

// anywhere runs a test towards an address of each family that nobody has.
func anywhere(t *testing.T, f func(t *testing.T, to netip.AddrPort)) {
	t.Run("IPv4", func(t *testing.T) { f(t, netip.MustParseAddrPort("192.0.2.9:80")) })
	t.Run("IPv6", func(t *testing.T) { f(t, netip.MustParseAddrPort("[2001:db8:9::9]:80")) })
}

// The handler decides before the peer hears anything: what it says is what a dial gets.
func TestInterceptTCP(t *testing.T) {
	for _, x := range []struct {
		name   string
		decide func(r *TCPRequest)
		want   error
	}{
		{"accept", nil, nil},
		{"reject", func(r *TCPRequest) { r.Reject(nil) }, syscall.ECONNREFUSED},
		{"refused", func(r *TCPRequest) { r.Reject(fmt.Errorf("dial: %w", syscall.ECONNREFUSED)) }, syscall.ECONNREFUSED},
		{"host unreachable", func(r *TCPRequest) { r.Reject(syscall.EHOSTUNREACH) }, syscall.EHOSTUNREACH},
		{"network unreachable", func(r *TCPRequest) { r.Reject(syscall.ENETUNREACH) }, syscall.ENETUNREACH},
		{"a timeout", func(r *TCPRequest) { r.Reject(context.DeadlineExceeded) }, syscall.EHOSTUNREACH},
		{"drop", func(r *TCPRequest) { r.Drop() }, context.DeadlineExceeded},
		{"nothing", func(r *TCPRequest) {}, context.DeadlineExceeded},
		{"the first decides", func(r *TCPRequest) { r.Reject(nil); r.Reject(syscall.EHOSTUNREACH); r.Accept(context.Background()) }, syscall.ECONNREFUSED},
	} {
		t.Run(x.name, func(t *testing.T) {
			anywhere(t, func(t *testing.T, to netip.AddrPort) {
				synctest.Test(t, func(t *testing.T) {
					var asked atomic.Int64
					client, catch := intercepting(t, link.PipeConfig{}, &Interceptor{TCP: func(r *TCPRequest) {
						asked.Add(1)
						time.Sleep(2500 * time.Millisecond) // the SYN comes again meanwhile, once
						if x.decide != nil {
							x.decide(r)
							return
						}
						c, err := r.Accept(t.Context())
						if err != nil {
							t.Error(err)
							return
						}
						if c.LocalAddr().String() != to.String() || c.RemoteAddr().String() != r.Flow().Src.String() || r.Flow().Dst != to {
							t.Errorf("%v and %v, flow %v", c.LocalAddr(), c.RemoteAddr(), r.Flow())
						}
						io.Copy(c, c)
						c.Close()
					}})
					ctx, cancel := context.WithTimeout(t.Context(), 2900*time.Millisecond)
					defer cancel()
					c, err := client.DialContext(ctx, "tcp", to.String())
					if !errors.Is(err, x.want) {
						if !(x.name == "network unreachable" || x.name == "a timeout") || err == nil { // Linux's own choice of number
							t.Fatalf("%v, want %v", err, x.want)
						}
					}
					if n := asked.Load(); n != 1 {
						t.Errorf("asked %d times", n)
					}
					if err == nil {
						halfClose(t, c)
					}
					time.Sleep(time.Minute)
					synctest.Wait()
					l := catch.catch.Load()
					if l.listener.mu.Lock(); len(l.waiting)+len(l.sources)+l.listener.half.Len() > 0 {
						t.Errorf("%d requests, %d sources, %d half open are left", len(l.waiting), len(l.sources), l.listener.half.Len())
					}
					l.listener.mu.Unlock()
				})
			})
		})
	}
}

// halfClose sends, says that this is all, and reads it back.
func halfClose(t *testing.T, c net.Conn) {
	t.Helper()
	const text = "there and back"
	if _, err := io.WriteString(c, text); err != nil {
		t.Error(err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
	if b, err := io.ReadAll(c); string(b) != text || err != nil {
		t.Errorf("%q, %v; want %q", b, err, text)
	}
	c.Close()
}

// One source cannot take what another needs: its limit is its own.
func TestInterceptPerSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked := map[netip.Addr]int{}
		client, catch := intercepting(t, link.PipeConfig{}, &Interceptor{PerSource: 10, TCP: func(r *TCPRequest) {
			mu.Lock()
			asked[r.Flow().Src.Addr()]++
			mu.Unlock()
			time.Sleep(time.Second / 2)
			r.Drop()
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/4)
		defer cancel()
		for n := range 50 {
			go client.DialContext(ctx, "tcp", fmt.Sprintf("192.0.2.9:%d", 1000+n))
		}
		for n := range 5 {
			go client.DialContext(ctx, "tcp", fmt.Sprintf("[2001:db8:9::9]:%d", 1000+n))
		}
		<-ctx.Done()
		time.Sleep(time.Second) // until each handler has dropped its own
		mu.Lock()
		defer mu.Unlock()
		if asked[client4.Addr()] != 10 || asked[client6.Addr()] != 5 {
			t.Errorf("asked %v, want 10 and 5", asked)
		}
		if n := catch.stack.Stats().Drops["intercept-limit"]; n != 40 {
			t.Errorf("%d dropped, want 40", n)
		}
	})
}

// RFC 4787 REQ-1 and REQ-8: one association for all that a source sends, and anybody may answer it.
func TestInterceptUDP(t *testing.T) {
	anywhere(t, func(t *testing.T, to netip.AddrPort) {
		synctest.Test(t, func(t *testing.T) {
			var asked atomic.Int64
			client, _ := intercepting(t, link.PipeConfig{MTU: 1500}, &Interceptor{UDP: func(r *UDPRequest) {
				asked.Add(1)
				if r.Flow().Dst.Port() == 9 {
					r.Reject(nil)
					return
				}
				time.Sleep(time.Second)
				a, err := r.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				defer a.Close()
				b := make([]byte, 65535)
				for {
					a.SetReadDeadline(time.Now().Add(time.Minute))
					n, dst, err := a.ReadFromUDPAddrPort(b)
					if err != nil {
						return
					}
					a.WriteToUDPAddrPort(b[:n], dst)
					a.WriteToUDPAddrPort([]byte("and so say I"), netip.AddrPortFrom(dst.Addr().Next(), 4))
				}
			}})
			u, err := client.ListenUDP("udp", netip.AddrPortFrom(netip.Addr{}, 5000))
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			b := make([]byte, 65535)
			u.SetReadDeadline(time.Now().Add(5 * time.Second))
			other := netip.AddrPortFrom(to.Addr(), 81)
			for _, x := range []struct {
				to netip.AddrPort
				n  int
			}{{to, 100}, {other, 5000}} {
				if _, err := u.WriteToUDPAddrPort(make([]byte, x.n), x.to); err != nil {
					t.Fatal(err)
				}
			}
			for _, want := range []struct {
				from netip.AddrPort
				n    int
			}{{to, 100}, {netip.AddrPortFrom(to.Addr().Next(), 4), 12}, {other, 5000}, {netip.AddrPortFrom(to.Addr().Next(), 4), 12}} {
				n, from, err := u.ReadFromUDPAddrPort(b)
				if err != nil || n != want.n || from != want.from {
					t.Errorf("%d octets from %v, %v; want %d from %v", n, from, err, want.n, want.from)
				}
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("asked %d times about one source", n)
			}
			c, err := client.Dial("udp", netip.AddrPortFrom(to.Addr(), 9).String())
			if err != nil {
				t.Fatal(err)
			}
			c.Write([]byte("anybody?"))
			c.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := c.Read(b); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%v, want a refusal", err)
			}
			c.Close()
		})
	})
}

// Closing the stack ends what waits.
func TestInterceptClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 2)
		client, catch := intercepting(t, link.PipeConfig{}, &Interceptor{TCP: func(r *TCPRequest) {
			time.Sleep(2 * time.Second)
			_, err := r.Accept(context.Background())
			ended <- err
		}, UDP: func(r *UDPRequest) {
			a, err := r.Accept()
			if err == nil {
				a.ReadFrom(nil) // the datagram that is there
				_, _, err = a.ReadFrom(nil)
			}
			ended <- err
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go client.DialContext(ctx, "tcp", "192.0.2.9:80")
		c, err := client.Dial("udp", "192.0.2.9:80")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write([]byte("text"))
		<-ctx.Done()
		catch.stack.Close()
		for range 2 {
			if err := <-ended; err == nil {
				t.Error("no error from a stack that is closed")
			}
		}
	})
}
