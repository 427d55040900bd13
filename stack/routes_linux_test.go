package stack

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/link"
)

// ip runs ip(8), to set the kernel up as the stack is.
func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// kernelLink is a device of the kernel's that is up and leads nowhere.
func kernelLink(t *testing.T) {
	t.Helper()
	d, err := link.OpenTUN(link.TUNConfig{Name: "wb0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	ip(t, "link set lo up")
	ip(t, "link set wb0 addrgenmode none")
	ip(t, "link set wb0 up")
}

// Routes that lead nowhere have the same errors in the kernel and here.
func TestKernelRouteErrors(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	kernelLink(t)
	ip(t, "addr add 198.51.100.1/24 dev wb0")
	ip(t, "addr add 2001:db8:51::1/64 dev wb0 nodad")
	a, far := link.Pipe(link.PipeConfig{MTU: 1500})
	defer far.Close()
	s := host(t, a, Config{}, client4, client6)
	for kind := RouteBlackhole; kind <= RouteProhibited; kind++ {
		for _, dst := range []string{"203.0.113.0/24", "2001:db8:99::/48"} {
			p := netip.MustParsePrefix(dst)
			family := "-4 "
			if p.Addr().Is6() {
				family = "-6 "
			}
			ip(t, family+"route add "+kind.String()+" "+dst)
			if err := s.AddRouteWith(Route{Dst: p, Type: kind}); err != nil {
				t.Fatal(err)
			}
			to := netip.AddrPortFrom(p.Addr().Next(), 9).String()
			for _, network := range []string{"tcp", "udp"} {
				_, want := net.Dial(network, to)
				_, got := s.Dial(network, to)
				var errno syscall.Errno
				if !errors.As(want, &errno) || !errors.Is(got, errno) {
					t.Errorf("%v, %s to %s: %v, the kernel has %v", kind, network, to, got, want)
				}
			}
			ip(t, family+"route del "+kind.String()+" "+dst)
			if err := s.DeleteRoute(Route{Dst: p}); err != nil {
				t.Error(err)
			}
		}
	}
}

// C193: with the same addresses the kernel sends from one that RFC 6724 likes as much as ours.
func TestKernelC193SourceAddress(t *testing.T) {
	if !netns.Enter(t, 2*time.Minute) {
		return
	}
	kernelLink(t)
	pool := strings.Fields("2001:db8:1::2 2001:db8:3::2 2001:db8:3f44::2 2002:c633:6401::2 2002:c633:6402::7 fd00:1::2 fd00:2::2 fe80::2 fe80::9 fec0::2")
	dsts := strings.Fields("2001:db8:1::1 2001:db8:3ffe::1 2001:db8:1::2 2002:c633:6401::1 fd00:1::1 fd77::1 2001:0:5::1 fec0::1 2a00::1 3ffe::1 fe80::77")
	r := rand.New(rand.NewPCG(6, 7))
	for range 40 {
		ip(t, "-6 addr flush dev wb0")
		var list []string
		for _, k := range r.Perm(len(pool))[:1+r.IntN(5)] {
			lifetime := ""
			a := pool[k]
			if r.IntN(4) == 0 {
				lifetime = " valid_lft 3600 preferred_lft 0"
				a += ",d"
			}
			ip(t, "-6 addr add "+pool[k]+"/64 dev wb0 nodad"+lifetime)
			list = append(list, a)
		}
		ip(t, "-6 route replace default dev wb0")
		s, i := multihomed(t, strings.Join(list, " "))
		for _, dst := range dsts {
			to := netip.MustParseAddr(dst)
			if to.IsLinkLocalUnicast() {
				to = to.WithZone("wb0")
			}
			want := netip.Addr{}
			if c, err := net.Dial("udp", netip.AddrPortFrom(to, 9).String()); err == nil {
				want = c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().WithZone("")
				c.Close()
			}
			to = to.WithZone("")
			h, ok := s.view.Load().lookup(to, 0)
			if !ok {
				t.Fatalf("no way to %v", to)
			}
			got, _ := s.view.Load().source(to, h)
			if got == want || want.IsLoopback() { // the kernel has ::1 stand in for want of anything but a deprecated fe80::/10
				continue
			}
			var a, b *Addr
			addrs := i.Addrs()
			for k := range addrs {
				switch addrs[k].Prefix.Addr() {
				case got:
					a = &addrs[k]
				case want:
					b = &addrs[k]
				}
			}
			if a == nil || b == nil || preferSource(a, b, to, netip.Addr{}) || preferSource(b, a, to, netip.Addr{}) {
				t.Errorf("to %v from one of %q: %v, the kernel has %v", to, list, got, want)
			}
		}
	}
}
