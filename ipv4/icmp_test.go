package ipv4

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
)

func TestICMP(t *testing.T) {
	for _, c := range []struct {
		name    string
		m       ICMP
		mtu     int
		gateway netip.Addr
		isError bool
	}{
		{"RFC 792 echo", ICMP{Type: Echo, ID: 7, Seq: 5, Body: []byte("data")}, 0, netip.Addr{}, false},
		{"RFC 792 echo reply of an odd length", ICMP{EchoReply, 0, 7, 0xffff, []byte("odd")}, 0, netip.Addr{}, false},
		{"C143 port", ICMP{Unreachable, CodePort, 0, 1300, []byte{1}}, 0, netip.Addr{}, true},
		{"C126 MTU", ICMP{Unreachable, CodeFragNeeded, 0, 1300, []byte{1}}, 1300, netip.Addr{}, true},
		{"C127 no MTU", ICMP{Unreachable, CodeFragNeeded, 0, 0, []byte{1}}, 0, netip.Addr{}, true},
		{"C146 redirect", ICMP{Redirect, CodeRedirectHost, 0xc633, 0x6401, []byte{1}}, 0, alice, true},
		{"RFC 6633 source quench", ICMP{SourceQuench, 0, 0, 0, []byte{}}, 0, netip.Addr{}, true},
		{"C137 reassembly", ICMP{TimeExceeded, CodeReassembly, 0, 0, []byte{}}, 0, netip.Addr{}, true},
		{"C141 parameter", ICMP{ParamProblem, CodePointer, 20 << 8, 0, []byte{}}, 0, netip.Addr{}, true},
		{"C145 unknown", ICMP{Type: 200, Code: 100, Body: []byte{}}, 0, netip.Addr{}, false},
		{"C148 timestamp", ICMP{Type: 13, Body: make([]byte, 12)}, 0, netip.Addr{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := []byte("what stood there before")
			n := c.m.Encode(b)
			var got ICMP
			if err := got.Decode(b[:n]); err != nil || !reflect.DeepEqual(got, c.m) {
				t.Fatalf("%+v came back as %+v, %v", c.m, got, err)
			}
			if got.MTU() != c.mtu || got.Gateway() != c.gateway || got.IsError() != c.isError {
				t.Errorf("%+v: MTU %d, gateway %v, error %v", got, got.MTU(), got.Gateway(), got.IsError())
			}
			for bit := range n * 8 {
				b[bit/8] ^= 1 << (bit % 8)
				if err := got.Decode(b[:n]); err != ErrChecksum {
					t.Errorf("C142 octet %d, bit %d flipped: %v, want %v", bit/8, bit%8, err, ErrChecksum)
				}
				b[bit/8] ^= 1 << (bit % 8)
			}
			for short := range ICMPLen {
				if err := got.Decode(b[:short]); err != ErrShort {
					t.Errorf("C145 %d octets: %v, want %v", short, err, ErrShort)
				}
			}
			if n := c.m.Encode(b[:n-1]); n != 0 {
				t.Errorf("Encode without room = %d, want 0", n)
			}
		})
	}
}

// A ping is answered in the memory that it came in.
func ExampleICMP() {
	ping := ICMP{Type: Echo, ID: 1, Seq: 7, Body: []byte("are you there?")}
	b := make([]byte, 64)
	b = b[:ping.Encode(b)]

	var m ICMP
	if err := m.Decode(b); err != nil {
		fmt.Println(err)
		return
	}
	m.Type = EchoReply // RFC 792: all else is returned as it came
	m.Encode(b)
	fmt.Printf("type %d, seq %d: %s\n", b[0], m.Seq, b[ICMPLen:])
	// Output: type 0, seq 7: are you there?
}
