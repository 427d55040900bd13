package stack

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/link"
)

// kernelHost is a network namespace of the kernel, behind a device of its own.
type kernelHost struct {
	t      *testing.T
	fd     int
	device link.Device
	addrs  []netip.Prefix
}

// newKernelHost makes a namespace with a device called name, addresses, and default routes to the gateways.
func newKernelHost(t *testing.T, name string, tap bool, addrs []netip.Prefix, gateways ...netip.Addr) *kernelHost {
	t.Helper()
	k := &kernelHost{t: t, addrs: addrs}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			k.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("a network namespace: %v", err)
	}
	t.Cleanup(func() { unix.Close(k.fd) })
	k.in(func() (err error) {
		if k.device, err = link.OpenTUN(link.TUNConfig{Name: name, TAP: tap}); err != nil {
			return err
		}
		return link.ConfigureHost(name, addrs, 0)
	})
	for _, g := range gateways {
		k.run("ip", "route", "add", "default", "via", g.String())
	}
	return k
}

// in runs f on a thread in the namespace.
func (k *kernelHost) in(f func() error) {
	k.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(k.fd, unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		k.t.Fatal(err)
	}
}

// run runs a program in the namespace, and returns what it prints.
func (k *kernelHost) run(args ...string) (out string) {
	k.t.Helper()
	k.in(func() error {
		b, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if out = string(b); err != nil {
			return fmt.Errorf("%v: %w\n%s", args, err, b)
		}
		return nil
	})
	return out
}

func (k *kernelHost) listen(addr string) (l net.Listener) {
	k.t.Helper()
	k.in(func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	k.t.Cleanup(func() { l.Close() })
	return l
}

func (k *kernelHost) dial(network, addr string, patience time.Duration) (c net.Conn, err error) {
	k.t.Helper()
	k.in(func() error {
		c, err = net.DialTimeout(network, addr, patience)
		return nil
	})
	return c, err
}

// carries sends n octets from k to addr, where l listens, and compares what arrives. It returns whom the server sees.
func (k *kernelHost) carries(l net.Listener, addr string, n int64) (seen netip.Addr) {
	k.t.Helper()
	got := make(chan []byte, 1)
	go func() {
		h := sha256.New()
		c, err := l.Accept()
		if err == nil {
			seen = c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
			io.Copy(h, c)
			c.Close()
		}
		got <- h.Sum(nil)
	}()
	c, err := k.dial("tcp", addr, patience)
	if err != nil {
		k.t.Error(err)
		l.Close()
		return seen
	}
	h, start := sha256.New(), time.Now()
	c.SetDeadline(start.Add(time.Minute))
	_, err = io.CopyN(io.MultiWriter(c, h), rand.NewChaCha8([32]byte{1}), n)
	if err := errors.Join(err, c.Close()); err != nil {
		k.t.Error(err)
		l.Close()
	}
	if !bytes.Equal(<-got, h.Sum(nil)) {
		k.t.Errorf("%d octets to %s do not arrive as they were sent", n, addr)
	}
	k.t.Logf("%d octets to %s in %v", n, addr, time.Since(start))
	return seen
}

// homeRules are a household's: out everything may go, in what is asked for.
const homeRules = `
	policy in drop
	policy forward drop
	allow in icmp
	allow in icmp6
	allow in on lan
	allow forward on lan
	allow forward icmp6 type echo-request
	allow forward on wan tcp to 2001:db8:51::/64 port 80
	allow forward state translated
	nat on wan from 198.51.100.0/24
	forward tcp 203.0.113.1:8080 to 198.51.100.10:80
	forward udp 203.0.113.1:5353 to 198.51.100.10:53
`

// TestKernelHome has the kernel at both ends of a home router: a phone outside, and a host inside behind masquerading and a
// forwarded port, over TAP and over TUN devices.
func TestKernelHome(t *testing.T) {
	if !netns.Enter(t, 3*time.Minute) {
		return
	}
	p := netip.MustParsePrefix
	for _, tap := range []bool{true, false} {
		t.Run(map[bool]string{true: "TAP", false: "TUN"}[tap], func(t *testing.T) {
			lan4, lan6, wan4, wan6 := p("198.51.100.1/24"), p("2001:db8:51::ff/64"), p("203.0.113.1/24"), p("2001:db8:113::ff/64")
			inside := newKernelHost(t, "lan", tap, []netip.Prefix{p("198.51.100.10/24"), p("2001:db8:51::10/64")}, lan4.Addr(), lan6.Addr())
			phone := newKernelHost(t, "wan", tap, []netip.Prefix{p("203.0.113.7/24"), p("2001:db8:113::7/64")}, wan6.Addr())
			router := host(t, inside.device, Config{NoDAD: true, Forwarding: Forwarding{Enabled: true}}, lan4, lan6)
			if _, err := router.Attach(phone.device, wan4, wan6); err != nil {
				t.Fatal(err)
			}
			useRules(t, router, homeRules)
			web, outside := inside.listen("0.0.0.0:80"), phone.listen("0.0.0.0:80")
			web6, outside6 := inside.listen("[2001:db8:51::10]:80"), phone.listen("[2001:db8:113::7]:80")

			if got := phone.carries(web, "203.0.113.1:8080", 1000); got.String() != "203.0.113.7" {
				t.Errorf("through the forwarded port the server sees %v, want the phone", got)
			}
			if got := inside.carries(outside, "203.0.113.7:80", 1000); got.String() != "203.0.113.1" {
				t.Errorf("the phone sees %v, want the router's external address", got)
			}
			if got := inside.carries(web, "203.0.113.1:8080", 1000); got.String() != "203.0.113.1" {
				t.Errorf("by hairpin the server sees %v, want the external address", got)
			}
			phone.carries(web, "203.0.113.1:8080", transferLen)
			inside.carries(outside, "203.0.113.7:80", transferLen)
			phone.carries(web6, "[2001:db8:51::10]:80", transferLen)
			inside.carries(outside6, "[2001:db8:113::7]:80", transferLen)
			if c, err := phone.dial("tcp", "203.0.113.1:81", 500*time.Millisecond); err == nil {
				t.Error("a port that is not forwarded is open")
				c.Close()
			}
			kernelProbes(t, inside, phone)
			kernelDatagram(t, inside, phone)
			if t.Failed() {
				t.Logf("%+v", router.Stats())
			}
		})
	}
}

// kernelProbes are ping and traceroute, through the router.
func kernelProbes(t *testing.T, inside, phone *kernelHost) {
	for _, to := range []string{"203.0.113.7", "2001:db8:113::7"} {
		if out := inside.run("ping", "-n", "-c", "3", "-i", "0.2", "-s", "3000", to); !strings.Contains(out, " 0% packet loss") {
			t.Errorf("ping: %s", out)
		}
	}
	for _, x := range [][3]string{{"203.0.113.7", "198.51.100.1"}, {"2001:db8:113::7", "2001:db8:51::ff"}} {
		out := inside.run("traceroute", "-n", "-q", "1", "-m", "4", "-w", "2", x[0])
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if len(lines) != 3 || !strings.Contains(lines[1], x[1]) || !strings.Contains(lines[2], x[0]) {
			t.Errorf("want %s, then %s:\n%s", x[1], x[0], out)
		}
	}
}

// kernelDatagram asks a server behind the router over UDP, in one packet and in fragments.
func kernelDatagram(t *testing.T, inside, phone *kernelHost) {
	var server net.PacketConn
	inside.in(func() (err error) {
		server, err = net.ListenPacket("udp", ":53")
		return err
	})
	defer server.Close()
	go func() {
		b := make([]byte, 65535)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			server.WriteTo(b[:n], from)
		}
	}()
	c, err := phone.dial("udp", "203.0.113.1:5353", patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, n := range []int{100, 5000} {
		text, b := bytes.Repeat([]byte("waybill."), n/8), make([]byte, 65535)
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(text); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Read(b); err != nil || !bytes.Equal(b[:got], text) {
			t.Errorf("%d octets come back as %d, %v", n, got, err)
		}
	}
}
