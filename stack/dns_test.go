package stack

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/seed87e66d9f/waybill/link"
)

// nameServer answers for a few names, over UDP and TCP (RFC 1035 §4.2).
type nameServer struct {
	names     map[string][]netip.Addr // with the final dot
	truncated string                  // has its answer over TCP only
	udp, tcp  atomic.Int32            // queries
}

// testNames is what the tests of this file look up.
func testNames() *nameServer {
	n := &nameServer{truncated: "long.example.", names: map[string][]netip.Addr{
		"both.example.": {server4.Addr(), server6.Addr()},
		"four.example.": {server4.Addr()},
		"six.example.":  {server6.Addr()},
	}}
	for i := range 60 { // far more than the 1232 octets that resolvers ask for over UDP
		n.names["long.example."] = append(n.names["long.example."], netip.AddrFrom4([4]byte{203, 0, 113, byte(i + 1)}),
			netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i + 1)}))
	}
	return n
}

// serve answers at port 53 of s until the stack is closed.
func (n *nameServer) serve(t *testing.T, s *Stack) {
	t.Helper()
	u := bound(t, s, "udp", ":53")
	l, err := s.Listen("tcp", ":53")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 512)
		for {
			k, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			n.udp.Add(1)
			u.WriteTo(n.answer(b[:k], false), from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go n.serveTCP(c)
		}
	}()
}

// serveTCP answers queries that have their length in front (RFC 1035 §4.2.2).
func (n *nameServer) serveTCP(c net.Conn) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		n.tcp.Add(1)
		a := n.answer(b, true)
		c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
	}
}

// answer is the reply to a query; none where the query makes no sense.
func (n *nameServer) answer(query []byte, stream bool) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionAvailable: true}
	m.Additionals = nil
	addrs, ok := n.names[q.Name.String()]
	switch {
	case !ok:
		m.RCode = dnsmessage.RCodeNameError
	case q.Name.String() == n.truncated && !stream:
		m.Truncated = true
	default:
		for _, a := range addrs {
			h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}
			if a.Is4() && q.Type == dnsmessage.TypeA {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
			} else if a.Is6() && q.Type == dnsmessage.TypeAAAA {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// named is a client that asks the name server at the server's address of a family, and that server.
func named(t *testing.T, at netip.Addr) (client, server *Stack, n *nameServer) {
	t.Helper()
	a, b := link.Pipe(link.PipeConfig{Ethernet: true, MTU: 1500})
	client = host(t, a, Config{DNS: []netip.AddrPort{netip.AddrPortFrom(at, 53)}}, client4, client6)
	server = host(t, b, Config{}, server4, server6)
	n = testNames()
	n.serve(t, server)
	return client, server, n
}

func TestConvention14Resolver(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		client, _, n := named(t, to.Addr())
		r := client.Resolver()
		for _, c := range []struct {
			network, name string
			want          []netip.Addr
		}{
			{"ip4", "both.example", []netip.Addr{server4.Addr()}},
			{"ip6", "both.example", []netip.Addr{server6.Addr()}},
			{"ip", "both.example", []netip.Addr{server4.Addr(), server6.Addr()}},
			{"ip", "four.example", []netip.Addr{server4.Addr()}},
			{"ip", "six.example", []netip.Addr{server6.Addr()}},
		} {
			got, err := r.LookupNetIP(t.Context(), c.network, c.name+".")
			for i := range got {
				got[i] = got[i].Unmap()
			}
			slices.SortFunc(got, netip.Addr.Compare)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%s %s: %v, %v, want %v", c.network, c.name, got, err, c.want)
			}
		}
		if n.udp.Load() == 0 || n.tcp.Load() != 0 {
			t.Errorf("%d queries over UDP and %d over TCP, want UDP alone", n.udp.Load(), n.tcp.Load())
		}
		// RFC 7766 §5: an answer that was cut over UDP is asked for again over TCP.
		if got, err := r.LookupNetIP(t.Context(), "ip", "long.example."); err != nil || len(got) != len(n.names["long.example."]) || n.tcp.Load() == 0 {
			t.Errorf("a long answer: %d addresses, %v, %d queries over TCP", len(got), err, n.tcp.Load())
		}
	})
}

func TestConvention14DialByName(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		client, server, _ := named(t, to.Addr())
		l, err := server.Listen("tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for _, c := range []struct {
			network, address string
			want             netip.Addr // none: it fails
		}{
			{"tcp", "four.example:80", server4.Addr()},
			{"tcp", "six.example:80", server6.Addr()},
			{"tcp4", "both.example:80", server4.Addr()},
			{"tcp6", "both.example:80", server6.Addr()},
			{"tcp6", "four.example:80", netip.Addr{}},
			{"udp", "six.example:80", server6.Addr()},
			{"tcp", "four.example:http", server4.Addr()},
		} {
			conn, err := client.Dial(c.network, c.address)
			if !c.want.IsValid() {
				if err == nil {
					t.Errorf("%s %s: connected to %v", c.network, c.address, conn.RemoteAddr())
				}
				continue
			}
			if err != nil {
				t.Errorf("%s %s: %v", c.network, c.address, err)
				continue
			}
			if got := netip.MustParseAddrPort(conn.RemoteAddr().String()); got != netip.AddrPortFrom(c.want, 80) {
				t.Errorf("%s %s: connected to %v, want %v", c.network, c.address, got, c.want)
			}
			conn.Close()
		}
	})
}

// Of a name's addresses the next is tried where one refuses.
func TestConvention14NextAddress(t *testing.T) {
	client, server, _ := named(t, server4.Addr())
	for _, only := range []netip.Prefix{server4, server6} {
		l, err := server.ListenTCP("tcp", netip.AddrPortFrom(only.Addr(), 80))
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.Dial("tcp", "both.example:80")
		if err != nil {
			t.Errorf("where only %v listens: %v", only.Addr(), err)
		} else if got := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); got != only.Addr() {
			t.Errorf("connected to %v, want %v", got, only.Addr())
		}
		l.Close()
	}
}

// What fails about a name is a *net.DNSError in a *net.OpError, and names the server that was asked.
func TestConvention14NameErrors(t *testing.T) {
	asked := netip.AddrPortFrom(server6.Addr(), 53)
	client, server, _ := named(t, asked.Addr())
	dnsError := func(err error) *net.DNSError {
		t.Helper()
		var dns *net.DNSError
		if op, ok := err.(*net.OpError); !ok || op.Op != "dial" || !errors.As(err, &dns) {
			t.Fatalf("%v (%T), want a *net.DNSError in a *net.OpError", err, err)
		}
		return dns
	}
	_, err := client.Dial("tcp", "nobody.example:80")
	if dns := dnsError(err); !dns.IsNotFound || dns.Name != "nobody.example" || dns.Server != asked.String() {
		t.Errorf("a name that does not exist: %+v", dns)
	}
	if _, err := client.Listen("tcp", "nobody.example:80"); err == nil || !strings.Contains(err.Error(), "nobody.example") {
		t.Errorf("listening at a name that does not exist: %v", err)
	}
	_, err = server.Dial("tcp", "both.example:80") // it knows no DNS server
	if dns := dnsError(err); dns.Name != "both.example" || dns.Server != "" || dns.Timeout() {
		t.Errorf("without a DNS server: %+v", dns)
	}
	if _, err := server.Resolver().LookupHost(t.Context(), "both.example."); !errors.As(err, new(*net.DNSError)) {
		t.Errorf("the resolver without a DNS server: %v", err)
	}
	if c, err := server.Dial("udp", "localhost:53"); err != nil { // no DNS needed
		t.Errorf("localhost: %v", err)
	} else {
		c.Close()
	}
}

// A look-up ends with its context, however silent the server is.
func TestConvention14LookupEnds(t *testing.T) {
	a, b := link.Pipe(link.PipeConfig{})
	client := host(t, a, Config{DNS: []netip.AddrPort{netip.AddrPortFrom(server4.Addr(), 53)}}, client4)
	server := host(t, b, Config{}, server4)
	bound(t, server, "udp", ":53") // hears, and says nothing
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := client.DialContext(ctx, "tcp", "both.example:80")
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an expired look-up: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	stop := time.AfterFunc(10*time.Millisecond, cancel)
	defer stop.Stop()
	if _, err = client.DialContext(ctx, "tcp", "both.example:80"); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled look-up: %v", err)
	}
}

// Of the servers of Config.DNS one that does not answer is asked once, and a truncated answer's server is asked again.
func TestConvention14NextServer(t *testing.T) {
	for _, c := range []struct {
		name string
		port uint16 // of the first server
	}{{"refuses", 54}, {"SERVFAIL", 55}} {
		t.Run(c.name, func(t *testing.T) {
			families(t, func(t *testing.T, to netip.Prefix) {
				a, b := link.Pipe(link.PipeConfig{Ethernet: true, MTU: 1500})
				client := host(t, a, Config{DNS: []netip.AddrPort{netip.AddrPortFrom(to.Addr(), c.port), netip.AddrPortFrom(to.Addr(), 53)}},
					client4, client6)
				server := host(t, b, Config{}, server4, server6)
				n := testNames()
				n.serve(t, server)
				var failures atomic.Int32
				u := bound(t, server, "udp", ":55")
				go func() {
					b := make([]byte, 512)
					for {
						k, from, err := u.ReadFrom(b)
						if err != nil {
							return
						}
						failures.Add(1)
						b[2], b[3] = b[2]|0x80, 2 // RFC 1035 §4.1.1: QR, and RCODE 2, server failure
						u.WriteTo(b[:k], from)
					}
				}()
				for range 5 {
					for _, name := range []string{"both.example.", "long.example."} {
						if got, err := client.Resolver().LookupNetIP(t.Context(), "ip", name); err != nil || len(got) != len(n.names[name]) {
							t.Errorf("%s: %d addresses, %v, want %d", name, len(got), err, len(n.names[name]))
						}
					}
				}
				if k := failures.Load(); k > 2 { // one for each type of address, at once
					t.Errorf("the server that fails was asked %d times", k)
				}
			})
		})
	}
}
