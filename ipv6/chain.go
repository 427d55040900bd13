package ipv6

import "encoding/binary"

// Limits on what Walk reads, so that a packet cannot buy much work.
const (
	// MaxHeaders is how many extension headers a packet may have. RFC 8200 §4.1 recommends at most seven, destination
	// options twice; one more for good measure.
	MaxHeaders = 8
	// MaxOptions is how many options other than padding an extension header may have: the default of RFC 8504 §5.3.
	MaxOptions = 8
	// MaxPad1 is how many Pad1 options may stand in a row: RFC 8504 §5.3, since a PadN does for more.
	MaxPad1 = 7
)

// Options of hop-by-hop and destination options headers that are padding, RFC 8200 §4.2, and the one that routers
// should look at.
const (
	OptionPad1        uint8 = 0 // a single octet
	OptionPadN        uint8 = 1
	OptionRouterAlert uint8 = 5 // RFC 2711
)

const fragmentLen = 8 // RFC 8200 §4.5: octets in a Fragment header

// PointerNextHeader is the Pointer of the NextHeader octet in the fixed header.
const PointerNextHeader = -1

// Problem is what a header chain has wrong, and how to tell its sender: an ICMPv6 Parameter Problem (RFC 4443 §3.4), if
// RFC 4443 §2.4 lets one be sent about the packet at all.
type Problem struct {
	Reason    error // the sentinel, for errors.Is: ErrShort, ErrHopByHop, ErrOption, …
	Code      uint8 // of the Parameter Problem
	Pointer   int   // octets from the start of the payload; PointerNextHeader; or below that, in the fixed header
	Multicast bool  // to be sent even if the packet was to a multicast address
	Silent    bool  // nothing is to be sent
}

// Error is the text of the reason.
func (p *Problem) Error() string { return p.Reason.Error() }

// Unwrap is the reason.
func (p *Problem) Unwrap() error { return p.Reason }

// Octet is the pointer as the Parameter Problem carries it: octets from the start of the packet.
func (p *Problem) Octet() uint32 {
	if p.Pointer == PointerNextHeader {
		return 6 // RFC 8200 §3
	}
	return uint32(HeaderLen + p.Pointer)
}

// Chain is what Walk found between the fixed header and what the packet carries.
//
// Of a fragment only the headers before the Fragment header are walked. The data of fragment, payload[Offset:], has
// its place at FragOffset in the fragmentable part; what a stack puts together has the first FragHeader octets of the
// payload in front, with Protocol at the place that Pointer names, and is then walked as a whole.
type Chain struct {
	Protocol   uint8  // the first header that is not an extension header; of a fragment, what the fragmentable part begins with
	Offset     int    // where that header is, octets from the start of the payload
	Pointer    int    // where the octet is that named Protocol, or of a fragment the Fragment header, as in Problem
	Fragment   bool   // the packet is one part of several
	Atomic     bool   // there is a Fragment header, though the packet is all there is (RFC 6946)
	FragHeader int    // where the Fragment header is, octets from the start of the payload
	FragOffset int    // octets, a multiple of 8
	More       bool   // not the last fragment
	FragID     uint32 // the same in all fragments of a packet
	problem    Problem
	quoted     bool
}

// Walk goes along the extension headers of the payload p, of which the fixed header's NextHeader says that it begins
// with next. The error is a *Problem in memory of c's, or nil, and with an error the rest of c holds nothing of use.
// Headers that are not extension headers of RFC 8200 (the Authentication Header among them) end the chain; if the caller
// does not know Protocol either, Unrecognized has the answer.
func (c *Chain) Walk(next uint8, p []byte) error {
	*c = Chain{Protocol: next, Pointer: PointerNextHeader}
	return c.walk(p)
}

// WalkQuoted is Walk for the payload of a packet that an ICMP message quotes, which is cut off somewhere. A first
// fragment is walked to its end, and what Walk demands of the lengths of fragments is not judged.
func (c *Chain) WalkQuoted(next uint8, p []byte) error {
	*c = Chain{Protocol: next, Pointer: PointerNextHeader, quoted: true}
	return c.walk(p)
}

func (c *Chain) walk(p []byte) error {
	for headers := 0; ; headers++ {
		if !isExtension(c.Protocol) {
			return nil
		}
		if headers == MaxHeaders {
			return c.silent(ErrLimit)
		}
		if c.Protocol == ProtoFragment {
			if err := c.fragment(p); err != nil || c.Fragment {
				return err
			}
			continue
		}
		h := extension(p[c.Offset:])
		if h == nil {
			return c.silent(ErrShort)
		}
		if err := c.extension(h); err != nil {
			return err
		}
		c.Protocol, c.Pointer = h[0], c.Offset
		c.Offset += len(h)
	}
}

// Unrecognized is the problem with a packet whose Protocol the caller does not know: a *Problem in memory of c's.
func (c *Chain) Unrecognized() error {
	return c.fail(Problem{Reason: ErrNextHeader, Code: CodeNextHeader, Pointer: c.Pointer})
}

func (c *Chain) fail(p Problem) error {
	c.problem = p
	return &c.problem
}

func (c *Chain) silent(reason error) error {
	return c.fail(Problem{Reason: reason, Silent: true})
}

func isExtension(next uint8) bool {
	switch next {
	case ProtoHopByHop, ProtoRouting, ProtoFragment, ProtoDestOpts:
		return true
	}
	return false
}

// extension is the hop-by-hop, routing or destination options header that p begins with, or nil if p has not all of it.
func extension(p []byte) []byte {
	// RFC 8200 §4.3: "Length of the Hop-by-Hop Options header in 8-octet units, not including the first 8 octets."
	if len(p) < 8 || len(p) < 8+int(p[1])*8 {
		return nil
	}
	return p[:8+int(p[1])*8]
}

// extension judges the header h, which is at c.Offset and of type c.Protocol.
func (c *Chain) extension(h []byte) error {
	switch c.Protocol {
	case ProtoRouting:
		// RFC 8200 §4.4: "If Segments Left is non-zero, the node must discard the packet and send an ICMP Parameter Problem,
		// Code 0, message to the packet's Source Address, pointing to the unrecognized Routing Type." A host knows none;
		// type 0 is as unknown as the others (RFC 5095 §3).
		if h[3] != 0 {
			return c.fail(Problem{Reason: ErrRouting, Code: CodeHeader, Pointer: c.Offset + 2})
		}
		return nil
	case ProtoHopByHop:
		// RFC 8200 §4.1 has them "restricted to appear immediately after an IPv6 header only"; elsewhere the Next Header
		// value 0 is an unrecognized one (§4).
		if c.Pointer != PointerNextHeader {
			return c.fail(Problem{Reason: ErrHopByHop, Code: CodeNextHeader, Pointer: c.Pointer})
		}
	}
	return c.options(h)
}

// options walks the options of h, a hop-by-hop or destination options header at c.Offset.
func (c *Chain) options(h []byte) error {
	pads, options := 0, 0
	for i := 2; i < len(h); {
		if h[i] == OptionPad1 {
			i++
			if pads++; pads > MaxPad1 {
				return c.silent(ErrLimit)
			}
			continue
		}
		pads = 0
		if i+2 > len(h) || i+2+int(h[i+1]) > len(h) {
			return c.silent(ErrShort)
		}
		if h[i] != OptionPadN {
			if options++; options > MaxOptions {
				return c.silent(ErrLimit)
			}
			if err := c.option(h[i], c.Offset+i); err != nil {
				return err
			}
		}
		i += 2 + int(h[i+1])
	}
	return nil
}

// option judges the option type at that place, none of which needs anything done here.
func (c *Chain) option(kind uint8, at int) error {
	// RFC 8200 §4.2: "The Option Type identifiers are internally encoded such that their highest-order 2 bits specify the
	// action that must be taken if the processing IPv6 node does not recognize the Option Type"
	switch kind >> 6 {
	case 0: // skip over it; Router Alert is one of these
		return nil
	case 1: // discard the packet
		return c.silent(ErrOption)
	case 2: // and send a Parameter Problem, to a multicast address or not
		return c.fail(Problem{Reason: ErrOption, Code: CodeOption, Pointer: at, Multicast: true})
	default: // only if it was not to a multicast address
		return c.fail(Problem{Reason: ErrOption, Code: CodeOption, Pointer: at})
	}
}

// fragment reads the Fragment header at c.Offset of p.
func (c *Chain) fragment(p []byte) error {
	h := p[c.Offset:]
	if len(h) < fragmentLen {
		return c.silent(ErrShort)
	}
	at, data := c.Offset, h[fragmentLen:]
	f := binary.BigEndian.Uint16(h[2:])
	offset, more := int(f&^7), f&1 != 0
	if offset == 0 && (!more || c.quoted) {
		// RFC 6946 §4: a packet that is its only fragment is processed apart from any other of the same identification
		c.Atomic = !more
		c.Protocol, c.Pointer = h[0], at
		c.Offset += fragmentLen
		return nil
	}
	c.Fragment, c.FragHeader = true, at
	c.FragOffset, c.More, c.FragID = offset, more, binary.BigEndian.Uint32(h[4:])
	c.Protocol, c.Offset = h[0], at+fragmentLen // Pointer stays
	if c.quoted {
		return nil
	}

	// RFC 8200 §4.5: "If the length of a fragment, as derived from the fragment packet's Payload Length field, is not a
	// multiple of 8 octets and the M flag of that fragment is 1, then that fragment must be discarded"
	if more && len(data)%8 != 0 {
		return c.fail(Problem{Reason: ErrFragment, Code: CodeHeader, Pointer: 4 - HeaderLen})
	}
	// The same for what would come out at more than 65,535 octets, with the pointer to the Fragment Offset.
	if at+offset+len(data) > MaxPayload {
		return c.fail(Problem{Reason: ErrFragment, Code: CodeHeader, Pointer: at + 2})
	}
	if offset == 0 && !whole(h[0], data) {
		// RFC 8200 §4.5: "If the first fragment does not include all headers through an Upper-Layer header, then that
		// fragment should be discarded and an ICMP Parameter Problem, Code 3, message should be sent to the source of the
		// fragment, with the Pointer field set to zero."
		return c.fail(Problem{Reason: ErrChain, Code: CodeChain, Pointer: -HeaderLen})
	}
	if len(data) == 0 { // the RFC has nothing to say of a fragment that brings nothing, and nobody has a use for one
		return c.silent(ErrFragment)
	}
	return nil
}

// whole reports whether p, which begins with a header of type next, holds all headers through the upper-layer one.
func whole(next uint8, p []byte) bool {
	for headers := 0; isExtension(next); headers++ {
		h := extension(p)
		// A fragment within a fragment is none that a sender makes (RFC 8200 §4.5), and would have the receiver go round.
		if h == nil || next == ProtoFragment || headers == MaxHeaders {
			return false
		}
		next, p = h[0], p[len(h):]
	}
	switch next {
	case ProtoTCP: // RFC 9293 §3.1: the Data Offset counts words, in the high half of octet 12
		return len(p) >= 20 && len(p) >= int(p[12]>>4)*4
	case ProtoUDP:
		return len(p) >= 8 // RFC 768
	case ProtoICMP:
		return len(p) >= ICMPLen
	}
	return true
}
