package tcptest

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/seed87e66d9f/waybill/tcp"
)

// The kinds of TCP options that a script has names for (IANA, TCP Option Kind Numbers).
const (
	optionEOL           = 0
	optionNOP           = 1
	optionMSS           = 2
	optionWindowScale   = 3
	optionSACKPermitted = 4
	optionSACK          = 5
	optionTimestamps    = 8
	optionFastOpen      = 34
)

// clockAhead is how far the script's clock of timestamps is ahead of the real end's, so that the two are told apart.
const clockAhead = 10000

// pattern251 is the octet at n of a stream. A prime period makes shifted text differ.
func pattern251(n int64) byte { return byte(n % 251) }

// streamText are the octets [from, from+n) of a stream.
func streamText(from int64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = pattern251(from + int64(i))
	}
	return b
}

// arrival makes the i-th segment of a run as the real end decodes it.
func (s *scene) arrival(p *pattern, i int) (seg tcp.Segment, err error) {
	head := tcp.Segment{
		Seq: s.theirs + tcp.Seq(uint32(p.seq)), Flags: p.flags, Window: 65535, Urgent: uint16(p.urgent),
	}
	from := p.seq
	if p.ackBy == 0 {
		from += int64(i) * int64(p.length)
		head.Seq = s.theirs + tcp.Seq(uint32(from))
	}
	if p.hasAck {
		head.Ack = s.ours + tcp.Seq(uint32(p.ack+int64(i)*p.ackBy))
	}
	if p.window >= 0 {
		head.Window = uint16(p.window)
	}
	if i < p.count-1 {
		head.Flags &^= tcp.PSH
	}
	if p.flags.Has(tcp.SYN) {
		from++ // text of a SYN stands behind it
	}
	options, err := s.encodeOptions(p.options)
	if err != nil {
		return seg, err
	}
	wire := make([]byte, tcp.MaxHeaderLen)
	n := head.Encode(wire, tcp.Ports{Src: 2, Dst: 1})
	wire = append(wire[:n], options...)
	wire[12] = byte(len(wire)/4) << 4
	wire = append(wire, streamText(from, p.length)...)
	_, err = seg.Decode(wire)
	seg.ECN = p.ecn
	return seg, err
}

// encodeOptions writes options as octets, padded to a word.
func (s *scene) encodeOptions(list []string) (b []byte, err error) {
	for _, o := range list {
		if b, err = s.encodeOption(b, strings.Fields(o)); err != nil {
			return nil, fmt.Errorf("option %q: %w", o, err)
		}
	}
	for len(b)%4 != 0 {
		b = append(b, optionEOL)
	}
	if len(b) > tcp.MaxHeaderLen-tcp.HeaderLen {
		return nil, errors.New("more options than a header holds")
	}
	return b, nil
}

func (s *scene) encodeOption(b []byte, f []string) ([]byte, error) {
	if len(f) == 0 {
		return nil, errors.New("nothing")
	}
	n, bad := uint64(0), error(nil)
	if len(f) == 2 && f[0] != "sack" && f[0] != "FO" {
		n, bad = strconv.ParseUint(f[1], 10, 16)
	}
	switch {
	case f[0] == "kind" && len(f) > 1:
		kind, err := strconv.ParseUint(f[1], 10, 8)
		v, errHex := hex.DecodeString(strings.Join(f[2:], ""))
		return append(append(b, byte(kind), byte(2+len(v))), v...), errors.Join(err, errHex)
	case bad != nil:
		return nil, bad
	case f[0] == "nop" && len(f) == 1:
		return append(b, optionNOP), nil
	case f[0] == "eol" && len(f) == 1:
		return append(b, optionEOL), nil
	case f[0] == "sackOK" && len(f) == 1:
		return append(b, optionSACKPermitted, 2), nil
	case f[0] == "mss" && len(f) == 2:
		return binary.BigEndian.AppendUint16(append(b, optionMSS, 4), uint16(n)), nil
	case f[0] == "wscale" && len(f) == 2 && n < 256:
		return append(b, optionWindowScale, 3, byte(n)), nil
	case f[0] == "TS" && (len(f) == 1 || len(f) == 5 && f[1] == "val" && f[3] == "ecr"):
		val, ecr := uint32(s.now.Milliseconds()+clockAhead), s.lastVal
		var err error
		if len(f) == 5 {
			val, err = number(f[2], val)
			ecr2, err2 := number(f[4], ecr)
			ecr, err = ecr2, errors.Join(err, err2)
		}
		b = binary.BigEndian.AppendUint32(append(b, optionTimestamps, 10), val)
		return binary.BigEndian.AppendUint32(b, ecr), err
	case f[0] == "FO" && len(f) <= 2:
		return s.encodeCookie(b, f[1:])
	case f[0] == "sack":
		return s.encodeSACK(b, f[1:])
	}
	return nil, errors.New("unknown")
}

// number is a number as it is written, or otherwise where a star stands.
func number(s string, otherwise uint32) (uint32, error) {
	if s == "*" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

// encodeCookie writes a Fast Open option: with a cookie as it is written, with the real end's where a star stands, or without.
func (s *scene) encodeCookie(b []byte, f []string) ([]byte, error) {
	var v []byte
	var err error
	if len(f) > 0 {
		if v, err = hex.DecodeString(f[0]); f[0] == "*" {
			v, err = s.cookie.AppendTo(nil), nil
		}
	}
	return append(append(b, optionFastOpen, byte(2+len(v))), v...), err
}

// encodeSACK writes blocks of the real end's text.
func (s *scene) encodeSACK(b []byte, blocks []string) ([]byte, error) {
	b = append(b, optionSACK, byte(2+8*len(blocks)))
	for _, k := range blocks {
		from, to, _ := strings.Cut(k, ":")
		for _, edge := range []string{from, to} {
			n, err := strconv.ParseInt(edge, 10, 64)
			if err != nil {
				return nil, err
			}
			b = binary.BigEndian.AppendUint32(b, uint32(s.ours)+uint32(n))
		}
	}
	return b, nil
}

// relative is a sequence number less where it counts from. What lies before comes out negative.
func relative(n, base tcp.Seq) int64 { return int64(int32(n - base)) }

// compare says what of a departure differs from the i-th segment of a run; "" where nothing does.
func (s *scene) compare(p *pattern, i int, seg *tcp.Segment) string {
	flags, from := p.flags, p.seq
	if p.ackBy == 0 {
		from += int64(i) * int64(p.length)
	}
	if i < p.count-1 {
		flags &^= tcp.PSH
	}
	text := slices.Concat(seg.Text...)
	at := from
	if flags.Has(tcp.SYN) {
		at++
	}
	switch {
	case seg.Flags != flags:
		return "flags"
	case s.seqOf(seg) != from:
		return "sequence number"
	case len(text) != p.length:
		return "length"
	case p.hasAck && relative(seg.Ack, s.theirs) != p.ack+int64(i)*p.ackBy:
		return "acknowledgement"
	case p.window >= 0 && int(seg.Window) != p.window:
		return "window"
	case int(seg.Urgent) != p.urgent:
		return "urgent pointer"
	case seg.ECN != p.ecn:
		return "ECN"
	case p.size >= 0 && int(seg.Size) != p.size:
		return "size of the packets"
	case !p.anyOptions && !sameOptions(p.options, s.decodeOptions(seg)):
		return "options"
	case p.cause != "" && p.cause != seg.Cause.String():
		return "cause"
	case string(text) != string(streamText(at, len(text))):
		return "text: these are not the octets that were written"
	}
	return ""
}

// seqOf is a departure's sequence number. A reset of nobody has 0 as it stands (RFC 9293 §3.10.7.1).
func (s *scene) seqOf(seg *tcp.Segment) int64 {
	if seg.Seq == 0 && seg.Flags == tcp.RST|tcp.ACK {
		return 0
	}
	return relative(seg.Seq, s.ours)
}

// sameOptions compares options one by one. A star is any number.
func sameOptions(want, got []string) bool {
	return slices.EqualFunc(want, got, func(w, g string) bool {
		if w == "TS" {
			return strings.HasPrefix(g, "TS ")
		}
		return slices.EqualFunc(strings.Fields(w), strings.Fields(g), func(w, g string) bool { return w == "*" || w == g })
	})
}

// decodeOptions reads the options of a departure as they stand in the header.
func (s *scene) decodeOptions(seg *tcp.Segment) (list []string) {
	wire := make([]byte, tcp.MaxHeaderLen)
	for b := wire[tcp.HeaderLen:seg.Encode(wire, tcp.Ports{})]; len(b) > 0; {
		n := 1
		switch b[0] {
		case optionEOL:
			list = append(list, "eol")
		case optionNOP:
			list = append(list, "nop")
		default:
			if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
				return append(list, "broken")
			}
			n = int(b[1])
			list = append(list, s.decodeOption(b[0], b[2:n]))
		}
		b = b[n:]
	}
	return list
}

func (s *scene) decodeOption(kind byte, v []byte) string {
	switch {
	case kind == optionMSS && len(v) == 2:
		return fmt.Sprintf("mss %d", binary.BigEndian.Uint16(v))
	case kind == optionWindowScale && len(v) == 1:
		return fmt.Sprintf("wscale %d", v[0])
	case kind == optionSACKPermitted && len(v) == 0:
		return "sackOK"
	case kind == optionTimestamps && len(v) == 8:
		return fmt.Sprintf("TS val %d ecr %d", binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:]))
	case kind == optionFastOpen:
		return strings.TrimSpace(fmt.Sprintf("FO %x", v))
	case kind == optionSACK && len(v)%8 == 0:
		list := "sack"
		for ; len(v) > 0; v = v[8:] {
			list += fmt.Sprintf(" %d:%d", relative(tcp.Seq(binary.BigEndian.Uint32(v)), s.theirs),
				relative(tcp.Seq(binary.BigEndian.Uint32(v[4:])), s.theirs))
		}
		return list
	}
	return fmt.Sprintf("kind %d %x", kind, v)
}

// show is a departure as a script writes it.
func (s *scene) show(seg *tcp.Segment) string {
	var b strings.Builder
	b.WriteString("> ")
	for _, x := range flagLetters {
		if seg.Flags.Has(x.flag) {
			b.WriteString(x.letter)
		}
	}
	n := seg.TextLen()
	fmt.Fprintf(&b, " %d:%d(%d)", s.seqOf(seg), s.seqOf(seg)+int64(n), n)
	if seg.Flags.Has(tcp.ACK) {
		fmt.Fprintf(&b, " ack %d", relative(seg.Ack, s.theirs))
	}
	fmt.Fprintf(&b, " win %d", seg.Window)
	if seg.Urgent != 0 {
		fmt.Fprintf(&b, " urg %d", seg.Urgent)
	}
	if seg.ECN != 0 {
		fmt.Fprintf(&b, " ecn %s", ecnNames[seg.ECN&3])
	}
	if seg.Size != 0 {
		fmt.Fprintf(&b, " size %d", seg.Size)
	}
	if o := s.decodeOptions(seg); len(o) > 0 {
		fmt.Fprintf(&b, " <%s>", strings.Join(o, ","))
	}
	if seg.Cause != tcp.CauseNone {
		fmt.Fprintf(&b, " (%s)", seg.Cause)
	}
	return b.String()
}
