package stack

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/internal/reassembly"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// fragment is a part of the letter's text, as a packet of its own.
func (h *tester) fragment(l letter, id uint32, at, end int) letter {
	more := end < len(l.text)
	text := l.text[at:end]
	if h.us.Is4() {
		l.flags = uint16(at / 8)
		if more {
			l.flags |= 0x2000
		}
		l.bad = func(b []byte) []byte {
			n := int(b[0]&15) * 4
			binary.BigEndian.PutUint16(b[4:], uint16(id))
			b[10], b[11] = 0, 0
			binary.BigEndian.PutUint16(b[10:], ^checksum.Sum(b[:n], 0))
			return b
		}
	} else {
		at := uint16(at)
		if more {
			at |= 1
		}
		l.next = ipv6.ProtoFragment
		text = append(binary.BigEndian.AppendUint32([]byte{l.proto, 0, byte(at >> 8), byte(at)}, id), text...)
	}
	l.text = text
	return l
}

// cut is the letter in fragments of so many octets.
func (h *tester) cut(l letter, id uint32, size int) (all []letter) {
	for at := 0; at < len(l.text); at += size {
		all = append(all, h.fragment(l, id, at, min(at+size, len(l.text))))
	}
	return all
}

// randomText is n octets of a seed.
func randomText(seed uint64, n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return string(b)
}

// TestC137C165Fragments: packetimpact's ipv4_fragment_reassembly and ipv6_fragment_reassembly, with TestC137C139C172Echoes:
// datagrams come in fragments of any size and order, and reach the socket whole.
func TestC137C165Fragments(t *testing.T) {
	links(t, func(h *tester) {
		u := h.bind(6000)
		r := rand.New(rand.NewPCG(1, 1))
		for k, n := range []int{9, 100, 1473, 9000, 60_000, maxDatagram(h.us)} {
			want := randomText(uint64(k), n)
			for _, size := range []int{8, 16, 520, 1448} {
				if n/size >= reassembly.MaxFragments {
					continue
				}
				id := r.Uint32()
				all := h.cut(h.datagram(6000, want), id, size)
				r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
				for i, l := range all {
					h.mail(l)
					if i < len(all)-1 {
						h.mail(l) // and a duplicate
					}
				}
				if got := h.got(u); len(got) != 1 || got[0] != want {
					t.Fatalf("%d octets in fragments of %d: %d datagrams arrive, %v", n, size, len(got), h.stack.Stats().Drops)
				}
			}
		}
		h.silent("fragments")
		if st := h.stack.Stats(); st.Memory != 0 || st.Drops["fragment-duplicate"] == 0 || st.FragmentsIn == 0 {
			t.Errorf("%d octets are held; %d fragments came, %v", st.Memory, st.FragmentsIn, st.Drops)
		}
	})
}

// TestC137C171FragmentTimeout: packetimpact's ipv6_fragment_icmp_error: who sent fragments that never became a packet is told so,
// if the first was among them; RFC 5722: but not where they overlapped.
func TestC137C171FragmentTimeout(t *testing.T) {
	links(t, func(h *tester) {
		wait, typ := reassembly.Timeout4, ipv4.TimeExceeded
		if h.us.Is6() {
			wait, typ = reassembly.Timeout6, ipv6.TimeExceeded
		}
		all := h.cut(h.datagram(6000, randomText(1, 3000)), 7, 1000)
		h.mail(all[0])
		h.mail(all[2])
		h.pass(wait - time.Second)
		h.silent("half a packet")
		if h.stack.Stats().Memory == 0 {
			t.Error("fragments are held, and no octet is accounted for")
		}
		h.pass(2 * time.Second)
		p := h.one("half a packet, too late")
		first := h.build(all[0])
		quote := first[:min(len(first), len(p.text)-8)]
		if p.text[0] != typ || p.text[1] != 1 || !bytes.Equal(p.text[8:], quote) || len(quote) < 500 || p.src != h.peer {
			t.Errorf("%v says % x with %d octets quoted", p, p.text[:8], len(quote))
		}
		h.mail(all[1])
		h.mail(all[2])
		h.pass(2 * wait)
		h.silent("a packet without its beginning") // RFC 792, RFC 8200 §4.5
		h.mail(all[0])
		h.mail(h.fragment(h.datagram(6000, randomText(1, 3000)), 7, 992, 2000))
		h.pass(2 * wait)
		h.silent("a packet that overlaps")
		if st := h.stack.Stats(); st.Memory != 0 || st.Drops["fragment-timeout"] != 4 || st.Drops["fragment-overlap"] != 2 {
			t.Errorf("%d octets are held; %v", st.Memory, st.Drops)
		}
	})
}

// TestC138C139C172Overlap: A32, A33, A36: fragments that lie bring nothing, and are counted.
func TestC138C139C172Overlap(t *testing.T) {
	links(t, func(h *tester) {
		u := h.bind(6000)
		d := h.datagram(6000, randomText(1, 100))
		for id, x := range []struct{ at, end int }{{0, 24}, {8, 24}, {16, 40}, {16, 24}, {24, 48}, {0, 56}, {16, 32}} {
			h.mail(h.fragment(d, uint32(id), 0, 16))
			h.mail(h.fragment(d, uint32(id), 24, 40))
			h.mail(h.fragment(d, uint32(id), x.at, x.end))
			for _, l := range []letter{h.fragment(d, uint32(id), 16, 24), h.fragment(d, uint32(id), 40, len(d.text))} {
				h.mail(l)
			}
			if got, want := h.got(u), x.at == 16 && x.end == 24; (len(got) == 1) != want {
				t.Errorf("octets %d to %d beside 0 to 16 and 24 to 40: %d datagrams arrive", x.at, x.end, len(got))
			}
		}
		h.silent("overlaps")
		if h.us.Is4() { // IPv6's are answered: TestC171C174ParameterProblem
			bad := h.fragment(d, 90, 0, 16)
			bad.flags, bad.text = 0x1fff, make([]byte, 100)
			h.mail(bad)
			bad.flags, bad.text = 0x2001, make([]byte, 9)
			h.mail(bad)
			bad.text = nil
			h.mail(bad)
			h.silent("impossible fragments")
			if n := h.drops("bad-fragment"); n != 3 {
				t.Errorf("%d impossible fragments counted", n)
			}
		}
	})
}

// TestC171C174ParameterProblem: packetimpact's ipv6_fragment_icmp_error, and RFC 8200 §4.5: a fragment whose length or place is
// impossible is answered, with a pointer to it.
func TestC171C174ParameterProblem(t *testing.T) {
	links(t, func(h *tester) {
		if h.us.Is4() {
			return
		}
		raw := func(next uint8, at uint16, text string) letter {
			return letter{proto: ipv6.ProtoFragment, text: append([]byte{next, 0, byte(at >> 8), byte(at), 0, 0, 0, 9}, text...)}
		}
		for _, x := range []struct {
			name    string
			l       letter
			code    uint8
			pointer uint32
		}{
			{"C171 length not a multiple of 8", raw(ipv6.ProtoUDP, 1, "123456789"), ipv6.CodeHeader, 4},
			{"C171 beyond 65535", raw(ipv6.ProtoUDP, 0xfff8, "12345678"), ipv6.CodeHeader, 42},
			{"C174 A34 no transport header", raw(ipv6.ProtoTCP, 1, "12345678"), ipv6.CodeChain, 0},
			{"C174 the chain goes on", raw(ipv6.ProtoDestOpts, 1, "\x11\x01\x01\x0c1234"), ipv6.CodeChain, 0},
		} {
			h.mail(x.l)
			p := h.one(x.name)
			if p.text[0] != ipv6.ParamProblem || p.text[1] != x.code || binary.BigEndian.Uint32(p.text[4:]) != x.pointer || !bytes.Equal(p.text[8:], h.build(x.l)) {
				t.Errorf("%s: answered by % x, want code %d, pointer %d", x.name, p.text[:8], x.code, x.pointer)
			}
			if h.stack.Stats().Memory != 0 {
				t.Errorf("%s: kept", x.name)
			}
		}
	})
}

// TestC173Atomic: RFC 6946: a packet that is its only fragment is taken at once, whatever waits under its identification.
func TestC173Atomic(t *testing.T) {
	links(t, func(h *tester) {
		if h.us.Is4() {
			return
		}
		u := h.bind(6000)
		d := h.datagram(6000, randomText(1, 100))
		h.mail(h.fragment(d, 7, 0, 64))
		whole := h.datagram(6000, "atomic")
		whole.next = ipv6.ProtoFragment
		whole.text = append([]byte{ipv6.ProtoUDP, 0, 0, 0, 0, 0, 0, 7}, whole.text...)
		h.mail(whole)
		if got := h.got(u); len(got) != 1 || got[0] != "atomic" {
			t.Errorf("%q arrives", got)
		}
		h.mail(h.fragment(d, 7, 64, len(d.text)))
		if got := h.got(u); len(got) != 1 {
			t.Errorf("what waited: %d arrive", len(got))
		}
	})
}

// TestTCPInFragments: a segment may come in fragments too, of a length that TCP would keep with its memory, which is not the
// last fragment's.
func TestTCPInFragments(t *testing.T) {
	overWire(t, link.PipeConfig{MTU: 60_000}, Config{}, func(h *tester) {
		d := h.shakes()
		want := randomText(1, 40_000)
		seg := tcp.Segment{Seq: testerISN + 1, Ack: d.iss + 1, Flags: tcp.ACK | tcp.PSH, Window: fullWindow, Text: [][]byte{[]byte(want)}}
		all := h.cut(letter{proto: ipv4.ProtoTCP, text: h.tcpText(h.us, h.peer, d.ports, &seg)}, 7, 24_000)
		for k := range all {
			h.mail(all[len(all)-1-k])
		}
		h.idle()
		got := make([]byte, len(want))
		d.conn.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := io.ReadFull(d.conn, got); err != nil || string(got) != want {
			t.Errorf("%d octets, %v; not what was sent", n, err)
		}
	})
}

// TestC143Fragments: a datagram in fragments to a port that nobody has is refused as a whole one is.
func TestC143Fragments(t *testing.T) {
	links(t, func(h *tester) {
		l := h.datagram(5, randomText(1, 2000))
		for _, f := range h.cut(l, 3, 1448) {
			h.mail(f)
		}
		sent := h.build(l)
		if h.us.Is4() { // the whole keeps the identification
			sent[5] = 3
			sent[10], sent[11] = 0, 0
			binary.BigEndian.PutUint16(sent[10:], ^checksum.Sum(sent[:ipv4.MinHeaderLen], 0))
		}
		h.isUnreachable(h.one("a datagram to nobody"), ipv4.CodePort, ipv6.CodePort, sent)
		if h.us.Is6() { // C167: the pointer counts as if it had never been cut
			l := letter{proto: 254, text: make([]byte, 2000)}
			for _, f := range h.cut(l, 4, 1448) {
				h.mail(f)
			}
			if p := h.one("an unknown protocol"); p.text[1] != ipv6.CodeNextHeader || binary.BigEndian.Uint32(p.text[4:]) != 6 {
				t.Errorf("% x", p.text[:8])
			}
		}
	})
}

// TestC189FragmentedND: RFC 6980: Neighbor Discovery in fragments, be it only one, is ignored.
func TestC189FragmentedND(t *testing.T) {
	overWire(t, link.PipeConfig{MTU: 1500, Ethernet: true}, Config{}, func(h *tester) {
		if h.us.Is4() {
			return
		}
		group := ipv6.SolicitedNode(h.peer)
		n := ipv6.NDP{Type: ipv6.NeighborSolicitation, Target: h.peer, SourceLL: h.mac, HasSourceLL: true}
		l := letter{dst: group, proto: ipv6.ProtoICMP, hops: ipv6.HopLimitNDP, mac: ethernet.Multicast(group),
			text: icmp6(h.us, group, n.Encode(make([]byte, n.Len())))}
		for _, size := range []int{16, len(l.text)} {
			for _, f := range h.cut(l, 5, size) {
				h.mail(f)
			}
			if nd := h.neighbor(); len(nd) > 0 {
				t.Errorf("in fragments of %d octets: answered by %v", size, nd)
			}
		}
		if n := h.drops("bad-ndp"); n != 2 {
			t.Errorf("%d counted", n)
		}
		h.mail(l)
		if nd := h.neighbor(); len(nd) != 1 {
			t.Errorf("whole: answered by %v", nd)
		}
	})
}

// TestFragmentsAtClose: a stack that holds fragments closes, and forgets them.
func TestFragmentsAtClose(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		h.mail(h.fragment(h.datagram(6000, randomText(1, 100)), 1, 0, 64))
		h.idle()
		h.stack.Close()
		if m := h.stack.Stats().Memory; m != 0 {
			t.Errorf("%d octets", m)
		}
	})
}
