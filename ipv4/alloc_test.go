//go:build !race

package ipv4

import "testing"

func TestNoAllocation(t *testing.T) {
	b := make([]byte, 128)
	h := Header{Length: 128, Src: alice, Dst: bob, Options: []byte{OptionNop}}
	m := ICMP{Type: Echo, Body: b[24+ICMPLen:]}
	n := testing.AllocsPerRun(100, func() {
		n := h.Encode(b)
		m.Encode(b[n:])
		if _, err := h.Decode(b); err != nil || m.Decode(b[n:]) != nil {
			t.Fatal("what was written does not read")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a packet, want 0", n)
	}
}
