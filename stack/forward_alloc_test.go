//go:build !race

package stack

import "testing"

func TestForwardingDoesNotAllocate(t *testing.T) {
	for _, x := range roads {
		t.Run(x.name, func(t *testing.T) {
			r := newRoad(t, x.near, x.far, x.rules, 10, 1000)
			n := 0
			steady(t, 10, func() {
				for range 10 {
					r.pass(n)
					n++
				}
			})
			if st := r.in.ifc.stack.Stats(); st.Forwarded != uint64(n) {
				t.Errorf("%d of %d forwarded, %v", st.Forwarded, n, st.Drops)
			}
		})
	}
}
