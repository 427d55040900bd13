package tcp

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
)

// HeaderLen is the length in octets of a TCP header without options (RFC 9293 §3.1).
const HeaderLen = 20

// MaxHeaderLen is the longest header: a data offset of 15 words (RFC 9293 §3.1).
const MaxHeaderLen = 60

// Flags are the control bits of RFC 9293 §3.1, as they stand in the header's fourteenth octet.
type Flags uint8

// The control bits.
const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// Has reports whether all the bits of f are set.
func (g Flags) Has(f Flags) bool { return g&f == f }

// String lists the bits as RFC 9293 does in CTL, such as "SYN,ACK".
func (g Flags) String() string {
	var b strings.Builder
	for _, n := range [...]struct {
		f Flags
		s string
	}{{FIN, "FIN"}, {SYN, "SYN"}, {RST, "RST"}, {PSH, "PSH"}, {URG, "URG"}, {ECE, "ECE"}, {CWR, "CWR"}, {ACK, "ACK"}} {
		if g&n.f != 0 {
			if b.Len() > 0 {
				b.WriteByte(',')
			}
			b.WriteString(n.s)
		}
	}
	return b.String()
}

// Cause says why a segment was made.
type Cause uint8

// The causes.
const (
	CauseNone         Cause = iota // a segment that was received, or that no connection made
	CauseData                      // new text, SYN or FIN
	CauseAck                       // nothing but an acknowledgement that was due
	CauseChallenge                 // an acknowledgement that answers a suspicious segment (RFC 5961)
	CauseWindowUpdate              // the receive window opened
	CauseRTO                       // retransmission: the timer expired (RFC 6298)
	CauseFast                      // retransmission: duplicate acknowledgements said that a segment is lost (RFC 5681)
	CauseTLP                       // a tail loss probe (RFC 8985)
	CauseMTU                       // retransmission: the path asked for smaller packets (RFC 1191)
	CauseWindowProbe               // a zero-window probe (RFC 9293 §3.8.6.1)
	CauseKeepAlive                 // a keep-alive probe (RFC 9293 §3.8.4)
	CauseReset                     // a reset
	CauseMTUProbe                  // new text in a packet longer than is known to pass (RFC 4821)
)

var causeNames = [...]string{"", "data", "acknowledgement", "challenge", "window update", "RTO", "fast retransmit",
	"tail loss probe", "MTU", "window probe", "keep-alive", "reset",
	"MTU probe"}

// String is the cause in words.
func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return "unknown"
}

// Ports are the two ports of a header.
type Ports struct{ Src, Dst uint16 }

// Segment is what a header says, apart from ports and checksum, with the text behind it.
// The checksum is the stack's affair: it knows the pseudo-header, and whether the device sums instead.
type Segment struct {
	Seq     Seq
	Ack     Seq // meaningful where Flags has ACK
	Flags   Flags
	ECN     uint8  // the two ECN bits of the IP header (RFC 3168 §5): NotECT, ECT1, ECT0 or CE
	Window  uint16 // as on the wire, not scaled
	Urgent  uint16 // the urgent pointer; meaningful where Flags has URG
	Size    uint16 // payload octets of one wire packet where this is a super-segment of several; 0: one packet
	Cause   Cause
	Options Options
	Text    [][]byte // borrowed: one slice or none when received, views of the send pipe when sent
	// Buffer is where the memory of received Text is kept, which begins At octets from its start; nil where the memory is
	// not to be had. A TCB that keeps the text as it stands puts another slice of the same length there.
	Buffer *[]byte
	At     int
}

// What Decode finds wrong with a header.
var (
	ErrShort  = errors.New("tcp: header cut short")
	ErrOffset = errors.New("tcp: data offset outside the segment")
)

// Decode reads a header and points Text at what follows it. The memory of s.Text's array is used again, so a Segment
// that is kept allocates nothing; the text itself is borrowed from b. Options that are malformed are passed over
// (RFC 9293 §3.1, MUST-7): a segment is refused only where its length is nonsense.
func (s *Segment) Decode(b []byte) (Ports, error) {
	if len(b) < HeaderLen {
		return Ports{}, ErrShort
	}
	n := int(b[12]>>4) * 4
	if n < HeaderLen || n > len(b) {
		return Ports{}, ErrOffset
	}
	s.Seq = Seq(binary.BigEndian.Uint32(b[4:]))
	s.Ack = Seq(binary.BigEndian.Uint32(b[8:]))
	s.Flags = Flags(b[13])
	s.ECN = 0
	s.Window = binary.BigEndian.Uint16(b[14:])
	s.Urgent = binary.BigEndian.Uint16(b[18:])
	s.Size = 0
	s.Cause = CauseNone
	s.Options = Options{}
	if n > HeaderLen {
		s.Options.decode(b[HeaderLen:n])
	}
	s.Text, s.Buffer = s.Text[:0], nil
	if len(b) > n {
		s.Text = append(s.Text, b[n:])
	}
	return Ports{binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])}, nil
}

// Encode writes the header into b, which has room for MaxHeaderLen octets, with a checksum of zero and without the
// text. It returns the header's length.
func (s *Segment) Encode(b []byte, p Ports) int {
	_ = b[MaxHeaderLen-1]
	n := HeaderLen + s.Options.encode(b[HeaderLen:MaxHeaderLen])
	binary.BigEndian.PutUint16(b, p.Src)
	binary.BigEndian.PutUint16(b[2:], p.Dst)
	binary.BigEndian.PutUint32(b[4:], uint32(s.Seq))
	binary.BigEndian.PutUint32(b[8:], uint32(s.Ack))
	b[12] = byte(n/4) << 4
	b[13] = byte(s.Flags)
	binary.BigEndian.PutUint16(b[14:], s.Window)
	binary.BigEndian.PutUint16(b[16:], 0)
	binary.BigEndian.PutUint16(b[18:], s.Urgent)
	return n
}

// TextLen is the number of octets of text.
func (s *Segment) TextLen() int {
	n := 0
	for _, t := range s.Text {
		n += len(t)
	}
	return n
}

// Len is SEG.LEN: the octets of text, counting SYN and FIN (RFC 9293 §3.4).
func (s *Segment) Len() int {
	n := s.TextLen()
	if s.Flags&SYN != 0 {
		n++
	}
	if s.Flags&FIN != 0 {
		n++
	}
	return n
}

// End is the sequence number behind the segment: SEG.SEQ+SEG.LEN.
func (s *Segment) End() Seq { return s.Seq + Seq(s.Len()) }

// String is the segment in the notation of RFC 9293 §3.5, such as <SEQ=300><ACK=101><CTL=SYN,ACK>.
func (s Segment) String() string {
	var b strings.Builder
	b.WriteString("<SEQ=" + s.Seq.String() + ">")
	if s.Flags&ACK != 0 {
		b.WriteString("<ACK=" + s.Ack.String() + ">")
	}
	if n := s.TextLen(); n > 0 {
		b.WriteString("<DATA=" + strconv.Itoa(n) + ">")
	}
	b.WriteString("<CTL=" + s.Flags.String() + ">")
	return b.String()
}
