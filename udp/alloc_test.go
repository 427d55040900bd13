//go:build !race

package udp

import "testing"

func TestNoAllocation(t *testing.T) {
	b := make([]byte, 100)
	h := Header{Src: 1, Dst: 2, Length: 100}
	n := testing.AllocsPerRun(100, func() {
		h.Encode(b)
		if h.Decode(b) != nil || Verify(b, 0) {
			t.Fatal("what was written does not read")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a datagram, want 0", n)
	}
}
