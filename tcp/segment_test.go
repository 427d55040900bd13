package tcp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// wire makes a segment of a header from hex (spaces are free) with these options, padded by zeros, and text.
func wire(t testing.TB, options, text string) []byte {
	t.Helper()
	o, err := hex.DecodeString(strings.ReplaceAll(options, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	for len(o)%4 != 0 {
		o = append(o, 0)
	}
	b := make([]byte, HeaderLen, HeaderLen+len(o)+len(text))
	b[12] = byte(HeaderLen+len(o)) / 4 << 4
	b[13] = byte(ACK)
	return append(append(b, o...), text...)
}

// The layout of RFC 9293 §3.1, octet by octet.
func TestSegmentLayout(t *testing.T) {
	s := Segment{Seq: 0x01020304, Ack: 0x05060708, Flags: SYN | ACK | CWR, Window: 0x1112, Urgent: 0x2122,
		Options: Options{MSS: 1460, WindowScale: 7, HasScale: true, SACKPermitted: true, HasTimestamps: true,
			TSVal: 0xa1a2a3a4, TSEcr: 0xb1b2b3b4, Blocks: 1, SACK: [4]Block{{0xc1c2c3c4, 0xd1d2d3d4}}}}
	const want = "c000 01bb 01020304 05060708 d092 1112 0000 2122" +
		"020405b4 0402 080aa1a2a3a4b1b2b3b4 01030307 0101050ac1c2c3c4d1d2d3d4"
	b := bytes.Repeat([]byte{0xff}, MaxHeaderLen)
	n := s.Encode(b, Ports{0xc000, 443})
	if got := hex.EncodeToString(b[:n]); got != strings.ReplaceAll(want, " ", "") {
		t.Errorf("Encode\n got %s\nwant %s", got, strings.ReplaceAll(want, " ", ""))
	}
	if n != HeaderLen+s.Options.Len() {
		t.Errorf("Encode wrote %d octets, Options.Len says %d", n, HeaderLen+s.Options.Len())
	}
	var d Segment
	p, err := d.Decode(b[:n])
	if err != nil || p != (Ports{0xc000, 443}) {
		t.Fatalf("Decode: ports %v, %v", p, err)
	}
	if !reflect.DeepEqual(d, s) {
		t.Errorf("Decode\n got %+v\nwant %+v", d, s)
	}
}

// MUST-7 and the rows C4 to C8, C74 and C75: options come in any shape, and none refuses a segment.
func TestOptionsMalformed(t *testing.T) {
	const ts = "080a 00000001 00000002"
	good := Options{HasTimestamps: true, TSVal: 1, TSEcr: 2}
	for _, tt := range []struct {
		name, options string
		want          Options
	}{
		{"C4 MUST-4: NOP, MSS, end, then junk", "01 01 020402bc 00 020405b4 ff", Options{MSS: 700}},
		{"C4 MUST-5: an end at once", "00 020405b4", Options{}},
		{"C5 MUST-6: unknown kinds", "fd0a0102030405060708 020402bc 1e02", Options{MSS: 700}},
		{"C5: a kind without a length at the end", "020402bc 010101 fd", Options{MSS: 700}},
		{"C6 MUST-7: length 0", "020402bc 0800 0102", Options{MSS: 700}},
		{"C6 MUST-7: length 0 of an unknown kind", "fd00" + ts, Options{}},
		{"C6 MUST-7: length 1", "020402bc 0801" + ts, Options{MSS: 700}},
		{"C6 MUST-7: more than is left", "020402bc 080a 00000001", Options{MSS: 700}},
		{"C6 MUST-7: length 255", "020402bc 08ff 0001", Options{MSS: 700}},
		{"C6 MUST-7: MSS of length 3", "0203bc" + ts, good},
		{"C6 MUST-7: MSS of length 2", "0202" + ts, good},
		{"C6 MUST-7: MSS of length 5", "0205000102" + ts, good},
		{"C6 MUST-7: timestamps of length 9", "0809 00000001 000000 020402bc", Options{MSS: 700}},
		{"C6 MUST-7: timestamps of length 11", "080b 00000001 00000002 ff 020402bc", Options{MSS: 700}},
		{"C6 MUST-7: window scale of length 4", "03040707" + ts, good},
		{"C6 MUST-7: window scale of length 2", "0302" + ts, good},
		{"C6 MUST-7: SACK-permitted of length 3", "040301" + ts, good},
		{"C6 MUST-7: SACK of length 3", "050301" + ts, good},
		{"C6 MUST-7: SACK of length 11", "050b010203040506070809" + ts, good},
		{"C6 MUST-7: SACK without blocks", "0502" + ts, good},
		{"C7 MUST-64: timestamps behind one NOP", "01" + ts, good},
		{"C7 MUST-64: no padding at all", "020405b4 030307 0402" + ts,
			Options{MSS: 1460, WindowScale: 7, HasScale: true, SACKPermitted: true, HasTimestamps: true, TSVal: 1, TSEcr: 2}},
		{"C75: a shift of 15 is told as it came", "03030f", Options{WindowScale: 15, HasScale: true}},
		{"C75: a shift of 255 is told as it came", "0303ff", Options{WindowScale: 255, HasScale: true}},
		{"a shift of 0 is an offer", "030300", Options{HasScale: true}},
		{"an MSS of 0 is none", "02040000", Options{}},
		{"the last of two counts", "020405b4 020402bc", Options{MSS: 700}},
		{"a second SACK takes the place of the first", "0512 00000001 00000002 00000003 00000004 050a 00000005 00000006",
			Options{Blocks: 1, SACK: [4]Block{{5, 6}}}},
		{"four blocks", "0522 00000001 00000002 00000003 00000004 00000005 00000006 00000007 00000008",
			Options{Blocks: 4, SACK: [4]Block{{1, 2}, {3, 4}, {5, 6}, {7, 8}}}},
		{"a kind alone in the last octet", strings.Repeat("01", 39) + "02", Options{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := Segment{Options: Options{MSS: 9, HasScale: true, Blocks: 3}} // of the segment before
			if _, err := s.Decode(wire(t, tt.options, "text")); err != nil {
				t.Fatal(err)
			}
			if s.Options != tt.want {
				t.Errorf("options\n got %+v\nwant %+v", s.Options, tt.want)
			}
			if len(s.Text) != 1 || string(s.Text[0]) != "text" {
				t.Errorf("text %q", s.Text)
			}
		})
	}
}

// The row C74: the data offset must lie in the segment, and reserved bits mean nothing. A refused segment leaves the
// struct as it was.
func TestSegmentDecodeLength(t *testing.T) {
	for _, tt := range []struct {
		name   string
		octets int
		b12    byte
		err    error
	}{
		{"nothing", 0, 0, ErrShort},
		{"one octet less than a header", 19, 0x50, ErrShort},
		{"a header", 20, 0x50, nil},
		{"offset 0", 20, 0x00, ErrOffset},
		{"offset 4", 40, 0x40, ErrOffset},
		{"offset 6, nothing behind the header", 20, 0x60, ErrOffset},
		{"offset 6, one octet missing", 23, 0x60, ErrOffset},
		{"offset 15, one octet missing", 59, 0xf0, ErrOffset},
		{"offset 15", 60, 0xf0, nil},
		{"reserved bits set", 20, 0x5f, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := make([]byte, tt.octets)
			if len(b) > 12 {
				b[12] = tt.b12
			}
			was := Segment{Seq: 1, Ack: 2, Flags: SYN, Cause: CauseData, Size: 3, Text: [][]byte{{4}}}
			s := was
			_, err := s.Decode(b)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil && !reflect.DeepEqual(s, was) {
				t.Errorf("a refused segment changed the struct: %+v", s)
			}
			if err == nil && !reflect.DeepEqual(s, Segment{Text: [][]byte{}}) {
				t.Errorf("something of the segment before is left: %+v", s)
			}
		})
	}
}

// TestSegmentDecodeBorrows: the text is b's memory, and no more of it than belongs to the segment.
func TestSegmentDecodeBorrows(t *testing.T) {
	b := wire(t, "", "hello")
	var s Segment
	if _, err := s.Decode(b); err != nil {
		t.Fatal(err)
	}
	if &s.Text[0][0] != &b[HeaderLen] || s.TextLen() != 5 {
		t.Errorf("text %q is a copy", s.Text)
	}
	if _, err := s.Decode(b[:HeaderLen]); err != nil || len(s.Text) != 0 {
		t.Errorf("%v, text %q of the segment before is left", err, s.Text)
	}
}

// randomOptions are options that the codec can carry, often all of them at once.
func randomOptions(r *rand.Rand) Options {
	var o Options
	if r.IntN(2) == 0 {
		o.MSS = uint16(r.Uint32())
	}
	if r.IntN(2) == 0 {
		o.HasScale, o.WindowScale = true, uint8(r.Uint32())
	}
	o.SACKPermitted = r.IntN(2) == 0
	if r.IntN(2) == 0 {
		o.HasTimestamps, o.TSVal, o.TSEcr = true, r.Uint32(), r.Uint32()
	}
	o.Blocks = uint8(r.IntN(5))
	for i := range o.SACK[:o.Blocks] {
		o.SACK[i] = Block{Seq(r.Uint32()), Seq(r.Uint32())}
	}
	return o
}

// carried is what a header has room for: blocks that do not fit are left out (RFC 2018 §3).
func carried(o Options) Options {
	n := 0
	if o.MSS != 0 {
		n += 4
	}
	if o.HasScale {
		n += 4
	}
	if o.HasTimestamps {
		n += 12
	} else if o.SACKPermitted {
		n += 4
	}
	for o.Blocks > 0 && n+4+8*int(o.Blocks) > 40 {
		o.Blocks--
		o.SACK[o.Blocks] = Block{}
	}
	return o
}

// TestSegmentRoundTrip: what is encoded is decoded the same, in a header as long as Len says, and a parser that
// forgives nothing finds every option whole and on a word boundary's padding only (MUST-68 and MUST-69, the row C8).
func TestSegmentRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	for range 3000 {
		s := Segment{Seq: Seq(r.Uint32()), Ack: Seq(r.Uint32()), Flags: Flags(r.Uint32()), Window: uint16(r.Uint32()),
			Urgent: uint16(r.Uint32()), Options: randomOptions(r), Text: [][]byte{make([]byte, 1+r.IntN(9))}}
		b := bytes.Repeat([]byte{0xff}, MaxHeaderLen)
		p := Ports{uint16(r.Uint32()), uint16(r.Uint32())}
		n := s.Encode(b, p)
		if n != HeaderLen+s.Options.Len() || n > MaxHeaderLen || n%4 != 0 || b[12] != byte(n/4)<<4 {
			t.Fatalf("Encode of %+v wrote %d octets, offset octet %#x", s, n, b[12])
		}
		strictOptions(t, b[HeaderLen:n])
		var d Segment
		q, err := d.Decode(append(b[:n], s.Text[0]...))
		s.Options = carried(s.Options)
		if err != nil || p != q || !reflect.DeepEqual(s, d) {
			t.Fatalf("%v, ports %v and %v\n got %+v\nwant %+v", err, q, p, d, s)
		}
	}
}

func strictOptions(t *testing.T, b []byte) {
	t.Helper()
	length := map[byte]byte{kindMSS: 4, kindWindowScale: 3, kindSACKPermitted: 2, kindTimestamps: 10}
	for i := 0; i < len(b); {
		if b[i] == kindNOP {
			i++
			continue
		}
		if i+1 >= len(b) || i+int(b[i+1]) > len(b) || b[i] == kindSACK && b[i+1]%8 != 2 || b[i] != kindSACK && length[b[i]] != b[i+1] {
			t.Fatalf("option at octet %d of %x", i, b)
		}
		i += int(b[i+1])
	}
}

// TestOptionsTooManyBlocks: a count beyond the array's length writes no more than there is.
func TestOptionsTooManyBlocks(t *testing.T) {
	o := Options{Blocks: 255}
	b := make([]byte, MaxHeaderLen-HeaderLen)
	if n := o.encode(b); n != 36 || o.Len() != 36 || b[3] != 34 {
		t.Errorf("255 blocks: %d octets, Len %d, option length %d; want four blocks in 36", n, o.Len(), b[3])
	}
}

func TestSegmentLen(t *testing.T) {
	for _, tt := range []struct {
		s    Segment
		text int
		end  Seq
		str  string
	}{
		{Segment{Seq: 300, Ack: 101, Flags: SYN | ACK}, 0, 301, "<SEQ=300><ACK=101><CTL=SYN,ACK>"},
		{Segment{Seq: 100, Ack: 9, Flags: SYN}, 0, 101, "<SEQ=100><CTL=SYN>"},
		{Segment{Seq: 101, Ack: 301, Flags: ACK, Text: [][]byte{{1, 2}, {3}}}, 3, 104, "<SEQ=101><ACK=301><DATA=3><CTL=ACK>"},
		{Segment{Seq: 0xffffffff, Flags: FIN | RST | PSH | URG | ECE | CWR, Text: [][]byte{{1}}}, 1, 1,
			"<SEQ=4294967295><DATA=1><CTL=FIN,RST,PSH,URG,ECE,CWR>"},
		{Segment{Seq: 0xfffffffe, Flags: SYN | FIN}, 0, 0, "<SEQ=4294967294><CTL=FIN,SYN>"},
		{Segment{Seq: 5}, 0, 5, "<SEQ=5><CTL=>"},
	} {
		if s := tt.s; s.TextLen() != tt.text || s.End() != tt.end || Seq(s.Len()) != tt.end-s.Seq || s.String() != tt.str {
			t.Errorf("%v: text %d, SEG.LEN %d, end %v; want %s, %d, %d, %v", s, s.TextLen(), s.Len(), s.End(), tt.str, tt.text,
				tt.end-s.Seq, tt.end)
		}
	}
}

// FuzzDecode: any octets decode or are refused, and what was decoded encodes and decodes to the same.
func FuzzDecode(f *testing.F) {
	for _, o := range []string{"", "020405b4 01030307 0402 080aa1a2a3a4b1b2b3b4", "0101050ac1c2c3c4d1d2d3d4", "0800", "0522", "fd",
		"080a 00000001 00000002 051a 000000010000000200000003000000040000000500000006 0204aaaa"} {
		f.Add(wire(f, o, "text"))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, d Segment
		p, err := s.Decode(b)
		if err != nil {
			if len(b) >= HeaderLen && !errors.Is(err, ErrOffset) || len(b) < HeaderLen && !errors.Is(err, ErrShort) {
				t.Fatalf("%d octets: %v", len(b), err)
			}
			return
		}
		if want := len(b) - int(b[12]>>4)*4; s.TextLen() != want {
			t.Fatalf("%d octets of text, want %d", s.TextLen(), want)
		}
		h := make([]byte, MaxHeaderLen)
		n := s.Encode(h, p)
		for _, x := range s.Text {
			h = append(h[:n], x...)
		}
		q, err := d.Decode(h[:n+s.TextLen()])
		s.Options = carried(s.Options)
		if err != nil || p != q || s.String() != d.String() || s.Options != d.Options || s.Window != d.Window ||
			s.Urgent != d.Urgent || !bytes.Equal(bytes.Join(s.Text, nil), bytes.Join(d.Text, nil)) {
			t.Fatalf("%v, ports %v and %v\n got %+v\nwant %+v", err, q, p, d, s)
		}
	})
}
