package stack

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// openICMP makes a socket of ICMP at a place.
func (h *tester) openICMP(at netip.Addr) *IPConn {
	h.Helper()
	network, _ := icmpNetwork(h.us)
	address := ""
	if at.IsValid() {
		address = at.String()
	}
	c, err := h.stack.ListenPacket(network, address)
	if err != nil {
		h.Fatalf("bound to %v: %v", at, err)
	}
	return c.(*IPConn)
}

// request is an echo request as a socket of ICMP writes it.
func (h *tester) request(id uint16) []byte {
	_, echo := icmpNetwork(h.us)
	return append(binary.BigEndian.AppendUint16([]byte{echo, 0, 0, 0}, id), 0, 1, 'x')
}

// reply is an echo reply from a host to an address.
func (h *tester) reply(from, to netip.Addr, id uint16) letter {
	l := letter{src: from, dst: to, mac: station(to)}
	if to.Is4() {
		l.proto, l.text = ipv4.ProtoICMP, icmp4(ipv4.ICMP{Type: ipv4.EchoReply, ID: id, Seq: 1, Body: []byte("x")})
	} else {
		l.proto, l.text = ipv6.ProtoICMP, icmp6(from, to, ipv6.ICMP{Type: ipv6.EchoReply, Rest: uint32(id)<<16 | 1, Body: []byte("x")})
	}
	return l
}

// gotICMP is how many messages have arrived at a socket.
func (h *tester) gotICMP(c net.Conn) (n int) {
	h.Helper()
	h.idle()
	for ; ; n++ {
		c.SetReadDeadline(time.Now().Add(time.Nanosecond))
		if _, err := c.Read(make([]byte, 100)); errors.Is(err, os.ErrDeadlineExceeded) {
			return n
		} else if err != nil {
			h.Fatal(err)
		}
	}
}

// TestICMPSpeaks: packetimpact's icmpv4_socket_send_recv and icmpv6_socket_send_recv, what is sent: an echo request leaves from
// where a datagram of UDP would, and for the same station.
func TestICMPSpeaks(t *testing.T) {
	links(t, func(h *tester) {
		h.introduce()
		for _, x := range hearings {
			for n, dest := range destinations[3:] {
				at, ok := h.place(x.bind)
				to, there := h.place(dest)
				if !ok || !there {
					continue
				}
				c, id := h.openICMP(at), uint16(n+1)
				from, want := h.sender(x.bind, dest)
				if _, err := c.WriteTo(h.request(id), ipAddr(to)); !errors.Is(err, want) {
					t.Errorf("a socket bound to %s asks %s: %v, want %v", x.bind, dest, err, want)
				}
				seen := h.sent()
				switch {
				case want != nil || dest == "loopback":
					if len(seen) > 0 {
						t.Errorf("a socket bound to %s asks %s: %v, want nothing", x.bind, dest, seen)
					}
				default:
					src, _ := h.place(from)
					mac, hops := station(to.WithZone("")), uint8(64)
					if mac.IsZero() {
						mac = h.mac
					}
					if to.IsMulticast() {
						hops = 1
					}
					if len(seen) != 1 || seen[0].src != src.WithZone("") || seen[0].dst != to.WithZone("") || h.eth && seen[0].eth.Dst != mac || seen[0].hops != hops {
						t.Errorf("a socket bound to %s asks %s: %+v, want it from %v to %v at station %v, with a hop limit of %d", x.bind, dest, seen, src, to, mac, hops)
					}
				}
				c.Close()
			}
		}
	})
}

// TestICMPHears: packetimpact's icmpv4_socket_send_recv and icmpv6_socket_send_recv, what is received: a socket that has asked
// hears the replies that were sent to where it is bound, and no reply to another's request. Linux has a raw IPv6 socket hear what
// was sent to a group besides, wherever it is bound; see IPConn on how it differs.
func TestICMPHears(t *testing.T) {
	links(t, func(h *tester) {
		for n, x := range hearings {
			at, ok := h.place(x.bind)
			if !ok {
				continue
			}
			c, id := h.openICMP(at), uint16(n+1)
			if _, err := c.WriteTo(h.request(id), ipAddr(h.us)); (err != nil) != (x.bind == "loopback") {
				t.Errorf("a socket bound to %s asks: %v", x.bind, err)
			}
			h.sent()
			for _, dest := range destinations[:8] {
				to, ok := h.place(dest)
				if !ok {
					continue
				}
				h.mail(h.reply(h.us, to.WithZone(""), id))
				want := 0
				for _, hears := range strings.Fields(x.hears) {
					if hears == dest {
						want = 1
					}
				}
				if got := h.gotICMP(c); got != want {
					t.Errorf("a socket bound to %s hears %d replies to %s, want %d", x.bind, got, dest, want)
				}
				h.mail(h.reply(h.us, to.WithZone(""), id+100))
				if got := h.gotICMP(c); got != 0 {
					t.Errorf("a socket bound to %s hears %d replies to another's request, sent to %s", x.bind, got, dest)
				}
				h.silent("an echo reply to " + dest)
			}
			c.Close()
		}
	})
}

// TestICMPConnected: a socket that is connected to one host hears that one; where it is connected to many, each may answer.
func TestICMPConnected(t *testing.T) {
	links(t, func(h *tester) {
		network, _ := icmpNetwork(h.us)
		other := h.us.Next().Next().Next()
		for _, dest := range destinations[3:9] {
			to, ok := h.place(dest)
			if !ok || dest == "loopback" {
				continue
			}
			c, err := h.stack.Dial(network, to.String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(h.request(7)); err != nil {
				t.Errorf("to %s: %v", dest, err)
			}
			src := h.one("an echo request to " + dest).src
			want := 2
			if dest == "tester" {
				want = 1
			}
			h.mail(h.reply(h.us, src, 7))
			h.mail(h.reply(other, src, 7))
			if got := h.gotICMP(c); got != want {
				t.Errorf("connected to %s: %d of two replies are heard, want %d", dest, got, want)
			}
			c.Close()
		}
		if to, ok := h.place("network"); ok { // Ping is one of those
			ctx, cancel := context.WithTimeout(h.Context(), time.Second)
			defer cancel()
			done := make(chan error)
			go func() {
				r, err := h.stack.Ping(ctx, to, PingConfig{ID: 9, Seq: 1, Data: []byte("x")})
				if err == nil && r.From != other {
					err = errors.New("from " + r.From.String())
				}
				done <- err
			}()
			h.one("Ping")
			h.mail(h.reply(other, h.peer, 9))
			if err := <-done; err != nil {
				t.Errorf("all hosts of a network are asked, and one answers: %v", err)
			}
		}
	})
}
