package autoconf

import (
	"net/netip"
	"testing"
	"time"
)

func TestC190Detector(t *testing.T) {
	a, b := netip.MustParseAddr("2001:db8::a"), netip.MustParseAddr("2001:db8::b")
	d := Detector{Nonce: [6]byte{1}}
	if _, ok := d.Deadline(); ok {
		t.Error("something is due of nothing")
	}
	asked := func(now time.Duration, want ...netip.Addr) {
		t.Helper()
		for _, w := range append(want, netip.Addr{}) {
			if got, ok := d.Next(now); got != w || ok != w.IsValid() {
				t.Errorf("at %v it asks for %v, %v; want %v", now, got, ok, w)
			}
		}
	}
	sure := func(now time.Duration, want netip.Addr) {
		t.Helper()
		if got, ok := d.Sure(now); got != want || ok != want.IsValid() {
			t.Errorf("at %v it is sure of %v, want %v", now, got, want)
		}
	}
	d.Begin(0, 0, a)
	d.Begin(0, 500*time.Millisecond, b)
	asked(0, a)
	asked(500*time.Millisecond, b)
	sure(time.Second-1, netip.Addr{})
	if at, _ := d.Deadline(); at != time.Second {
		t.Errorf("the deadline is %v", at)
	}
	sure(time.Second, a)
	sure(time.Second, netip.Addr{})
	d.End(b)
	sure(time.Hour, netip.Addr{})

	// RFC 7527: while the network sends our own questions back, three more at a time, and no verdict.
	now := 2 * time.Hour
	d.Begin(now, 0, a)
	asked(now, a)
	if d.Heard(a, [6]byte{2}) {
		t.Error("another's nonce is ours")
	}
	for range 5 {
		if !d.Heard(a, d.Nonce) {
			t.Error("our own question is not known")
		}
		now += time.Second
		sure(now, netip.Addr{})
		for k := range 3 {
			asked(now, a)
			if k < 2 {
				now += time.Second
				sure(now, netip.Addr{})
			}
		}
	}
	now += time.Second
	sure(now, a)

	d.Retrans = 3 * time.Second
	d.Begin(now, 0, a)
	asked(now, a)
	d.Begin(now+time.Second, 0, a) // the link has come back: anew
	asked(now+time.Second, a)
	sure(now+3*time.Second, netip.Addr{})
	sure(now+4*time.Second, a)
	for k := range 1000 {
		d.Begin(now, 0, netip.AddrFrom16([16]byte{0x20, 14: byte(k >> 8), 15: byte(k)}))
	}
	if len(d.probes) != maxAskedFor {
		t.Errorf("%d addresses at a time, want %d", len(d.probes), maxAskedFor)
	}
}
