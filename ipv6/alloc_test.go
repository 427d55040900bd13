//go:build !race

package ipv6

import "testing"

func TestNoAllocation(t *testing.T) {
	b := make([]byte, 2048)
	h := Header{PayloadLength: 1000, Src: local, Dst: bob}
	ndp := rich(t)
	ndp.NumPrefixes = 2
	good, bad := []byte(opts(ProtoUDP)), []byte(opts(ProtoUDP, 0xfe, 0))
	var c Chain
	var m ICMP
	n := testing.AllocsPerRun(100, func() {
		n := h.Encode(b)
		out := ndp.Encode(b[n+ICMPLen:])
		length := out.Encode(b[n:], local, bob)
		if h.Decode(b) != nil || m.Decode(b[n:n+length], local, bob) != nil || ndp.Decode(&m) != nil {
			t.Fatal("what was written does not read")
		}
		if c.Walk(ProtoDestOpts, good) != nil || c.Walk(ProtoDestOpts, bad) == nil {
			t.Fatal("the chain is misjudged")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a packet, want 0", n)
	}
}
