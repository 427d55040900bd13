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

	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/link"
)

// A firewall on a host: what its rules say of what comes in, and of what goes out, is what sockets on both sides see.
func TestFirewallHost(t *testing.T) {
	type outcome struct{ tcp, udp, ping error }
	timeout := context.DeadlineExceeded
	for _, x := range []struct {
		name   string
		client string // the rules of the one that dials
		server string
		want   outcome
	}{
		{"no rules", "", "", outcome{}},
		{"in: dropped", "", "policy in drop", outcome{timeout, timeout, timeout}},
		{"in: rejected", "", "policy in reject", outcome{syscall.ECONNREFUSED, syscall.ECONNREFUSED, errICMP}},
		{"in: by port", "", "policy in drop\nallow in tcp to any port 80", outcome{nil, timeout, timeout}},
		{"in: an answer needs no rule", "policy in drop", "", outcome{}},
		{"out: dropped", "policy out drop", "", outcome{timeout, syscall.EPERM, syscall.EPERM}},
		{"out: rejected", "policy out reject", "", outcome{syscall.ECONNREFUSED, syscall.EPERM, syscall.EPERM}},
		{"out: allowed", "policy out drop\nallow out tcp\nallow out udp\nallow out icmp\nallow out icmp6", "policy in drop\nallow in", outcome{}},
	} {
		t.Run(x.name, func(t *testing.T) {
			families(t, func(t *testing.T, to netip.Prefix) {
				synctest.Test(t, func(t *testing.T) {
					client, server := pair(t, link.PipeConfig{Ethernet: true, MTU: 1500}, Config{NoDAD: true})
					useRules(t, client, x.client)
					useRules(t, server, x.server)
					l, err := server.ListenTCP("tcp", netip.AddrPortFrom(netip.Addr{}, 80))
					if err != nil {
						t.Fatal(err)
					}
					defer l.Close()
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					c, err := client.DialContext(ctx, "tcp", netip.AddrPortFrom(to.Addr(), 80).String())
					if err == nil {
						c.Close()
					}
					sees(t, "TCP", err, x.want.tcp)
					for _, size := range []int{10, 3000} {
						sees(t, "UDP", asks(client, server, netip.AddrPortFrom(to.Addr(), 7), size), x.want.udp)
						ctx, cancel := context.WithTimeout(t.Context(), time.Second)
						_, err = client.Ping(ctx, to.Addr(), PingConfig{Data: make([]byte, size)})
						sees(t, "ping", err, x.want.ping)
						cancel()
					}
				})
			})
		})
	}
}

// errICMP stands for any ICMPError.
var errICMP = errors.New("an ICMP error")

func sees(t *testing.T, what string, got, want error) {
	t.Helper()
	var e *ICMPError
	if want == errICMP && errors.As(got, &e) || errors.Is(got, want) || want == context.DeadlineExceeded && isTimeout(got) {
		return
	}
	t.Errorf("%s: %v, want %v", what, got, want)
}

func isTimeout(err error) bool {
	var e interface{ Timeout() bool }
	return errors.As(err, &e) && e.Timeout()
}

// asks sends a datagram of n octets and reads it back.
func asks(client, server *Stack, to netip.AddrPort, n int) error {
	s, err := server.ListenUDP("udp", netip.AddrPortFrom(netip.Addr{}, to.Port()))
	if err != nil {
		return err
	}
	defer s.Close()
	go func() {
		b := make([]byte, 65535)
		for {
			n, from, err := s.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			s.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	c, err := client.DialUDP("udp", netip.AddrPort{}, to)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err = c.Write(make([]byte, n)); err == nil {
		_, err = c.Read(make([]byte, 65535))
	}
	return err
}

// Rules change while connections stand, which stay, and go with the firewall.
func TestFirewallRules(t *testing.T) {
	client, server := pair(t, link.PipeConfig{MTU: 1500}, Config{NoDAD: true})
	if client.Firewall(func(*firewall.Firewall) {}) {
		t.Error("a firewall without rules")
	}
	useRules(t, server, "policy in drop\nallow in tcp")
	c, s := connected(t, client, server, server4)
	useRules(t, server, "policy in drop")
	says(t, c, s, "still here")
	n := 0
	if !server.Firewall(func(f *firewall.Firewall) {
		for range f.Connections() {
			n++
		}
	}) || n != 1 {
		t.Errorf("%d connections, want one", n)
	}
	if err := server.SetFirewall(&firewall.Rules{Filter: []firewall.Rule{{Direction: 99}}}); err == nil {
		t.Error("no error from a rule that cannot be")
	}
	if err := asks(client, server, netip.AddrPortFrom(server4.Addr(), 7), 10); !isTimeout(err) {
		t.Errorf("%v: the rules of before should hold", err)
	}
	if err := server.SetFirewall(nil); err != nil {
		t.Error(err)
	}
	if err := asks(client, server, netip.AddrPortFrom(server4.Addr(), 7), 10); err != nil {
		t.Errorf("without a firewall: %v", err)
	}
	says(t, c, s, "and here")
}

// says sends a text and reads it at the other end.
func says(t *testing.T, from, to net.Conn, text string) {
	t.Helper()
	b := make([]byte, len(text))
	if _, err := io.WriteString(from, text); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, b); err != nil || string(b) != text {
		t.Fatalf("%q, %v; want %q", b, err, text)
	}
}
