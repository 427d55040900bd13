package stack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// These are attacks that a host on a wire survives. A number such as A48 is that of a row in the project's list of them.

// TestC166C168C170A39A40Extensions: packetimpact's ipv6_unknown_options_action, and more: what each extension header and each
// option has answered, and what arrives behind it.
func TestC166C168C170A39A40Extensions(t *testing.T) {
	links(t, func(h *tester) {
		if h.us.Is4() {
			return
		}
		u := h.bind(6000)
		const hop, dest, rt = ipv6.ProtoHopByHop, ipv6.ProtoDestOpts, ipv6.ProtoRouting
		d := string(h.datagram(6000, "x").text)
		problem := func(code uint8, pointer uint32) []byte {
			return binary.BigEndian.AppendUint32([]byte{ipv6.ParamProblem, code, 0, 0}, pointer)
		}
		for _, x := range []struct {
			name    string
			next    uint8
			headers string
			answer  []byte // type, code and pointer; nil: silence
			arrives bool
		}{
			{"C166 hop-by-hop first", hop, "\x11\x00\x01\x04\x00\x00\x00\x00", nil, true},
			{"C166 hop-by-hop second", dest, "\x00\x00\x01\x04\x00\x00\x00\x00\x11\x00\x01\x04\x00\x00\x00\x00", problem(ipv6.CodeNextHeader, 40), false},
			{"C166 destination options twice", dest, "\x3c\x00\x01\x04\x00\x00\x00\x00\x11\x00\x01\x04\x00\x00\x00\x00", nil, true},
			{"C168 option 00", dest, "\x11\x00\x3e\x04\x00\x00\x00\x00", nil, true},
			{"C168 option 01", dest, "\x11\x00\x7e\x04\x00\x00\x00\x00", nil, false},
			{"C168 option 10", dest, "\x11\x00\xbe\x04\x00\x00\x00\x00", problem(ipv6.CodeOption, 42), false},
			{"C168 option 11", hop, "\x11\x00\xfe\x04\x00\x00\x00\x00", problem(ipv6.CodeOption, 42), false},
			{"C169 option beyond the header", dest, "\x11\x00\x1e\x07\x00\x00\x00\x00", nil, false},
			{"C170 A40 type 0, nothing left", rt, "\x11\x00\x00\x00\x00\x00\x00\x00", nil, true},
			{"C170 A40 type 0, one left", rt, "\x11\x02\x00\x01\x00\x00\x00\x00" + string(h.us.AsSlice()), problem(ipv6.CodeHeader, 42), false},
			{"A39 jumbo payload", hop, "\x11\x00\xc2\x04\x00\x01\x00\x00", problem(ipv6.CodeOption, 42), false},
			{"A39 nothing behind", dest, "\x3b\x00\x01\x04\x00\x00\x00\x00", nil, false},
			{"A39 cut short", dest, "\x11\xff\x01\x04\x00\x00\x00\x00", nil, false},
		} {
			l := h.datagram(6000, "x")
			l.proto, l.text = x.next, []byte(x.headers+d)
			h.pass(2 * time.Second) // else we would have been told enough
			h.mail(l)
			if got := h.got(u); (len(got) == 1) != x.arrives {
				t.Errorf("%s: %q arrives, want it %v", x.name, got, x.arrives)
			}
			seen := h.sent()
			if x.answer == nil && len(seen) > 0 || x.answer != nil && (len(seen) != 1 || !bytes.Equal(seen[0].text[4:8], x.answer[4:]) || !bytes.Equal(seen[0].text[:2], x.answer[:2])) {
				t.Errorf("%s: answered by %v, want % x", x.name, seen, x.answer)
			}
		}
		for _, header := range []uint8{hop, dest} {
			// C168: to one host, and to a group, where option 11 is dropped as option 01 is
			for kind, want := range map[byte][2]string{0x3e: {"reply", "reply"}, 0x7e: {"", ""}, 0xbe: {"problem", "problem"}, 0xfe: {"problem", ""}} {
				for k, to := range []netip.Addr{h.peer, allNodes} {
					l := letter{dst: to, proto: header, text: append([]byte{ipv6.ProtoICMP, 0, kind, 4, 0, 0, 0, 0}, h.echo(h.us, to, "x").text...)}
					if k == 1 {
						l.mac = ethernet.Multicast(to)
					}
					h.pass(2 * time.Second)
					h.mail(l)
					seen, got := h.sent(), ""
					switch {
					case len(seen) == 1 && seen[0].text[0] == ipv6.EchoReply:
						got = "reply"
					case len(seen) == 1 && bytes.Equal(seen[0].text[4:], append([]byte{0, 0, 0, 42}, h.build(l)...)) && bytes.Equal(seen[0].text[:2], problem(ipv6.CodeOption, 42)[:2]):
						got = "problem"
					case len(seen) > 0:
						got = fmt.Sprint(seen)
					}
					if got != want[k] {
						t.Errorf("option %#x in header %d to %v: answered by %q, want %q", kind, header, to, got, want[k])
					}
				}
			}
		}
	})
}

// TestA39Jumbogram: RFC 2675 §3: a payload length of 0 says that a jumbo payload option follows; nobody here takes it.
func TestA39Jumbogram(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		if h.us.Is4() {
			return
		}
		l := letter{proto: ipv6.ProtoHopByHop, text: append([]byte{ipv6.ProtoUDP, 0, 0xc2, 4, 0, 1, 0, 0}, make([]byte, 100)...),
			bad: func(b []byte) []byte { b[4], b[5] = 0, 0; return b }}
		h.mail(l)
		h.silent("a jumbogram")
		if n := h.drops("bad-extension"); n != 1 {
			t.Errorf("counted as %v", h.stack.Stats().Drops)
		}
	})
}

// TestC140A35Memory: a flood of fragments takes no more than its share of the stack's account, honest fragments get through
// beside it, and all memory comes back.
func TestC140A35Memory(t *testing.T) {
	for _, limit := range []int64{0, 4 << 20} {
		bare(t, Config{Memory: limit}, func(h *tester) {
			share := int64(4 << 20)
			if limit > 0 {
				share = limit / 4
			}
			u := h.bind(6000)
			r := rand.New(rand.NewPCG(1, 2))
			whole, most := 0, int64(0)
			const packets = 20
			for id := range uint32(packets) {
				for _, f := range h.cut(h.datagram(6000, randomText(uint64(id), 20_000)), 50_000+id, 1448) {
					for n := range 50 {
						src := h.us.AsSlice()
						src[1], src[2], src[3] = byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())
						a, _ := netip.AddrFromSlice(src)
						evil := h.datagram(6000, randomText(0, 1000))
						evil.src = a
						h.mail(h.fragment(evil, r.Uint32(), 8, 8+8*(1+n)))
					}
					h.mail(f)
				}
				for _, got := range h.got(u) {
					if got == randomText(uint64(id), 20_000) {
						whole++
					}
				}
				most = max(most, h.stack.Stats().Memory)
			}
			if whole < packets/2 {
				t.Errorf("%d of %d honest datagrams arrive: %v", whole, packets, h.stack.Stats().Drops)
			}
			if most > share || most < share/2 {
				t.Errorf("%d octets held at most, of %d allowed", most, share)
			}
			h.pass(2 * time.Minute)
			if st := h.stack.Stats(); st.Memory != 0 || st.Drops["fragment-full"] == 0 || st.Drops["fragment-timeout"] == 0 {
				t.Errorf("%d octets are left; %v", st.Memory, st.Drops)
			}
		})
	}
}

// TestA48Flips: of a frame with one bit flipped, cut short, or padded, nothing arrives, or what was meant.
func TestA48Flips(t *testing.T) {
	links(t, func(h *tester) {
		u := h.bind(6000)
		const text = "what was meant"
		good := h.build(h.datagram(6000, text))
		if h.eth {
			e := ethernet.Header{Dst: h.ifc.mac, Src: h.mac, Type: ethernet.TypeIPv4}
			if h.us.Is6() {
				e.Type = ethernet.TypeIPv6
			}
			head := make([]byte, e.Len())
			e.Encode(head)
			good = append(head, good...)
		}
		try := func(what string, b []byte, must bool) {
			h.raw(b)
			got := h.got(u)
			if len(got) > 1 || len(got) == 1 && got[0] != text || must && len(got) == 0 {
				t.Errorf("%s: %q arrives", what, got)
			}
		}
		for bit := range 8 * len(good) {
			b := bytes.Clone(good)
			b[bit/8] ^= 0x80 >> (bit % 8)
			try(fmt.Sprintf("octet %d, bit %d flipped", bit/8, bit%8), b, false)
		}
		for n := 1; n < len(good); n++ {
			try(fmt.Sprintf("%d octets of %d", n, len(good)), good[:n], false)
		}
		for n := range 65 {
			try(fmt.Sprintf("%d octets of padding", n), append(bytes.Clone(good), make([]byte, n)...), true)
		}
	})
}

// TestA38Nested: IP within IP is a protocol that nobody here knows, however deep.
func TestA38Nested(t *testing.T) {
	links(t, func(h *tester) {
		inner, proto := h.build(h.echo(h.us, h.peer, "x")), uint8(4) // RFC 2003
		if h.us.Is6() {
			proto = 41 // RFC 2473
		}
		for range 30 {
			l := letter{proto: proto, text: inner}
			inner = h.build(l)
			h.mail(l)
			if p := h.one("IP within IP"); h.us.Is4() && (p.text[0] != ipv4.Unreachable || p.text[1] != ipv4.CodeProtocol) ||
				h.us.Is6() && (p.text[0] != ipv6.ParamProblem || p.text[1] != ipv6.CodeNextHeader) {
				t.Errorf("%d octets within: answered by % x", len(l.text), p.text[:8])
			}
			h.pass(time.Second)
		}
	})
}

// TestA41QuotedOptions: an error that quotes options of all kinds is read no further than it goes.
func TestA41QuotedOptions(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		if h.us.Is6() {
			return
		}
		u, err := h.stack.DialUDP("udp", netip.AddrPort{}, netip.AddrPortFrom(h.us, 7))
		if err != nil {
			t.Fatal(err)
		}
		u.Write([]byte("x"))
		sent := h.one("a datagram").packet
		for _, option := range []byte{0, 1, 7, 68, 131, 137, 200, 255} {
			for _, n := range []byte{0, 1, 2, 3, 40, 255} {
				options := bytes.Repeat([]byte{option, n}, 20)
				b := append(append(bytes.Clone(sent[:20]), options...), sent[20:]...)
				b[0], b[3] = 0x4f, byte(len(b))
				for k := range b {
					h.mail(letter{proto: ipv4.ProtoICMP, text: icmp4(ipv4.ICMP{Type: ipv4.Unreachable, Code: ipv4.CodePort, Body: b[:k]})})
				}
				h.idle()
				u.SetReadDeadline(time.Now().Add(time.Second))
				if _, err := u.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("option %d of length %d: %v", option, n, err)
				}
			}
		}
	})
}
