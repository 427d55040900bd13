package stack

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/udp"
)

// TestC142Fragments: an echo of any size is answered whole, in fragments where the link has no room.
func TestC142Fragments(t *testing.T) {
	links(t, func(h *tester) {
		for _, n := range []int{1473, 2000, 20_000, maxDatagram(h.us)} {
			l := h.echo(h.us, h.peer, randomText(9, n))
			for _, f := range h.cut(l, 99, 1448) {
				h.mail(f)
			}
			want := h.echo(h.peer, h.us, randomText(9, n)).text
			got := h.whole(h.sent())
			if len(got) != len(want) || !bytes.Equal(got[4:], want[4:]) || got[0] != 0 && got[0] != ipv6.EchoReply || !h.sums(got, ipv4.ProtoICMP) {
				t.Errorf("an echo of %d octets: %d octets come back", n, len(got))
			}
		}
		if h.us.Is6() {
			return
		}
		for _, f := range h.cut(h.echo(h.us, netip.MustParseAddr("198.51.100.255"), randomText(9, 3000)), 7, 1448) {
			f.mac = ethernet.Broadcast
			h.mail(f)
		}
		h.silent("a broadcast echo in fragments")
	})
}

// TestC132C136C175SendFragments: a datagram that is longer than the link carries leaves in fragments which fit, DF clear, and
// which the tester puts together.
func TestC132C136C175SendFragments(t *testing.T) {
	links(t, func(h *tester) {
		u := h.bind(6000)
		to := netip.AddrPortFrom(h.us, 7)
		u.WriteToUDPAddrPort([]byte("who are you"), to)
		h.sent()
		fits := 1500 - h.headerLen() - udp.HeaderLen
		ids := map[uint32]bool{}
		for _, n := range []int{fits, fits + 1, 2952, 2953, 60_000, maxDatagram(h.us)} {
			want := randomText(uint64(n), n)
			if k, err := u.WriteToUDPAddrPort([]byte(want), to); k != n || err != nil {
				t.Fatalf("writing %d octets: %d, %v", n, k, err)
			}
			seen := h.sent()
			if n == fits {
				if len(seen) != 1 || seen[0].cut.is {
					t.Errorf("%d octets: %v", n, seen)
				}
				continue
			}
			for k, p := range seen {
				if len(p.packet) > 1500 || !p.cut.is || p.cut.id != seen[0].cut.id || p.hops != 64 || k < len(seen)-1 && len(p.packet) < 1490 {
					t.Errorf("%d octets: fragment %d is of %d octets, %+v", n, k, len(p.packet), p.cut)
				}
			}
			if ids[seen[0].cut.id] {
				t.Errorf("identification %d again", seen[0].cut.id)
			}
			ids[seen[0].cut.id] = true
			b := h.whole(seen)
			if len(b) != n+udp.HeaderLen || string(b[udp.HeaderLen:]) != want || !h.sums(b, ipv4.ProtoUDP) {
				t.Errorf("%d octets come as %d", n, len(b)-udp.HeaderLen)
			}
		}
		if st := h.stack.Stats(); st.FragmentsOut == 0 || len(ids) != 5 {
			t.Errorf("%d fragments sent, identifications %v", st.FragmentsOut, ids)
		}
	})
}

// whole puts fragments in order together.
func (h *tester) whole(seen []packetSeen) (b []byte) {
	h.Helper()
	for k, p := range seen {
		if p.cut.offset != len(b) || p.cut.more != (k < len(seen)-1) {
			h.Errorf("fragment %d of %d is %+v", k, len(seen), p.cut)
		}
		b = append(b, p.text...)
	}
	return b
}

// sums reports whether the transport checksum holds of what the stack sent in fragments.
func (h *tester) sums(b []byte, proto uint8) bool {
	p := packetSeen{src: h.peer, dst: h.us, proto: proto, text: b}
	if proto == ipv4.ProtoICMP && h.us.Is6() {
		p.proto = ipv6.ProtoICMP
	}
	return p.decodeTransport() == nil
}

// TestC162QuotedFragment: an error about a datagram that left in fragments reaches the socket, though it quotes the first only.
func TestC162QuotedFragment(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		u, err := h.stack.DialUDP("udp", netip.AddrPort{}, netip.AddrPortFrom(h.us, 7))
		if err != nil {
			t.Fatal(err)
		}
		refused := badNews{t4: 3, c4: 3, t6: 1, c6: 4}
		u.Write(make([]byte, 4000))
		seen := h.sent()
		later := seen[1].packet[:h.headerLen()+fragmentLen+8]
		h.icmp(ipv4.ICMP{Type: refused.t4, Code: refused.c4, Body: later}, ipv6.ICMP{Type: refused.t6, Code: refused.c6, Body: later})
		h.idle()
		if _, err := u.Write(nil); err != nil {
			t.Errorf("an error about a later fragment: %v", err)
		}
		quote := seen[0].packet[:h.headerLen()+fragmentLen+8]
		h.icmp(ipv4.ICMP{Type: refused.t4, Code: refused.c4, Body: quote}, ipv6.ICMP{Type: refused.t6, Code: refused.c6, Body: quote})
		h.idle()
		if _, err := u.Write(nil); err == nil {
			t.Error("an error about the first fragment is not told")
		}
	})
}

// TestUDPFragmentsBothWays: two stacks exchange datagrams of all lengths over a link of 1500 octets, the first of which waits for the
// neighbour's answer.
func TestUDPFragmentsBothWays(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		for _, wire := range []link.PipeConfig{{MTU: 1500, Ethernet: true}, {MTU: 1280}, {MTU: 9000, Ethernet: true}} {
			synctest.Test(t, func(t *testing.T) {
				c, s := couple(t, wire, to)
				b := make([]byte, 1<<16)
				for _, n := range []int{60_000, wire.MTU, 1, 2 * wire.MTU, maxDatagram(to.Addr())} {
					want := []byte(randomText(uint64(n), n))
					if _, err := c.Write(want); err != nil {
						t.Fatal(err)
					}
					s.SetReadDeadline(time.Now().Add(time.Second))
					k, from, err := s.ReadFromUDPAddrPort(b)
					if err != nil || !bytes.Equal(b[:k], want) {
						t.Fatalf("%d octets arrive as %d, %v: %v", n, k, err, s.stack.Stats().Drops)
					}
					s.WriteToUDPAddrPort(b[:k], from)
					c.SetReadDeadline(time.Now().Add(time.Second))
					if k, err = c.Read(b); err != nil || !bytes.Equal(b[:k], want) {
						t.Fatalf("%d octets come back as %d, %v: %v", n, k, err, c.stack.Stats().Drops)
					}
				}
			})
		}
	})
}

// TestUDPFragmentsLoopback: IPv6's longest datagram is longer than the loopback interface carries.
func TestUDPFragmentsLoopback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		defer s.Close()
		for _, a := range []string{"127.0.0.1:0", "[::1]:0"} {
			u := bound(t, s, "udp", a)
			want, b := []byte(randomText(1, maxDatagram(localPort(u).Addr()))), make([]byte, 1<<16)
			if _, err := u.WriteToUDPAddrPort(want, localPort(u)); err != nil {
				t.Fatal(err)
			}
			u.SetReadDeadline(time.Now().Add(time.Second))
			if n, err := u.Read(b); err != nil || !bytes.Equal(b[:n], want) {
				t.Errorf("%d octets arrive as %d, %v", len(want), n, err)
			}
		}
	})
}

// TestC136A37A47Identifications: over IPv4 a pair's 65,536 numbers all differ, another pair's tell nothing of them, and
// another stack's neither.
func TestC136A37A47Identifications(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		var x identifications
		var k, other secrets
		fill := func(b []byte) error { copy(b, randomText(uint64(len(b)), len(b))); b[0]++; return nil }
		k.init(fill)
		other.init(func(b []byte) error { copy(b, randomText(5, len(b))); return nil })
		m := meta{src: to.Addr(), dst: to.Addr().Next(), proto: ipv4.ProtoUDP}
		seen := map[uint32]bool{}
		for range 1 << 16 {
			seen[uint32(uint16(x.next(&k, &m)))] = true
		}
		if len(seen) != 1<<16 {
			t.Errorf("of 65536 identifications of one pair %d differ", len(seen))
		}
		near := map[string]bool{}
		for n := range 64 {
			d := m
			d.dst = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(n)})
			if to.Addr().Is4() {
				d.dst = netip.AddrFrom4([4]byte{203, 0, 113, byte(n)})
			}
			near[fmt.Sprint(x.next(&k, &d)>>12)] = true
		}
		if len(near) < 60 {
			t.Errorf("64 pairs have identifications in %d places", len(near))
		}
		var fresh, second identifications
		if fresh.next(&k, &m) == second.next(&other, &m) {
			t.Error("another key gives the same identification")
		}
	})
}
