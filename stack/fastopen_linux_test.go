package stack

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// kernelPeer makes a stack on a TUN whose other end is the kernel of a namespace, with sysctls of net.ipv4 set in it.
func kernelPeer(t *testing.T, c Config, sysctls map[string]string) *Stack {
	t.Helper()
	for name, v := range sysctls {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(v), 0); err != nil {
			t.Fatal(err)
		}
	}
	d, err := link.OpenTUN(link.TUNConfig{Name: "wb0"})
	if err != nil {
		t.Fatal(err)
	}
	s := host(t, d, c, server4, server6)
	if err := link.ConfigureHost("wb0", []netip.Prefix{client4, client6}, 0); err != nil {
		t.Fatal(err)
	}
	return s
}

// netstat is a counter of the namespace's kernel.
func netstat(t *testing.T, name string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/net/netstat")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for k, n := range names {
			if n == name {
				v, _ := strconv.Atoi(values[k])
				return v
			}
		}
	}
	t.Fatalf("the kernel has no counter %s", name)
	return 0
}

// TestC120KernelFastOpen: the kernel's cookies open ours, and ours the kernel's, in both families.
func TestC120KernelFastOpen(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	s := kernelPeer(t, Config{}, map[string]string{"tcp_fastopen": "3"})
	for _, x := range []struct {
		name           string
		server, client netip.Prefix
	}{{"IPv4", server4, client4}, {"IPv6", server6, client6}} {
		t.Run("waybill to kernel, "+x.name, func(t *testing.T) {
			lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
				var err error
				c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16) })
				return err
			}}
			l, err := lc.Listen(context.Background(), "tcp", netip.AddrPortFrom(x.client.Addr(), 0).String())
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go echoOnce(l)
			before := netstat(t, "TCPFastOpenPassive")
			for i, want := range []bool{false, true, true} {
				_, info := ask(t, s, l.Addr().String(), 1000)
				if info.FastOpen != want {
					t.Errorf("connection %d: the kernel took the SYN's text: %v, want %v", i, info.FastOpen, want)
				}
			}
			if n := netstat(t, "TCPFastOpenPassive") - before; n != 2 {
				t.Errorf("the kernel counts %d connections by Fast Open, want 2", n)
			}
		})
		t.Run("kernel to waybill, "+x.name, func(t *testing.T) {
			l, err := s.ListenWith(ListenConfig{FastOpen: 16}, "tcp", netip.AddrPortFrom(x.server.Addr(), 0).String())
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			for i, want := range []bool{false, true, true} {
				got := make(chan tcp.Info, 1)
				go func() {
					c, err := l.AcceptTCP()
					if err != nil {
						got <- tcp.Info{}
						return
					}
					b := make([]byte, 100)
					n, _ := c.Read(b)
					c.Write(b[:n])
					got <- c.Info()
					io.Copy(io.Discard, c)
					c.Close()
				}()
				if err := kernelFastOpen(l.Addr().(*net.TCPAddr).AddrPort(), fmt.Sprintf("hello %d", i)); err != nil {
					t.Fatal(err)
				}
				if info := <-got; info.FastOpen != want {
					t.Errorf("connection %d: we took the SYN's text: %v, want %v", i, info.FastOpen, want)
				}
			}
			if n := netstat(t, "TCPFastOpenActive"); n < 2 {
				t.Errorf("the kernel counts %d connections by Fast Open, want 2", n)
			}
		})
	}
}

// echoOnce answers each connection with what it is sent first.
func echoOnce(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			b := make([]byte, 1<<16)
			n, _ := c.Read(b)
			c.Write(b[:n])
			io.Copy(io.Discard, c)
			c.Close()
		}()
	}
}

// kernelFastOpen has the kernel send text with its SYN, and reads it back.
func kernelFastOpen(to netip.AddrPort, text string) error {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if to.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	if err := unix.Sendto(fd, []byte(text), unix.MSG_FASTOPEN, sa); err != nil {
		return fmt.Errorf("sendto: %w", err)
	}
	b := make([]byte, 100)
	n, err := unix.Read(fd, b)
	if err != nil || string(b[:n]) != text {
		return fmt.Errorf("%q came back, %v; want %q", b[:max(n, 0)], err, text)
	}
	return nil
}
