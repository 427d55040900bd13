package stack

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/reassembly"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// The files of this name are what packetimpact's tests of IP, ICMP and UDP have beyond those of the rows: raw packets in, raw
// packets out, and sockets in between.

// TestC136Retransmissions: packetimpact's ipv4_id_uniqueness: where DF is clear, as the path carries less than any should, what
// is sent again has another identification (RFC 6864 §4.2, §4.3).
func TestC136Retransmissions(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		if h.us.Is6() {
			return
		}
		h.narrow = true
		d := h.shakes()
		d.conn.Write(make([]byte, 1000))
		h.tooBig(68, d.one("a write").packet)
		ids := map[[3]byte]bool{} // by protocol, each of which counts for itself
		unique := func(what string, least int) {
			t.Helper()
			seen := h.sent()
			if len(seen) < least {
				t.Errorf("%s: %d packets, want %d", what, len(seen), least)
			}
			for _, p := range seen {
				id := [3]byte{p.proto, p.packet[4], p.packet[5]}
				if p.packet[6]&0x40 != 0 || ids[id] {
					t.Errorf("%s: %v has DF, or the identification of another: % x", what, p, p.packet[:ipv4.MinHeaderLen])
				}
				ids[id] = true
			}
		}
		unique("smaller segments", 2)
		h.pass(10 * time.Second)
		unique("segments that are sent again", 4)
		u := h.bind(6000)
		for _, n := range []int{1, 1, 500, 500, 2000, 2000} {
			u.WriteToUDPAddrPort(make([]byte, n), netip.AddrPortFrom(h.us, 7))
			if n > 500 { // fragments share one, and the tester holds them against each other
				first := h.sent()[0]
				id := [3]byte{first.proto, first.packet[4], first.packet[5]}
				if ids[id] {
					t.Errorf("%d octets have the identification of others", n)
				}
				ids[id] = true
				continue
			}
			unique("a datagram", 1)
		}
		for range 2 {
			h.mail(h.echo(h.us, h.peer, randomText(1, 500)))
			unique("an echo reply", 1)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() {
			_, err := h.stack.DialContext(ctx, "tcp", netip.AddrPortFrom(h.us, 9).String())
			done <- err
		}()
		h.pass(10 * time.Second)
		unique("SYNs", 3)
		cancel()
		<-done
	})
}

// TestC137C139C172Echoes: packetimpact's ipv4_fragment_reassembly and ipv6_fragment_reassembly: an echo request in fragments, in
// any order and doubled, is answered; where two of them cover an octet both, nothing is, then or later, nor is it for one that
// lies within another: RFC 8200 §4.5 lets only "exact duplicate fragments" pass. IPv4 is held to the same.
func TestC137C139C172Echoes(t *testing.T) {
	links(t, func(h *tester) {
		const size = 2400
		l := h.echo(h.us, h.peer, randomText(1, size-ipv4.ICMPLen))
		want := h.echo(h.peer, h.us, randomText(1, size-ipv4.ICMPLen)).text
		type piece struct{ at, end int }
		first, middle, last := piece{0, 800}, piece{800, 1600}, piece{1600, size}
		for id, x := range []struct {
			name   string
			pieces []piece
			ok     bool
		}{
			{"in order", []piece{first, middle, last}, true},
			{"in reverse order", []piece{last, middle, first}, true},
			{"the middle last", []piece{last, first, middle}, true},
			{"each twice", []piece{first, first, middle, middle, last}, true},
			{"an early one again", []piece{first, last, first, middle}, true},
			{"the last again", []piece{last, first, last, middle}, true},
			{"within the first, at its start", []piece{first, {0, 400}, middle, last}, false},
			{"within the first, in its midst", []piece{first, {400, 600}, middle, last}, false},
			{"within the middle, at its end", []piece{middle, {1200, 1600}, first, last}, false},
			{"around the middle", []piece{middle, {720, 1680}, first, last}, false},
			{"into the first", []piece{first, {720, 1600}, last}, false},
			{"into the last", []piece{last, first, {800, 1680}}, false},
			{"the whole, after a part", []piece{first, {0, 1400}, {1400, 1600}, last}, false},
			{"two ends", []piece{first, last, {1200, size}}, false},
			{"none in the middle", []piece{first, last}, false},
		} {
			for _, p := range x.pieces {
				h.mail(h.fragment(l, uint32(id), p.at, p.end))
			}
			if !x.ok {
				h.silent(x.name)
				if len(x.pieces) > 2 {
					h.pass(2 * max(reassembly.Timeout4, reassembly.Timeout6))
					h.silent(x.name + ", and no more to come") // RFC 8200 §4.5: no error about an overlap
				}
				continue
			}
			got := h.whole(h.sent())
			if len(got) != len(want) || !bytes.Equal(got[4:], want[4:]) || !h.sums(got, ipv4.ProtoICMP) {
				t.Errorf("%s: %d octets come back, want %d", x.name, len(got), len(want))
			}
		}
	})
}

// TestC144C171GroupFragments: packetimpact's ipv6_fragment_icmp_error, beside TestC137C171FragmentTimeout and
// TestC171C174ParameterProblem: what was sent to a group is never answered by an error, be it late or impossible.
func TestC144C171GroupFragments(t *testing.T) {
	links(t, func(h *tester) {
		for _, name := range []string{"broadcast", "network", "hosts"} {
			to, ok := h.place(name)
			if !ok {
				continue
			}
			l := letter{dst: to, proto: ipv4.ProtoUDP,
				text: udpText(netip.AddrPortFrom(h.us, 5000), netip.AddrPortFrom(to, 6000), randomText(1, 3000))}
			late, impossible := h.fragment(l, 1, 0, 1000), h.fragment(l, 2, 1000, 2001)
			late.mac, impossible.mac = station(to), station(to)
			h.mail(late)
			h.mail(impossible) // its length is no multiple of 8
			h.pass(2 * max(reassembly.Timeout4, reassembly.Timeout6))
			h.silent("fragments to " + name)
		}
		if st := h.stack.Stats(); st.Memory != 0 || st.Drops["fragment-timeout"] == 0 || st.Drops["bad-fragment"]+st.Drops["bad-extension"] == 0 {
			t.Errorf("%d octets are held, %v", st.Memory, st.Drops)
		}
	})
}

// TestC167ParameterProblem: packetimpact's icmpv6_param_problem: a next header that nobody knows is pointed to wherever it stands,
// with as much of the packet as has room; unless it was sent to a group.
func TestC167ParameterProblem(t *testing.T) {
	links(t, func(h *tester) {
		if h.us.Is4() {
			return
		}
		const unknown = 254 // RFC 3692: for experiments
		slip := func(next uint8) []byte { return []byte{next, 0, ipv6.OptionPadN, 4, 0, 0, 0, 0} }
		for _, x := range []struct {
			name    string
			proto   uint8
			headers []byte
			pointer uint32
		}{
			{"in the fixed header", unknown, nil, 6},
			{"behind destination options", ipv6.ProtoDestOpts, slip(unknown), 40},
			{"behind two headers", ipv6.ProtoHopByHop, slices.Concat(slip(ipv6.ProtoDestOpts), slip(unknown)), 48},
		} {
			for _, n := range []int{0, 1, 500, 1400} {
				l := letter{proto: x.proto, text: append(slices.Clone(x.headers), randomText(3, n)...)}
				h.pass(2 * time.Second) // else we would have been told enough
				h.mail(l)
				p := h.one(x.name)
				sent := h.build(l)
				quote := sent[:min(len(sent), ipv6.MinMTU-ipv6.HeaderLen-ipv6.ICMPLen)]
				if p.text[0] != ipv6.ParamProblem || p.text[1] != ipv6.CodeNextHeader || binary.BigEndian.Uint32(p.text[4:]) != x.pointer ||
					!bytes.Equal(p.text[8:], quote) || p.src != h.peer || p.dst != h.us {
					t.Errorf("%s, %d octets: %v says % x, and quotes %d octets; want a pointer to %d, and %d octets", x.name, n, p, p.text[:8], len(p.text)-8, x.pointer, len(quote))
				}
				l.dst, l.mac = allNodes, ethernet.Multicast(allNodes)
				h.mail(l)
				h.silent(x.name + ", to a group") // RFC 4443 §2.4 (e.3)
			}
		}
	})
}
