package pathmtu

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// TestC127C129Judge: what a router says has bounds, and where it says nothing the usual MTUs are tried.
func TestC127C129Judge(t *testing.T) {
	for _, x := range []struct {
		v4           bool
		said, length int
		want         Path
		ok           bool
	}{
		{true, 1300, 1500, Path{MTU: 1300}, true},
		{true, 1499, 1500, Path{MTU: 1499}, true},
		{true, 1500, 1500, Path{}, false}, // it would have passed
		{true, 9000, 1500, Path{}, false},
		{true, 0, 65535, Path{MTU: 32000}, true},
		{true, 0, 1500, Path{MTU: 1492}, true},
		{true, 0, 1492, Path{MTU: 1006}, true},
		{true, 0, 1006, Path{MTU: MinIPv4, Narrow: true}, true},
		{true, 0, 60, Path{MTU: MinIPv4, Narrow: true}, true},
		{true, 552, 1500, Path{MTU: 552}, true},
		{true, 551, 1500, Path{MTU: MinIPv4, Narrow: true}, true},
		{true, 68, 1500, Path{MTU: MinIPv4, Narrow: true}, true},
		{true, 20, 1500, Path{MTU: MinIPv4, Narrow: true}, true},
		{false, 1280, 1500, Path{MTU: 1280}, true},
		{false, 1279, 1500, Path{}, false}, // RFC 8021: no atomic fragments
		{false, 600, 1500, Path{}, false},
		{false, 0, 1500, Path{}, false},
		{false, 1500, 1500, Path{}, false},
	} {
		got, ok := Judge(x.v4, x.said, x.length)
		if ok != x.ok || ok && got != x.want {
			t.Errorf("IPv4 %v, said %d of %d: %+v, %v; want %+v, %v", x.v4, x.said, x.length, got, ok, x.want, x.ok)
		}
	}
}

// TestC128Ages: an MTU only falls, until it is forgotten.
func TestC128Ages(t *testing.T) {
	var c Cache
	a, b := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")
	if _, ok := c.Deadline(); ok || c.To(0, a) != (Path{}) {
		t.Error("an empty cache knows something")
	}
	if !c.Learn(0, a, Path{MTU: 1400}) || c.Learn(0, a, Path{MTU: 1400}) || c.Learn(0, a, Path{MTU: 1450}) {
		t.Error("what is news is not")
	}
	c.Learn(time.Minute, b, Path{MTU: 1300})
	if !c.Learn(2*time.Minute, a, Path{MTU: 1200}) || c.To(3*time.Minute, a).MTU != 1200 {
		t.Errorf("%+v", c.To(3*time.Minute, a))
	}
	if at, ok := c.Deadline(); !ok || at != Age || c.Expire(at) {
		t.Errorf("a deadline at %v, and something expires", at)
	}
	if at, _ := c.Deadline(); at != Age+time.Minute || !c.Expire(at) || c.Len() != 1 || c.To(at, b) != (Path{}) || c.To(at, a).MTU != 1200 {
		t.Errorf("after the first deadline %d are left", c.Len())
	}
	if at, _ := c.Deadline(); at != Age+2*time.Minute || c.To(at, a) != (Path{}) || !c.Expire(at) || c.Len() != 0 {
		t.Errorf("after the second deadline %d are left", c.Len())
	}
	if !c.Learn(0, a, Path{MTU: 552}) || !c.Learn(0, a, Path{MTU: 552, Narrow: true}) || c.Learn(0, a, Path{MTU: 552}) {
		t.Error("that the path is narrow is no news")
	}
}

// TestBounded: whatever is learned, no more than MaxEntries are kept, and the newest is.
func TestBounded(t *testing.T) {
	var c Cache
	for i := range uint32(3 * MaxEntries) {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], i)
		dst := netip.AddrFrom4(a)
		c.Learn(time.Duration(i), dst, Path{MTU: 1400})
		if c.Len() > MaxEntries || c.To(time.Duration(i), dst).MTU != 1400 {
			t.Fatalf("after %d: %d entries, %+v", i, c.Len(), c.To(time.Duration(i), dst))
		}
	}
}
