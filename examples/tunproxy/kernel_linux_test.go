package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/link"
)

// The client has a TUN device and nothing else; the servers are the kernel's, in the namespace of the test, which is where
// the proxy dials.
const (
	server  = "203.0.113.9"
	server6 = "2001:db8:9::9"
	patient = 20 * time.Second
)

// client is a namespace whose only route is a TUN device.
type client struct {
	t  *testing.T
	fd int
}

func newClient(t *testing.T, proxy string) *client {
	t.Helper()
	c := &client{t: t}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			c.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(c.fd) })
	var d link.Device
	c.in(func() (err error) {
		if d, err = link.OpenTUN(link.TUNConfig{Name: "wb0"}); err != nil {
			return err
		}
		return link.ConfigureHost("wb0", []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("2001:db8:51::1/64")}, 0)
	})
	c.run("ip", "route", "add", "default", "dev", "wb0")
	c.run("ip", "-6", "route", "add", "default", "dev", "wb0")
	s, err := carry(d, proxy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return c
}

// in runs f on a thread in the namespace.
func (c *client) in(f func() error) {
	c.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(c.fd, unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) run(args ...string) (out string) {
	c.t.Helper()
	c.in(func() error {
		b, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if out = string(b); err != nil {
			return fmt.Errorf("%v: %w\n%s", args, err, b)
		}
		return nil
	})
	return out
}

func (c *client) dial(network, addr string) (conn net.Conn, err error) {
	c.in(func() error {
		conn, err = net.DialTimeout(network, addr, patient)
		return nil
	})
	return conn, err
}

// world sets up the servers' addresses, and one that nobody can reach.
func world(t *testing.T) {
	for _, args := range []string{"link set lo up", "address add " + server + "/32 dev lo", "-6 address add " + server6 + "/128 dev lo nodad",
		"route add unreachable 203.0.113.77/32"} {
		if b, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, b)
		}
	}
}

// echoes answers each connection with what it says, and ends when it ends. It copies without splice, whose pipe would be two
// descriptors more for a connection.
func echoes(t *testing.T, addr string) string {
	l, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
			}()
		}
	}()
	return l.Addr().String()
}

// exchange sends a text and reads it back; with half it says in between that this was all, and reads to the end.
func exchange(t *testing.T, c net.Conn, half bool, text []byte) {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(patient))
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(text)
		if half {
			err = errors.Join(err, c.(*net.TCPConn).CloseWrite())
		}
		sent <- err
	}()
	b, err := make([]byte, len(text)), error(nil)
	if half {
		b, err = io.ReadAll(c)
	} else {
		_, err = io.ReadFull(c, b)
	}
	if err := errors.Join(err, <-sent); !bytes.Equal(b, text) || err != nil {
		t.Errorf("%d octets of %d came back, %v", len(b), len(text), err)
	}
}

func TestKernel(t *testing.T) {
	if !netns.Enter(t, 2*time.Minute) {
		return
	}
	world(t)
	for _, proxy := range []string{"", "127.0.0.1:1080"} {
		t.Run(map[bool]string{true: "direct", false: "SOCKS5"}[proxy == ""], func(t *testing.T) {
			if proxy != "" {
				socksServer(t, proxy)
			}
			c := newClient(t, proxy)
			for _, addr := range []string{server, server6} {
				conn, err := c.dial("tcp", echoes(t, addr))
				if err != nil {
					t.Fatal(err)
				}
				exchange(t, conn, proxy == "", bytes.Repeat([]byte("waybill."), 1<<17))
			}
			for _, x := range []struct {
				addr string
				want error
			}{{server + ":9", syscall.ECONNREFUSED}, {"[" + server6 + "]:9", syscall.ECONNREFUSED}, {"203.0.113.77:80", syscall.EHOSTUNREACH}} {
				if conn, err := c.dial("tcp", x.addr); !errors.Is(err, x.want) {
					t.Errorf("dial %s: %v, %v; want %v", x.addr, conn, err, x.want)
				}
			}
			if proxy == "" {
				mapping(t, c)
			}
			flows(t, c)
		})
	}
}

// socksServer is microsocks, which ends both directions with the first.
func socksServer(t *testing.T, addr string) {
	host, port, _ := net.SplitHostPort(addr)
	p := exec.Command("microsocks", "-i", host, "-p", port)
	if err := p.Start(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("no SOCKS server: %v", err)
	}
	t.Cleanup(func() { p.Process.Kill(); p.Wait() })
	for deadline := time.Now().Add(patient); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the SOCKS server does not listen")
		}
	}
}

// mapping asks two servers from one socket: both see the same source (RFC 4787 REQ-1).
func mapping(t *testing.T, c *client) {
	var u *net.UDPConn
	c.in(func() (err error) {
		u, err = net.ListenUDP("udp4", nil)
		return err
	})
	defer u.Close()
	u.SetDeadline(time.Now().Add(patient))
	seen := map[string]bool{}
	for range 2 {
		s, err := net.ListenPacket("udp4", server+":0")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.SetDeadline(time.Now().Add(patient))
		if _, err := u.WriteTo([]byte("question"), s.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		n, from, err := s.ReadFrom(b)
		if err != nil || string(b[:n]) != "question" {
			t.Fatalf("%q, %v", b[:n], err)
		}
		seen[from.String()] = true
		s.WriteTo([]byte("answer"), from)
		if n, from, err := u.ReadFrom(b); err != nil || string(b[:n]) != "answer" || from.String() != s.LocalAddr().String() {
			t.Errorf("%q from %v, %v; want the answer of %v", b[:n], from, err, s.LocalAddr())
		}
	}
	if len(seen) != 1 {
		t.Errorf("one socket is seen as %v", seen)
	}
}

// flows has many connections open at once; WAYBILL_FLOWS says how many, where 300 are too few.
func flows(t *testing.T, c *client) {
	n := 300
	if s := os.Getenv("WAYBILL_FLOWS"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	addr := echoes(t, server)
	conns := make([]net.Conn, n)
	start := time.Now()
	var wait sync.WaitGroup
	for w := range 50 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			runtime.LockOSThread()
			if err := unix.Setns(c.fd, unix.CLONE_NEWNET); err != nil {
				t.Error(err)
				return
			}
			for k := w; k < n; k += 50 {
				var err error
				if conns[k], err = net.DialTimeout("tcp", addr, patient); err != nil {
					t.Errorf("flow %d: %v", k, err)
				}
			}
		}()
	}
	wait.Wait()
	t.Logf("%d flows open in %v", n, time.Since(start))
	for _, conn := range conns {
		if conn != nil {
			exchange(t, conn, false, []byte("waybill"))
		}
	}
}
