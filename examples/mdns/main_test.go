package main

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	wire "github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// page is a buffer that one goroutine writes to while another waits to read it.
type page struct {
	mu sync.Mutex
	b  strings.Builder
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

// lines are those written so far, sorted.
func (p *page) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(strings.Lines(p.b.String()))
}

// hosts are two on a wire.
func hosts(t *testing.T) (client, server *stack.Stack) {
	t.Helper()
	a, b := wire.Pipe(wire.PipeConfig{MTU: 1500})
	client, server = stack.New(stack.Config{}), stack.New(stack.Config{})
	t.Cleanup(func() { client.Close(); server.Close() })
	for _, x := range []struct {
		s    *stack.Stack
		d    wire.Device
		a, b string
	}{{client, a, "198.51.100.1/24", "2001:db8:51::1/64"}, {server, b, "198.51.100.2/24", "2001:db8:51::2/64"}} {
		if _, err := x.s.Attach(x.d, netip.MustParsePrefix(x.a), netip.MustParsePrefix(x.b)); err != nil {
			t.Fatal(err)
		}
	}
	return client, server
}

// TestAsk: a host finds the addresses of another by its name, in any spelling, and hears nothing of names that are nobody's.
func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := hosts(t)
		answering, err := join(server, "Other.local", io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		defer answering.close()
		var out page
		asking, err := join(client, "", &out)
		if err != nil {
			t.Fatal(err)
		}
		defer asking.close()
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if err := asking.ask(ctx, []string{"oTHER.local", "nobody.local", "_ssh._tcp.local"}); err != nil {
			t.Fatal(err)
		}
		want := []string{"other.local. A 198.51.100.2\n", "other.local. AAAA 2001:db8:51::2\n"}
		if got := out.lines(); !slices.Equal(got, want) {
			t.Errorf("printed %q, want %q", got, want)
		}
		if err := asking.ask(ctx, []string{strings.Repeat("long", 100) + ".local"}); err == nil {
			t.Error("a name that is too long is no error")
		}
		if _, err := join(client, strings.Repeat("long", 100), &out); err == nil {
			t.Error("nor is it to answer for")
		}
	})
}

// TestLegacy: RFC 6762 §6.7, who asks from another port is answered there, as by any DNS server; §6: who answers from another
// port is not heard.
func TestLegacy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := hosts(t)
		var out page
		l, err := join(server, "other.local", &out)
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		p, err := client.ListenPacket("udp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		u := p.(*stack.UDPConn)
		name := dnsmessage.MustNewName("other.local.")
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: 4711},
			Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		u.WriteToUDPAddrPort(b, groups[0])
		reply := make([]byte, 1500)
		n, from, err := u.ReadFromUDPAddrPort(reply)
		if err != nil || from != netip.MustParseAddrPort("198.51.100.2:5353") || m.Unpack(reply[:n]) != nil {
			t.Fatalf("from %v: %v", from, err)
		}
		if a := m.Answers; m.ID != 4711 || len(m.Questions) != 1 || len(a) != 1 || a[0].Header.TTL != 10 || a[0].Header.Class != dnsmessage.ClassINET {
			t.Errorf("%+v", m)
		}

		l.mu.Lock()
		l.asked = []string{"other.local."}
		l.mu.Unlock()
		u.WriteToUDPAddrPort(reply[:n], groups[0])
		synctest.Wait()
		if got := out.lines(); len(got) > 0 {
			t.Errorf("a stranger's answer was believed: %q", got)
		}
	})
}

// FuzzUnderstand: no message makes it fail.
func FuzzUnderstand(f *testing.F) {
	q, err := question([]string{"other.local.", "_ssh._tcp.local."})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q, true)
	f.Add([]byte{0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 12, 0, 1, 0, 0, 0, 9, 0, 1, 0}, false)
	a, _ := wire.Pipe(wire.PipeConfig{})
	s := stack.New(stack.Config{})
	i, err := s.Attach(a, netip.MustParsePrefix("198.51.100.1/24"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, b []byte, legacy bool) {
		l := &link{name: "other.local."}
		from := netip.MustParseAddrPort("198.51.100.2:5353")
		if legacy {
			from = netip.MustParseAddrPort("198.51.100.2:999")
		}
		if reply, _ := l.understand(b, stack.PacketInfo{From: from, Interface: i}); reply != nil {
			var m dnsmessage.Message
			if err := m.Unpack(reply); err != nil {
				t.Errorf("% x is answered with % x: %v", b, reply, err)
			}
		}
	})
}
