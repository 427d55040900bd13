package stack

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/seed87e66d9f/waybill/link"
)

// RFC 8305 §5: the addresses of a name are tried one after the other, each a moment later, and the first that answers is it.
func TestRace(t *testing.T) {
	const nobody4, nobody6 = "198.51.100.77", "2001:db8:51::77"
	for _, c := range []struct {
		name    string
		delay   time.Duration // of the wire, one way
		targets []string      // port 7 has a listener, 9 has none
		timeout time.Duration // of the context
		want    string        // who is connected to
		err     error
		took    time.Duration
	}{
		{"the first answers", 10 * time.Millisecond, []string{"[2001:db8:51::2]:7", "198.51.100.2:7"}, 0, "[2001:db8:51::2]:7", nil, 20 * time.Millisecond},
		{"the first is silent", 0, []string{"[" + nobody6 + "]:7", "198.51.100.2:7"}, 0, "198.51.100.2:7", nil, attemptDelay},
		{"two are silent", 0, []string{"[" + nobody6 + "]:7", nobody4 + ":7", "198.51.100.2:7"}, 0, "198.51.100.2:7", nil, 2 * attemptDelay},
		{"the first refuses", 0, []string{"[2001:db8:51::2]:9", "198.51.100.2:7"}, 0, "198.51.100.2:7", nil, 0},
		{"silent, then refused", 0, []string{nobody4 + ":7", "[2001:db8:51::2]:9", "198.51.100.2:7"}, 0, "198.51.100.2:7", nil, attemptDelay},
		{"the first is slow, but first", 200 * time.Millisecond, []string{"[2001:db8:51::2]:7", "198.51.100.2:7"}, 0, "[2001:db8:51::2]:7", nil, 400 * time.Millisecond},
		{"all refuse", 0, []string{"[2001:db8:51::2]:9", "198.51.100.2:9"}, 0, "", syscall.ECONNREFUSED, 0},
		{"the first has no route", 0, []string{"[2001:db9::1]:7", "198.51.100.2:7"}, 0, "198.51.100.2:7", nil, 0},
		{"the error is the first's", 0, []string{"[2001:db9::1]:7", "198.51.100.2:9"}, 0, "", syscall.ENETUNREACH, 0},
		{"no time left", 0, []string{nobody4 + ":7", "[" + nobody6 + "]:7", nobody4 + ":8"}, 400 * time.Millisecond, "", context.DeadlineExceeded, 400 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := pair(t, link.PipeConfig{MTU: 1500, Delay: c.delay}, Config{})
				l, err := server.ListenTCP("tcp", netip.MustParseAddrPort("[::]:7"))
				if err != nil {
					t.Fatal(err)
				}
				var targets []netip.AddrPort
				for _, a := range c.targets {
					targets = append(targets, netip.MustParseAddrPort(a))
				}
				ctx := context.Background()
				if c.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.timeout)
					defer cancel()
				}
				start := time.Now()
				conn, err := client.race(ctx, "tcp", targets, nil)
				if took := time.Since(start); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				if c.err != nil {
					if !errors.Is(err, c.err) || conn != nil {
						t.Errorf("%v, %v, want %v", conn, err, c.err)
					}
				} else if err != nil {
					t.Errorf("%v, want a connection to %s", err, c.want)
				} else if got := conn.RemoteAddr().String(); got != c.want {
					t.Errorf("connected to %s, want %s", got, c.want)
				}
				checkLosers(t, client, l, conn)
			})
		})
	}
}

// checkLosers sees that what was accepted is no more than the winner in the end, and that the losers have been let go of.
func checkLosers(t *testing.T, client *Stack, l *TCPListener, won net.Conn) {
	t.Helper()
	time.Sleep(3 * time.Minute)
	l.SetDeadline(time.Now())
	for {
		s, err := l.AcceptTCP()
		if err != nil {
			break
		}
		if won != nil && s.RemoteAddr().String() == won.LocalAddr().String() {
			continue
		}
		s.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a connection that lost: read %d, %v, want its end", n, err)
		}
		s.Close()
	}
	l.Close()
	for c := range client.Conns() {
		if won == nil || c.Local.String() != won.LocalAddr().String() {
			if c.State.String() != "FIN-WAIT-2" && c.State.String() != "TIME-WAIT" {
				t.Errorf("left over: %v to %v in %v", c.Local, c.Remote, c.State)
			}
		}
	}
}

func TestRaceIsCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := pair(t, link.PipeConfig{MTU: 1500}, Config{})
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		_, err := client.race(ctx, "tcp", []netip.AddrPort{netip.MustParseAddrPort("198.51.100.77:7"), netip.MustParseAddrPort("198.51.100.78:7")}, nil)
		if took := time.Since(start); !errors.Is(err, context.Canceled) || took != time.Second {
			t.Errorf("%v after %v, want %v after 1s", err, took, context.Canceled)
		}
	})
}

// RFC 8305 §3: one family's addresses are begun with while the other's are still asked for.
func TestResolutionDelay(t *testing.T) {
	// Package net keeps a channel from its first look-up on, which must not belong to a bubble.
	none := net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errNoDNS }}
	none.LookupHost(t.Context(), "nobody.example.")
	for _, c := range []struct {
		name           string
		delay4, delay6 time.Duration // until DNS answers; less than 0: never
		silent6        bool          // the host does not answer over IPv6
		host           string
		want           string
		took           time.Duration
	}{
		{"both at once", 0, 0, false, "both.example", "[2001:db8:51::2]:80", 0},
		{"IPv6 first", time.Second, 0, false, "both.example", "[2001:db8:51::2]:80", 0},
		{"IPv6 a little later", 0, 30 * time.Millisecond, false, "both.example", "[2001:db8:51::2]:80", 30 * time.Millisecond},
		{"IPv6 much later", 0, 300 * time.Millisecond, false, "both.example", "198.51.100.2:80", resolutionDelay},
		{"nobody says whether there is IPv6", 0, -1, false, "both.example", "198.51.100.2:80", resolutionDelay},
		{"IPv6 first, and silent", 100 * time.Millisecond, 0, true, "both.example", "198.51.100.2:80", 100*time.Millisecond + attemptDelay},
		{"IPv4 alone", 0, 20 * time.Millisecond, false, "four.example", "198.51.100.2:80", 20 * time.Millisecond},
		{"IPv6 alone", 20 * time.Millisecond, 0, false, "six.example", "[2001:db8:51::2]:80", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := link.Pipe(link.PipeConfig{MTU: 1500})
				client := host(t, a, Config{DNS: []netip.AddrPort{netip.AddrPortFrom(server4.Addr(), 53)}}, client4, client6)
				server := host(t, b, Config{}, server4, server6)
				listen := ":80"
				if c.silent6 {
					listen = "198.51.100.2:80"
					if err := server.AddRouteWith(Route{Dst: netip.PrefixFrom(client6.Addr(), 128), Type: RouteBlackhole}); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := server.Listen("tcp", listen); err != nil {
					t.Fatal(err)
				}
				names, u := testNames(), bound(t, server, "udp", ":53")
				go func() {
					q := make([]byte, 512)
					for {
						n, from, err := u.ReadFrom(q)
						if err != nil {
							return
						}
						reply, delay := names.answer(q[:n], false), c.delay4
						var m dnsmessage.Message
						if m.Unpack(q[:n]) == nil && m.Questions[0].Type == dnsmessage.TypeAAAA {
							delay = c.delay6
						}
						if delay >= 0 {
							time.AfterFunc(delay, func() { u.WriteTo(reply, from) })
						}
					}
				}()
				start := time.Now()
				conn, err := client.Dial("tcp", c.host+":80")
				if took := time.Since(start); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := conn.RemoteAddr().String(); got != c.want {
					t.Errorf("connected to %s, want %s", got, c.want)
				}
			})
		})
	}
}
