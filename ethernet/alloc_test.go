//go:build !race

package ethernet

import "testing"

func TestNoAllocation(t *testing.T) {
	b := make([]byte, 64)
	h := Header{Dst: bob, Src: alice, Type: TypeARP}
	a := request()
	n := testing.AllocsPerRun(100, func() {
		n := h.Encode(b)
		a.Encode(b[n:])
		n, err := h.Decode(b)
		if err != nil || a.Decode(b[n:]) != nil {
			t.Fatal("what was written does not read")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a frame, want 0", n)
	}
}
