package stack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/link"
)

// The network behind the kernel, and the kernel's addresses on it.
var (
	behind4 = netip.MustParsePrefix("203.0.113.2/24")
	behind6 = netip.MustParsePrefix("2001:db8:113::2/64")
	before4 = netip.MustParsePrefix("203.0.113.1/24")
	before6 = netip.MustParsePrefix("2001:db8:113::1/64")
)

// onTAP makes a stack behind a TAP of this network namespace, whose gateway is the kernel.
func onTAP(t *testing.T) *Stack {
	t.Helper()
	d, err := link.OpenTUN(link.TUNConfig{Name: "wb0", TAP: true})
	if err != nil {
		t.Fatal(err)
	}
	s := host(t, d, Config{}, server4, server6)
	if err := link.ConfigureHost("wb0", []netip.Prefix{client4, client6}, 0); err != nil {
		t.Fatal(err)
	}
	for dst, via := range map[string]netip.Prefix{"0.0.0.0/0": client4, "::/0": client6} {
		if err := s.AddRoute(netip.MustParsePrefix(dst), via.Addr(), nil); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestKernelTools: ping, traceroute, arping and ndisc6 find us as they find any host.
func TestKernelTools(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	s := onTAP(t)
	for _, x := range []struct{ command, want string }{
		{"ping -n -c 3 -i 0.2 198.51.100.2", " 0% packet loss"},
		{"ping -n -c 3 -i 0.2 -s 1472 -M do 198.51.100.2", " 0% packet loss"},
		{"ping -n -c 3 -i 0.2 -p ff -Q 0xb8 -t 1 198.51.100.2", " 0% packet loss"},
		{"ping -n -f -c 500 198.51.100.2", " 0% packet loss"},
		{"ping -n -6 -c 3 -i 0.2 2001:db8:51::2", " 0% packet loss"},
		{"ping -n -6 -c 2 -i 0.2 ff02::1%wb0", " 0% packet loss"},
		{"traceroute -n -m 3 -w 2 198.51.100.2", " 1  198.51.100.2  "},
		{"traceroute -n -m 3 -w 2 -I 198.51.100.2", " 1  198.51.100.2  "},
		{"traceroute -n -m 3 -w 2 -T -p 9 198.51.100.2", " 1  198.51.100.2  "},
		{"traceroute -n -6 -m 3 -w 2 2001:db8:51::2", " 1  2001:db8:51::2  "},
		{"traceroute -n -6 -m 3 -w 2 -I 2001:db8:51::2", " 1  2001:db8:51::2  "},
		{"arping -c 2 -i wb0 198.51.100.2", "198.51.100.2"},
		{"ndisc6 -1 -w 2000 2001:db8:51::2 wb0", "Target link-layer address"},
	} {
		f := strings.Fields(x.command)
		out, err := exec.Command(f[0], f[1:]...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), x.want) || strings.Contains(string(out), "*") {
			t.Errorf("%s: %v\n%s", x.command, err, out)
		}
	}
	if t.Failed() {
		t.Logf("%+v", s.Stats())
	}
}

// TestKernelRouter: a kernel between us and a host is pinged through, found by its hop, and believed when it says that its
// next link carries less; where a filter silences it, transfers finish all the same.
func TestKernelRouter(t *testing.T) {
	if !netns.Enter(t, 2*time.Minute) {
		return
	}
	there := netns.Behind(t, 1280, []netip.Prefix{before4, before6}, []netip.Prefix{behind4, behind6})
	s := onTAP(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	families(t, func(t *testing.T, to netip.Prefix) {
		far, router := behind4.Addr(), client4.Addr()
		if to.Addr().Is6() {
			far, router = behind6.Addr(), client6.Addr()
		}
		if r, err := s.Ping(ctx, far, PingConfig{Data: make([]byte, 56)}); err != nil || r.From != far || r.HopLimit != 63 {
			t.Errorf("%+v, %v", r, err)
		}
		_, err := s.Ping(ctx, far, PingConfig{HopLimit: 1})
		var e *ICMPError
		if !errors.As(err, &e) || !e.Expired() || e.From != router {
			t.Errorf("one hop: %v", err)
		}
		nobody := far.Next().Next()
		if _, err := s.Ping(ctx, nobody, PingConfig{}); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("nobody there: %v", err)
		}
		if _, err := s.Ping(ctx, far, PingConfig{Data: make([]byte, 1400), DontFragment: true}); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("too long for the second link: %v", err)
		}
		if mtu, err := s.PathMTU(far); mtu != 1280 || err != nil {
			t.Errorf("PathMTU: %d, %v", mtu, err)
		}
	})
	for _, silent := range []bool{false, true} {
		if silent {
			for _, rule := range []string{"add table inet f", "add chain inet f out { type filter hook output priority 0; }",
				"add rule inet f out icmp type destination-unreachable drop", "add rule inet f out icmpv6 type packet-too-big drop"} {
				if out, err := exec.Command("nft", rule).CombinedOutput(); err != nil {
					t.Fatalf("nft %s: %v\n%s", rule, err, out)
				}
			}
		}
		families(t, func(t *testing.T, to netip.Prefix) {
			s.paths.mu.Lock() // as if ten minutes had passed
			s.paths.cache.Expire(time.Hour)
			s.paths.generation.Add(1)
			s.paths.mu.Unlock()
			far := behind4.Addr()
			if to.Addr().Is6() {
				far = behind6.Addr()
			}
			kernelTakes(t, s, there, far, 8<<20)
			if mtu, _ := s.PathMTU(far); (mtu == 1280) == silent {
				t.Errorf("silent %v: the path's MTU is %d", silent, mtu)
			}
		})
	}
}

// kernelTakes sends octets to a program in the other network, which counts them.
func kernelTakes(t *testing.T, s *Stack, there func(name string, args ...string) *exec.Cmd, far netip.Addr, octets int) {
	t.Helper()
	family := "TCP4"
	if far.Is6() {
		family = "TCP6"
	}
	program := there("socat", "-u", family+"-LISTEN:7000,reuseaddr", "SYSTEM:wc -c")
	var out strings.Builder
	program.Stdout, program.Stderr = &out, &out
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	defer program.Process.Kill()
	var c *TCPConn
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		conn, err := s.DialTCP(t.Context(), "tcp", netip.AddrPort{}, netip.AddrPortFrom(far, 7000))
		if err == nil {
			c = conn
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	start := time.Now()
	c.SetDeadline(start.Add(patience))
	if _, err := c.Write(random(octets, 5)); err != nil {
		t.Errorf("%v after %v: %+v", err, time.Since(start), c.Info())
	}
	c.CloseWrite()
	program.Wait()
	t.Logf("%d octets in %v, segments of %d octets", octets, time.Since(start), c.Info().MSS)
	c.Close()
	if strings.TrimSpace(out.String()) != fmt.Sprint(octets) {
		t.Errorf("%s octets arrive, want %d", out.String(), octets)
	}
}
