package ipv4

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"github.com/seed87e66d9f/waybill/internal/checksum"
)

var testGroup = netip.MustParseAddr("233.252.0.1")

// summed is a message with its checksum.
func summed(b ...byte) []byte {
	s := ^checksum.Sum(b, 0)
	b[2], b[3] = byte(s>>8), byte(s)
	return b
}

func TestIGMPDecode(t *testing.T) {
	none := netip.IPv4Unspecified()
	for _, c := range []struct {
		name string
		b    []byte
		want IGMP
		err  error
	}{
		{"RFC 1112 query", summed(0x11, 0, 0, 0, 0, 0, 0, 0), IGMP{Type: IGMPQuery, Version: 1, Group: none}, nil},
		{"RFC 2236 query", summed(0x11, 100, 0, 0, 0, 0, 0, 0), IGMP{Type: IGMPQuery, Version: 2, MaxResponse: 100, Group: none}, nil},
		{"RFC 2236 query of a group", summed(0x11, 10, 0, 0, 233, 252, 0, 1), IGMP{Type: IGMPQuery, Version: 2, MaxResponse: 10, Group: testGroup}, nil},
		{"RFC 9776 query", summed(0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0),
			IGMP{Type: IGMPQuery, Version: 3, MaxResponse: 100, Group: none, Robustness: 2, Interval: 125, Sources: []byte{}}, nil},
		{"RFC 9776 query with sources", summed(0x11, 0, 0, 0, 233, 252, 0, 1, 0xff, 0, 0, 1, 203, 0, 113, 1, 99),
			IGMP{Type: IGMPQuery, Version: 3, Group: testGroup, Suppress: true, Robustness: 7, Sources: []byte{203, 0, 113, 1}}, nil},
		{"RFC 9776 §4.1.1 floating point", summed(0x11, 0x80, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0),
			IGMP{Type: IGMPQuery, Version: 3, MaxResponse: 128, Group: none, Interval: 31744, Sources: []byte{}}, nil},
		{"RFC 1112 report", summed(0x12, 0, 0, 0, 233, 252, 0, 1), IGMP{Type: IGMPReportV1, Group: testGroup}, nil},
		{"RFC 2236 report", summed(0x16, 0, 0, 0, 233, 252, 0, 1), IGMP{Type: IGMPReportV2, Group: testGroup}, nil},
		{"RFC 2236 leave", summed(0x17, 0, 0, 0, 233, 252, 0, 1), IGMP{Type: IGMPLeave, Group: testGroup}, nil},
		{"RFC 9776 report", summed(0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 233, 252, 0, 1),
			IGMP{Type: IGMPReportV3, Group: none, NumRecords: 1, Records: []byte{4, 0, 0, 0, 233, 252, 0, 1}}, nil},
		{"RFC 9776 §7.1 query of 10 octets", summed(0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0), IGMP{}, ErrIGMPLength},
		{"sources that are not there", summed(0x11, 0, 0, 0, 233, 252, 0, 1, 0, 0, 0, 2, 203, 0, 113, 1), IGMP{}, ErrIGMPLength},
		{"query of a host", summed(0x11, 0, 0, 0, 203, 0, 113, 1), IGMP{}, ErrIGMPGroup},
		{"report of no group", summed(0x16, 0, 0, 0, 0, 0, 0, 0), IGMP{}, ErrIGMPGroup},
		{"another type", summed(0x13, 0, 0, 0, 0, 0, 0, 0), IGMP{}, ErrIGMPType},
		{"wrong checksum", []byte{0x16, 0, 0, 0, 233, 252, 0, 1}, IGMP{}, ErrChecksum},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := IGMP{Suppress: true, Interval: 99}
			if err := m.Decode(c.b); err != c.err || err == nil && !reflect.DeepEqual(m, c.want) {
				t.Errorf("%+v, %v, want %+v, %v", m, err, c.want, c.err)
			}
		})
	}
	for n := range IGMPLen {
		var m IGMP
		if err := m.Decode(make([]byte, n)); err != ErrShort {
			t.Errorf("%d octets: %v, want %v", n, err, ErrShort)
		}
	}
}

func TestIGMPEncode(t *testing.T) {
	record := GroupRecord{Type: AllowNewSources, Group: testGroup, Sources: []netip.Addr{alice, bob}}
	for _, m := range []IGMP{
		{Type: IGMPQuery, Version: 1, Group: netip.IPv4Unspecified()},
		{Type: IGMPQuery, Version: 2, Group: testGroup, MaxResponse: 255},
		{Type: IGMPQuery, Version: 3, Group: testGroup, MaxResponse: 31744, Suppress: true, Robustness: 7, Interval: 128, Sources: []byte{203, 0, 113, 1}},
		{Type: IGMPReportV1, Group: testGroup},
		{Type: IGMPLeave, Group: testGroup},
		{Type: IGMPReportV3, Group: netip.IPv4Unspecified(), NumRecords: 1, Records: record.Append(nil)},
	} {
		b := bytes.Repeat([]byte{0xee}, 64)
		n := m.Encode(b)
		var got IGMP
		if err := got.Decode(b[:n]); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v came back as %+v, %v", m, got, err)
		}
		if n := m.Encode(b[:n-1]); n != 0 {
			t.Errorf("Encode of %+v without room = %d, want 0", m, n)
		}
	}
	m := IGMP{Type: IGMPLeave, Group: netip.MustParseAddr("ff02::1")}
	if n := m.Encode(make([]byte, 64)); n != 0 {
		t.Errorf("Encode of an IPv6 group = %d", n)
	}
}

// RFC 9776 §4.1.1: a time that has no code of its own is rounded down, never up.
func TestIGMPCodes(t *testing.T) {
	for n := range 40000 {
		v := codeValue(valueCode(n))
		if v > n || n <= 127 && v != n || n >= 128 && n < 31744 && (n-v)*16 > n {
			t.Fatalf("%d is told as %d", n, v)
		}
	}
}

func TestGroupRecord(t *testing.T) {
	r := GroupRecord{Type: ChangeToInclude, Group: testGroup, Sources: []netip.Addr{alice, netip.MustParseAddr("::1"), bob}}
	b := r.Append([]byte("before"))[6:]
	var got GroupRecord
	if n, err := got.Decode(b); n != len(b) || err != nil || fmt.Sprint(got.Sources) != fmt.Sprint([]netip.Addr{alice, bob}) || got.Group != testGroup {
		t.Errorf("%+v came back as %+v, %d octets of %d, %v", r, got, n, len(b), err)
	}
	for n := range b {
		if _, err := got.Decode(b[:n]); err != ErrShort {
			t.Errorf("%d octets: %v", n, err)
		}
	}
	with := append([]byte{4, 1, 0, 0, 233, 252, 0, 1}, "data, more"...) // RFC 9776 §4.2.11: auxiliary data is skipped
	if n, err := got.Decode(with); n != 12 || err != nil || len(got.Sources) != 0 {
		t.Errorf("with auxiliary data: %d, %v, %+v", n, err, got)
	}
	six := GroupRecord{Group: netip.MustParseAddr("ff02::1")}
	if b := six.Append(nil); b != nil {
		t.Errorf("an IPv6 group: % x", b)
	}
}

func TestRouterAlert(t *testing.T) {
	for _, c := range []struct {
		options []byte
		want    bool
	}{
		{nil, false}, {[]byte{148, 4, 0, 0}, true}, {[]byte{1, 1, 148, 4, 0, 0}, true}, {[]byte{7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0}, true},
		{[]byte{0, 148, 4, 0, 0}, false}, {[]byte{148, 5, 0, 0, 0}, false}, {[]byte{148}, false}, {[]byte{7, 148, 4}, false},
	} {
		h := Header{Options: c.options}
		if got := h.RouterAlert(); got != c.want {
			t.Errorf("% x: %v", c.options, got)
		}
	}
}

func FuzzIGMP(f *testing.F) {
	f.Add(summed(0x11, 0x9a, 0, 0, 233, 252, 0, 1, 0x0a, 125, 0, 1, 203, 0, 113, 1))
	f.Add(summed(0x22, 0, 0, 0, 0, 0, 0, 1, 5, 0, 0, 1, 233, 252, 0, 1, 203, 0, 113, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m, again IGMP
		if len(b) >= IGMPLen {
			b[2], b[3] = 0, 0
			b = summed(b...)
		}
		if m.Decode(b) != nil {
			return
		}
		for k := range len(m.Sources) / 4 {
			m.Source(k)
		}
		out := make([]byte, len(b)+8)
		n := m.Encode(out)
		if err := again.Decode(out[:n]); err != nil || !reflect.DeepEqual(m, again) {
			t.Errorf("% x is %+v, and written and read again %+v, %v", b, m, again, err)
		}
		var r, r2 GroupRecord
		for p := m.Records; len(p) > 0; {
			n, err := r.Decode(p)
			if err != nil {
				break
			}
			if _, err := r2.Decode(r.Append(nil)); err != nil || r2.Group != r.Group || len(r2.Sources) != len(r.Sources) {
				t.Errorf("%+v came back as %+v, %v", r, r2, err)
			}
			p = p[n:]
		}
	})
}
