package ipv6

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// opts is a hop-by-hop or destination options header of those options, padded to 8 octets with a PadN.
func opts(next uint8, options ...byte) string {
	b := append([]byte{next, 0}, options...)
	if n := (8 - len(b)%8) % 8; n == 1 {
		b = append(b, OptionPad1)
	} else if n > 1 {
		b = append(append(b, OptionPadN, byte(n-2)), make([]byte, n-2)...)
	}
	b[1] = byte(len(b)/8 - 1)
	return string(b)
}

func routing(next, kind, left uint8) string { return string([]byte{next, 0, kind, left, 0, 0, 0, 0}) }

func fragment(next uint8, offset int, more bool) string {
	f := uint16(offset)
	if more {
		f |= 1
	}
	return string(binary.BigEndian.AppendUint16([]byte{next, 0}, f)) + "\x00\x00\x00\x07"
}

func TestWalk(t *testing.T) {
	const hop, dest, rt, frag = ProtoHopByHop, ProtoDestOpts, ProtoRouting, ProtoFragment
	udp := strings.Repeat("u", 16)
	for _, c := range []struct {
		name string
		next uint8
		p    string
		want Chain
	}{
		{"RFC 8200 §4 none", ProtoUDP, udp, Chain{Protocol: ProtoUDP, Pointer: -1}},
		{"C166 hop-by-hop first", hop, opts(ProtoUDP) + udp, Chain{Protocol: ProtoUDP, Offset: 8}},
		{"C166 any order, destination options twice", hop,
			opts(dest) + opts(rt) + routing(dest, 0, 0) + opts(ProtoTCP) + udp,
			Chain{Protocol: ProtoTCP, Offset: 32, Pointer: 24}},
		{"C167 unknown next header ends the chain", dest, opts(254) + udp, Chain{Protocol: 254, Offset: 8}},
		{"C167 no next header", dest, opts(ProtoNoNext) + "ignored", Chain{Protocol: ProtoNoNext, Offset: 8}},
		{"C168 00 is skipped", dest, opts(ProtoUDP, 0x3e, 2, 0, 0) + udp, Chain{Protocol: ProtoUDP, Offset: 8}},
		{"C169 router alert", hop, opts(ProtoICMP, OptionRouterAlert, 2, 0, 0) + udp, Chain{Protocol: ProtoICMP, Offset: 8}},
		{"C169 seven Pad1", dest, opts(ProtoUDP, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0) + udp,
			Chain{Protocol: ProtoUDP, Offset: 16}},
		{"C169 eight options", dest, opts(ProtoUDP, bytes.Repeat([]byte{0x1e, 0}, 8)...) + udp,
			Chain{Protocol: ProtoUDP, Offset: 24}},
		{"C169 PadN of 253 in the longest header", dest, opts(ProtoUDP, bytes.Repeat(append([]byte{OptionPadN, 253}, make([]byte, 253)...), 8)...) + udp,
			Chain{Protocol: ProtoUDP, Offset: 2048}},
		{"C170 routing header, nothing left", rt, routing(ProtoUDP, 0, 0) + udp, Chain{Protocol: ProtoUDP, Offset: 8}},
		{"C170 unknown type, nothing left", rt, routing(ProtoUDP, 99, 0) + udp, Chain{Protocol: ProtoUDP, Offset: 8}},
		{"C173 atomic fragment", frag, fragment(ProtoUDP, 0, false) + udp, Chain{Protocol: ProtoUDP, Offset: 8, Atomic: true}},
		{"C173 atomic fragment of odd length, more headers", dest, opts(frag) + fragment(dest, 0, false) + opts(ProtoUDP) + "u",
			Chain{Protocol: ProtoUDP, Offset: 24, Pointer: 16, Atomic: true}},
		{"RFC 8200 §4.5 first fragment", frag, fragment(ProtoUDP, 0, true) + udp,
			Chain{Protocol: ProtoUDP, Offset: 8, Pointer: -1, Fragment: true, More: true, FragID: 7}},
		{"RFC 8200 §4.5 last fragment, behind a header", dest, opts(frag) + fragment(ProtoTCP, 1232, false) + "odd",
			Chain{Protocol: ProtoTCP, Offset: 16, Fragment: true, FragHeader: 8, FragOffset: 1232, FragID: 7}},
		{"RFC 8200 §4.5 what follows a later fragment's header is data", frag, fragment(dest, 8, true) + udp,
			Chain{Protocol: dest, Offset: 8, Pointer: -1, Fragment: true, FragOffset: 8, More: true, FragID: 7}},
		{"C174 chain goes on in the first fragment", frag, fragment(dest, 0, true) + opts(ProtoUDP) + udp,
			Chain{Protocol: dest, Offset: 8, Pointer: -1, Fragment: true, More: true, FragID: 7}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got Chain
			if err := got.Walk(c.next, []byte(c.p)); err != nil || got != c.want {
				t.Errorf("Walk(%d, %x) = %v\n got %+v\nwant %+v", c.next, c.p, err, got, c.want)
			}
		})
	}
}

func TestWalkRefuses(t *testing.T) {
	const hop, dest, rt, frag = ProtoHopByHop, ProtoDestOpts, ProtoRouting, ProtoFragment
	silent := func(reason error) Problem { return Problem{Reason: reason, Silent: true} }
	for _, c := range []struct {
		name string
		next uint8
		p    string
		want Problem
	}{
		{"C166 hop-by-hop second", dest, opts(hop) + opts(6), Problem{Reason: ErrHopByHop, Code: CodeNextHeader, Pointer: 0}},
		{"C166 hop-by-hop third", hop, opts(dest) + opts(hop) + opts(6),
			Problem{Reason: ErrHopByHop, Code: CodeNextHeader, Pointer: 8}},
		{"C166 hop-by-hop behind an atomic fragment", frag, fragment(hop, 0, false) + opts(6),
			Problem{Reason: ErrHopByHop, Code: CodeNextHeader, Pointer: 0}},
		{"C168 01 in hop-by-hop", hop, opts(6, 0x7e, 0), silent(ErrOption)},
		{"C168 10 in hop-by-hop", hop, opts(6, 0xbe, 0), Problem{Reason: ErrOption, Code: CodeOption, Pointer: 2, Multicast: true}},
		{"C168 11 in hop-by-hop", hop, opts(6, 0xfe, 0), Problem{Reason: ErrOption, Code: CodeOption, Pointer: 2}},
		{"C168 01 in destination options", dest, opts(6, 0x7e, 0), silent(ErrOption)},
		{"C168 10 in destination options", dest, opts(6, 1, 0, 0xbe, 0),
			Problem{Reason: ErrOption, Code: CodeOption, Pointer: 4, Multicast: true}},
		{"C168 11 in destination options, second header", hop, opts(dest) + opts(6, 0xfe, 0),
			Problem{Reason: ErrOption, Code: CodeOption, Pointer: 10}},
		{"A39 jumbo payload", hop, opts(6, 0xc2, 4, 0, 1, 0, 0), Problem{Reason: ErrOption, Code: CodeOption, Pointer: 2}},
		{"C169 option beyond the header", dest, "\x06\x00\x1e\x05xxxx", silent(ErrShort)},
		{"C169 PadN beyond the header", dest, "\x06\x00\x01\x05xxxx", silent(ErrShort)},
		{"C169 option without a length", dest, "\x06\x00\x01\x03xxx\x1e", silent(ErrShort)},
		{"C169 eight Pad1", dest, opts(6, make([]byte, 8)...), silent(ErrLimit)},
		{"C169 nine options", dest, opts(6, bytes.Repeat([]byte{0x1e, 0}, 9)...), silent(ErrLimit)},
		{"C170 type 0, segments left", rt, routing(6, 0, 1), Problem{Reason: ErrRouting, Code: CodeHeader, Pointer: 2}},
		{"C170 unknown type, segments left", dest, opts(rt) + routing(6, 99, 255),
			Problem{Reason: ErrRouting, Code: CodeHeader, Pointer: 10}},
		{"C171 length not of 8", dest, opts(frag) + fragment(17, 0, true) + "123456789",
			Problem{Reason: ErrFragment, Code: CodeHeader, Pointer: 4 - HeaderLen}},
		{"C171 beyond 65535", frag, fragment(17, 65528, false) + "12345678",
			Problem{Reason: ErrFragment, Code: CodeHeader, Pointer: 2}},
		{"C171 beyond 65535 with the headers before", dest, opts(frag) + fragment(17, 65520, false) + "12345678",
			Problem{Reason: ErrFragment, Code: CodeHeader, Pointer: 10}},
		{"RFC 8200 §4.5 nothing in it", frag, fragment(17, 8, false), silent(ErrFragment)},
		{"C174 no upper-layer header", frag, fragment(6, 0, true), Problem{Reason: ErrChain, Code: CodeChain, Pointer: -HeaderLen}},
		{"A34 TCP header cut", frag, fragment(6, 0, true) + strings.Repeat("\x50", 16),
			Problem{Reason: ErrChain, Code: CodeChain, Pointer: -HeaderLen}},
		{"A34 TCP options cut", frag, fragment(6, 0, true) + strings.Repeat("\x70", 24),
			Problem{Reason: ErrChain, Code: CodeChain, Pointer: -HeaderLen}},
		{"C174 cut in an extension header", frag, fragment(dest, 0, true) + "\x06\x01\x01\x0cxxxx",
			Problem{Reason: ErrChain, Code: CodeChain, Pointer: -HeaderLen}},
		{"C174 cut behind an extension header", frag, fragment(dest, 0, true) + opts(17),
			Problem{Reason: ErrChain, Code: CodeChain, Pointer: -HeaderLen}},
		{"A39 fragment in a fragment", frag, fragment(frag, 0, true) + fragment(17, 0, true) + "12345678",
			Problem{Reason: ErrChain, Code: CodeChain, Pointer: -HeaderLen}},
		{"A39 nine headers", dest, strings.Repeat(opts(dest), 8) + opts(6), silent(ErrLimit)},
		{"A39 a hundred headers", dest, strings.Repeat(opts(dest), 99) + opts(6), silent(ErrLimit)},
		{"A39 a hundred atomic fragments", frag, strings.Repeat(fragment(frag, 0, false), 100), silent(ErrLimit)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var chain Chain
			err := chain.Walk(c.next, []byte(c.p))
			var got *Problem
			if !errors.As(err, &got) || *got != c.want || !errors.Is(err, c.want.Reason) || err.Error() != c.want.Reason.Error() {
				t.Errorf("Walk(%d, %x) = %+v, want %+v", c.next, c.p, err, c.want)
			}
		})
	}
}

// TestC180WalkQuoted: a quoted packet is cut off anywhere: its first fragment is walked through all the same.
func TestC180WalkQuoted(t *testing.T) {
	for _, c := range []struct {
		name string
		p    string
		want Chain
		err  error
	}{
		{"first fragment, cut off", fragment(ProtoUDP, 0, true) + "port", Chain{Protocol: ProtoUDP, Offset: 8}, nil},
		{"first fragment, more headers", fragment(ProtoDestOpts, 0, true) + opts(ProtoTCP), Chain{Protocol: ProtoTCP, Offset: 16, Pointer: 8}, nil},
		{"first fragment, cut within a header", fragment(ProtoDestOpts, 0, true) + opts(ProtoTCP)[:7], Chain{}, ErrShort},
		{"later fragment", fragment(ProtoUDP, 8, true) + "text",
			Chain{Protocol: ProtoUDP, Offset: 8, Pointer: -1, Fragment: true, FragOffset: 8, More: true, FragID: 7}, nil},
		{"cut within the Fragment header", fragment(ProtoUDP, 0, true)[:7], Chain{}, ErrShort},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got Chain
			err := got.WalkQuoted(ProtoFragment, []byte(c.p))
			got.quoted = false
			if !errors.Is(err, c.err) || err == nil && got != c.want {
				t.Errorf("%v, %+v, want %v, %+v", err, got, c.err, c.want)
			}
		})
	}
}

func TestWalkEveryTruncation(t *testing.T) {
	p := opts(ProtoDestOpts) + opts(ProtoFragment, 0x1e, 8, 1, 2, 3, 4, 5, 6, 7, 8) + fragment(ProtoRouting, 0, false) + routing(6, 0, 0)
	var c Chain
	if err := c.Walk(ProtoHopByHop, []byte(p)); err != nil || c.Offset != len(p) {
		t.Fatalf("Walk = %v, %+v, want all %d octets", err, c, len(p))
	}
	for n := range len(p) {
		if err := c.Walk(ProtoHopByHop, []byte(p)[:n:n]); !errors.Is(err, ErrShort) {
			t.Errorf("C169 %d octets of %d: %v, want %v", n, len(p), err, ErrShort)
		}
	}
}

func TestProblemOctet(t *testing.T) {
	for _, c := range []struct {
		name    string
		pointer int
		want    uint32
	}{
		{"C167 the fixed header's next header", PointerNextHeader, 6},
		{"C168 first option", 2, 42},
		{"C171 payload length", 4 - HeaderLen, 4},
		{"C174 start of the packet", -HeaderLen, 0},
	} {
		if p := (&Problem{Pointer: c.pointer}); p.Octet() != c.want {
			t.Errorf("%s: octet %d, want %d", c.name, p.Octet(), c.want)
		}
	}
	var c Chain
	if err := c.Walk(254, nil); err != nil {
		t.Fatal(err)
	}
	var p *Problem
	if !errors.As(c.Unrecognized(), &p) || p.Code != CodeNextHeader || p.Octet() != 6 || p.Silent {
		t.Errorf("C167 next header 254: %+v, want code 1 and octet 6", p)
	}
}

func FuzzWalk(f *testing.F) {
	f.Add(ProtoHopByHop, []byte(opts(ProtoDestOpts)+opts(ProtoFragment, 0x1e, 0)+fragment(ProtoRouting, 0, false)+routing(6, 0, 0)))
	f.Add(ProtoFragment, []byte(fragment(ProtoUDP, 0, true)+"12345678"))
	f.Add(ProtoFragment, []byte{})
	f.Fuzz(func(t *testing.T, next uint8, p []byte) {
		var c Chain
		if err := c.WalkQuoted(next, p); err == nil && (c.Offset > len(p) || c.Fragment && c.FragOffset == 0) {
			t.Errorf("quoted: %+v of %d octets", c, len(p))
		}
		if err := c.Walk(next, p); err != nil {
			var problem *Problem
			if !errors.As(err, &problem) || problem.Reason == nil ||
				!problem.Silent && int(problem.Octet()) >= HeaderLen+len(p) {
				t.Errorf("a problem with %d octets of payload: %+v", len(p), err)
			}
			return
		}
		if c.Offset > len(p) || c.Pointer >= c.Offset && c.Pointer >= 0 || c.Fragment && c.FragHeader+fragmentLen != c.Offset {
			t.Errorf("%+v of %d octets", c, len(p))
		}
		if !c.Fragment && isExtension(c.Protocol) {
			t.Errorf("%+v ends with an extension header", c)
		}
		if c.Fragment && c.FragHeader+c.FragOffset+len(p)-c.Offset > MaxPayload {
			t.Errorf("%+v of %d octets comes out too long", c, len(p))
		}
	})
}

// UDP behind two slips.
func ExampleChain_Walk() {
	payload := []byte("\x3c\x00\x05\x02\x00\x00\x01\x00" + // hop-by-hop: Router Alert, padding; next 60
		"\x11\x00\x01\x04\x00\x00\x00\x00" + // destination options: padding; next 17
		"a UDP datagram")
	var c Chain
	if err := c.Walk(ProtoHopByHop, payload); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("protocol %d: %s\n", c.Protocol, payload[c.Offset:])
	// Output: protocol 17: a UDP datagram
}
