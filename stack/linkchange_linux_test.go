package stack

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/link"
)

// linkEvents is a handler of logs that hands on which way a link has changed, and which MTU it has.
type linkEvents struct {
	up  chan bool
	mtu chan int
}

func (linkEvents) Enabled(context.Context, slog.Level) bool { return true }
func (h linkEvents) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h linkEvents) WithGroup(string) slog.Handler          { return h }

func (h linkEvents) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "up":
			h.up <- a.Value.Bool()
		case "mtu":
			h.mtu <- int(a.Value.Int64())
		}
		return true
	})
	return nil
}

// setLink is ip(8) link set.
func setLink(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", slices.Concat([]string{"link", "set", "dev", "wb0"}, args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip link set %q: %v: %s", args, err, out)
	}
}

// A71 and A73 on a real device: connections with the kernel outlive flaps, the loss of the carrier and changes of the MTU.
func TestKernelLinkChanges(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip(err)
	}
	if !netns.Enter(t, 2*time.Minute) {
		return
	}
	const octets = 10 << 20
	for _, tap := range []bool{true, false} {
		d, err := link.OpenTUN(link.TUNConfig{Name: "wb0", TAP: tap, MTU: 9000})
		if err != nil {
			t.Fatal(err)
		}
		events := linkEvents{make(chan bool, 1000), make(chan int, 1000)}
		s := host(t, d, Config{Log: slog.New(events)}, server4)
		i := s.view.Load().ifaces[1]
		if err := link.ConfigureHost("wb0", []netip.Prefix{client4}, 0); err != nil {
			t.Fatal(err)
		}
		for !<-events.up {
		}
		l, err := s.ListenTCP("tcp", netip.AddrPortFrom(server4.Addr(), 80))
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		peer, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		goroutines := runtime.NumGoroutine()
		both := func(half func()) {
			t.Helper()
			transfer(t, c, peer, octets, half)
			transfer(t, peer, c, octets, half)
		}
		both(func() {
			for range 50 {
				setLink(t, "down")
				setLink(t, "up")
			}
		})
		for _, n := range []int{1400, 9000} {
			both(func() { setLink(t, "mtu", fmt.Sprint(n)) })
			if got := <-events.mtu; got != n || i.MTU() != n {
				t.Errorf("MTU %d, then %d, want %d", got, i.MTU(), n)
			}
		}
		for len(events.up) > 0 {
			<-events.up
		}
		both(func() {
			setLink(t, "carrier", "off")
			for <-events.up {
			}
			if i.Up() {
				t.Error("the interface is up without a carrier")
			}
			setLink(t, "carrier", "on")
			for !<-events.up {
			}
		})
		if n := runtime.NumGoroutine(); n > goroutines+10 { // a writer may not be gone yet, and a timer may just run
			t.Errorf("%d goroutines, before the changes %d", n, goroutines)
		}
		if t.Failed() {
			t.Logf("%+v", s.Stats())
		}
		c.Close()
		s.Close()
	}
}
