package ipv6

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

var (
	testGroup  = netip.MustParseAddr("ff0e::db8:1")
	testSource = netip.MustParseAddr("2001:db8::1")
)

func TestMLDDecode(t *testing.T) {
	none := netip.IPv6Unspecified()
	group, zero := testGroup.AsSlice(), make([]byte, 16)
	for _, c := range []struct {
		name string
		m    ICMP
		want MLD
		err  error
	}{
		{"RFC 2710 query", ICMP{Type: 130, Rest: 10000 << 16, Body: zero}, MLD{Type: ListenerQuery, Version: 1, MaxResponse: 10000, Group: none}, nil},
		{"RFC 2710 has no floating point", ICMP{Type: 130, Rest: 0xffff << 16, Body: group}, MLD{Type: ListenerQuery, Version: 1, MaxResponse: 65535, Group: testGroup}, nil},
		{"RFC 9777 query", ICMP{Type: 130, Rest: 1000 << 16, Body: slices.Concat(zero, []byte{2, 125, 0, 0})},
			MLD{Type: ListenerQuery, Version: 2, MaxResponse: 1000, Group: none, Robustness: 2, Interval: 125, Sources: []byte{}}, nil},
		{"RFC 9777 §5.1.3 floating point", ICMP{Type: 130, Rest: 0x8000 << 16, Body: slices.Concat(zero, []byte{0xff, 0xff, 0, 0})},
			MLD{Type: ListenerQuery, Version: 2, MaxResponse: 32768, Group: none, Suppress: true, Robustness: 7, Interval: 31744, Sources: []byte{}}, nil},
		{"RFC 9777 query with sources", ICMP{Type: 130, Body: slices.Concat(group, []byte{0, 0, 0, 1}, testSource.AsSlice(), []byte("more"))},
			MLD{Type: ListenerQuery, Version: 2, Group: testGroup, Sources: testSource.AsSlice()}, nil},
		{"RFC 2710 report", ICMP{Type: 131, Body: group}, MLD{Type: ListenerReportV1, Group: testGroup}, nil},
		{"RFC 2710 done", ICMP{Type: 132, Body: group}, MLD{Type: ListenerDone, Group: testGroup}, nil},
		{"RFC 9777 report", ICMP{Type: 143, Rest: 0xffff0003, Body: []byte("records")}, MLD{Type: ListenerReportV2, Group: none, NumRecords: 3, Records: []byte("records")}, nil},
		{"RFC 9777 §8.1 query of 26 octets", ICMP{Type: 130, Body: append(zero, 0, 0)}, MLD{}, ErrMLDLength},
		{"sources that are not there", ICMP{Type: 130, Body: slices.Concat(group, []byte{0, 0, 0, 2}, testSource.AsSlice())}, MLD{}, ErrMLDLength},
		{"short", ICMP{Type: 130, Body: zero[:15]}, MLD{}, ErrMLDLength},
		{"query of a host", ICMP{Type: 130, Body: testSource.AsSlice()}, MLD{}, ErrMLDGroup},
		{"report of no group", ICMP{Type: 131, Body: zero}, MLD{}, ErrMLDGroup},
		{"another type", ICMP{Type: 133, Body: zero}, MLD{}, ErrMLDType},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := MLD{Suppress: true, Interval: 99}
			if err := m.Decode(&c.m); err != c.err || err == nil && !reflect.DeepEqual(m, c.want) {
				t.Errorf("%+v, %v, want %+v, %v", m, err, c.want, c.err)
			}
		})
	}
}

func TestMLDEncode(t *testing.T) {
	record := GroupRecord{Type: BlockOldSources, Group: testGroup, Sources: []netip.Addr{testSource}}
	for _, m := range []MLD{
		{Type: ListenerQuery, Version: 1, Group: testGroup, MaxResponse: 65535},
		{Type: ListenerQuery, Version: 2, Group: testGroup, MaxResponse: 8387584, Suppress: true, Robustness: 7, Interval: 128, Sources: testSource.AsSlice()},
		{Type: ListenerReportV1, Group: testGroup},
		{Type: ListenerDone, Group: testGroup},
		{Type: ListenerReportV2, Group: netip.IPv6Unspecified(), NumRecords: 1, Records: record.Append(nil)},
	} {
		msg := m.Encode(bytes.Repeat([]byte{0xee}, m.Len()))
		var got MLD
		if err := got.Decode(&msg); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v came back as %+v, %v", m, got, err)
		}
		if msg := m.Encode(make([]byte, m.Len()-1)); msg.Type != 0 {
			t.Errorf("Encode of %+v without room: %+v", m, msg)
		}
	}
	for n := range 9_000_000 / 7 {
		if v := responseValue(responseCode(n * 7)); v > n*7 || n*7 < 8387584 && (n*7-v)*4096 > n*7 {
			t.Fatalf("%d ms are told as %d", n*7, v)
		}
	}
	for n := range 40000 {
		if v := intervalValue(intervalCode(n)); v > n || n <= 127 && v != n {
			t.Fatalf("%d s are told as %d", n, v)
		}
	}
}

func TestGroupRecord(t *testing.T) {
	r := GroupRecord{Type: ChangeToInclude, Group: testGroup, Sources: []netip.Addr{testSource, netip.MustParseAddr("203.0.113.1"), testSource.Next()}}
	b := r.Append([]byte("before"))[6:]
	var got GroupRecord
	if n, err := got.Decode(b); n != len(b) || err != nil || fmt.Sprint(got.Sources) != fmt.Sprint([]netip.Addr{testSource, testSource.Next()}) || got.Group != testGroup {
		t.Errorf("%+v came back as %+v, %d octets of %d, %v", r, got, n, len(b), err)
	}
	for n := range b {
		if _, err := got.Decode(b[:n]); err != ErrShort {
			t.Errorf("%d octets: %v", n, err)
		}
	}
	four := GroupRecord{Group: netip.MustParseAddr("233.252.0.1")}
	if b := four.Append(nil); b != nil {
		t.Errorf("an IPv4 group: % x", b)
	}
}

// RFC 2711 §2.1.
func TestRouterAlert(t *testing.T) {
	ours := RouterAlertMLD()
	var c Chain
	if err := c.Walk(ProtoHopByHop, append(ours[:], make([]byte, 8)...)); err != nil || c.Protocol != ProtoICMP || c.Offset != 8 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, c := range []struct {
		next uint8
		p    []byte
		want bool
	}{
		{ProtoHopByHop, ours[:], true},
		{ProtoHopByHop, []byte{58, 0, 0, 0, 5, 2, 0, 0}, true},
		{ProtoHopByHop, []byte{58, 1, 0x1e, 4, 1, 2, 3, 4, 5, 2, 0, 0, 1, 2, 0, 0}, true},
		{ProtoHopByHop, []byte{58, 0, 1, 4, 5, 2, 0, 0}, false},
		{ProtoHopByHop, []byte{58, 0, 5, 3, 0, 0, 0, 0}, false},
		{ProtoHopByHop, []byte{58, 1, 5, 2, 0, 0, 1, 0}, false},
		{ProtoHopByHop, []byte{58, 0, 0, 0, 0, 0, 0, 5}, false},
		{ProtoDestOpts, ours[:], false},
		{ProtoICMP, make([]byte, 8), false},
		{ProtoHopByHop, nil, false},
	} {
		if got := RouterAlert(c.next, c.p); got != c.want {
			t.Errorf("%d, % x: %v", c.next, c.p, got)
		}
	}
}

func FuzzMLD(f *testing.F) {
	f.Add(uint8(130), uint32(0x9234)<<16, slices.Concat(testGroup.AsSlice(), []byte{0xa, 200, 0, 1}, testSource.AsSlice()))
	f.Add(uint8(143), uint32(1), slices.Concat([]byte{5, 0, 0, 1}, testGroup.AsSlice(), testSource.AsSlice()))
	f.Add(uint8(0), uint32(0), []byte{58, 0, 5, 2, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, kind uint8, rest uint32, body []byte) {
		RouterAlert(kind, body)
		var m, again MLD
		if m.Decode(&ICMP{Type: kind, Rest: rest, Body: body}) != nil {
			return
		}
		for k := range len(m.Sources) / 16 {
			m.Source(k)
		}
		msg := m.Encode(make([]byte, m.Len()))
		if err := again.Decode(&msg); err != nil || !reflect.DeepEqual(m, again) {
			t.Errorf("type %d, %x, % x is %+v, and written and read again %+v, %v", kind, rest, body, m, again, err)
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
