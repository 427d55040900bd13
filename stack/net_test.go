package stack

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/seed87e66d9f/waybill/link"
)

// The addresses of the two hosts that most tests connect (RFC 5737, RFC 3849).
var (
	client4 = netip.MustParsePrefix("198.51.100.1/24")
	client6 = netip.MustParsePrefix("2001:db8:51::1/64")
	server4 = netip.MustParsePrefix("198.51.100.2/24")
	server6 = netip.MustParsePrefix("2001:db8:51::2/64")
)

// pair makes two hosts on one wire, with addresses of both families, and closes them with the test.
func pair(t testing.TB, wire link.PipeConfig, c Config) (client, server *Stack) {
	t.Helper()
	a, b := link.Pipe(wire)
	return host(t, a, c, client4, client6), host(t, b, c, server4, server6)
}

// host makes a host behind a device, and closes it with the test.
func host(t testing.TB, d link.Device, c Config, addrs ...netip.Prefix) *Stack {
	t.Helper()
	s := New(c)
	if _, err := s.Attach(d, addrs...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// connected makes a TCP connection between two hosts, to the server's address of the family.
func connected(t testing.TB, client, server *Stack, to netip.Prefix) (c, s *TCPConn) {
	t.Helper()
	l, err := server.ListenTCP("tcp", netip.AddrPortFrom(to.Addr(), 0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := client.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if s, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	return conn.(*TCPConn), s
}

// families runs a test for IPv4 and for IPv6.
func families(t *testing.T, f func(t *testing.T, server netip.Prefix)) {
	t.Run("IPv4", func(t *testing.T) { f(t, server4) })
	t.Run("IPv6", func(t *testing.T) { f(t, server6) })
}

func TestConn(t *testing.T) {
	for _, wire := range []struct {
		name string
		link.PipeConfig
	}{{"IP", link.PipeConfig{}}, {"Ethernet", link.PipeConfig{Ethernet: true, MTU: 1400}}} {
		t.Run(wire.name, func(t *testing.T) {
			families(t, func(t *testing.T, to netip.Prefix) {
				nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
					client, server := pair(t, wire.PipeConfig, Config{})
					c, s := connected(t, client, server, to)
					return c, s, func() { client.Close(); server.Close() }, nil
				})
			})
		})
	}
}
