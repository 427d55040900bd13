package ethernet

import (
	"fmt"
	"net/netip"
	"testing"
)

func request() ARP {
	return ARP{Op: OpRequest, SenderHW: alice, SenderIP: netip.MustParseAddr("198.51.100.1"),
		TargetIP: netip.MustParseAddr("198.51.100.2")}
}

func TestARPDecode(t *testing.T) {
	good := make([]byte, ARPLen)
	a := request()
	if n := a.Encode(good); n != ARPLen {
		t.Fatalf("Encode = %d, want %d", n, ARPLen)
	}
	for _, c := range []struct {
		name string
		at   int
		v    byte
		err  error
	}{
		{"RFC 826 request", 7, 1, nil},
		{"RFC 826 reply", 7, 2, nil},
		{"C152 hardware type", 1, 6, ErrARPType},
		{"C152 hardware type, high octet", 0, 1, ErrARPType},
		{"C152 protocol type", 3, 0xdd, ErrARPType},
		{"C152 hardware length", 4, 8, ErrARPType},
		{"C152 protocol length", 5, 16, ErrARPType},
		{"C152 operation 0", 7, 0, ErrARPOp},
		{"C152 operation 3", 7, 3, ErrARPOp},
		{"C152 operation 256", 6, 1, ErrARPOp},
		{"C152 group sender", 8, 0x01, ErrARPSender},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := append([]byte{}, good...)
			b[c.at] = c.v
			var got ARP
			if err := got.Decode(b); err != c.err {
				t.Errorf("octet %d = %#x: %v, want %v", c.at, c.v, err, c.err)
			}
		})
	}
	for n := range ARPLen {
		t.Run(fmt.Sprintf("C152 %d octets", n), func(t *testing.T) {
			var got ARP
			if err := got.Decode(good[:n]); err != ErrShort {
				t.Errorf("error %v, want %v", err, ErrShort)
			}
		})
	}
}

func TestARPEncode(t *testing.T) {
	a := request()
	b := make([]byte, 60) // a frame is padded
	n := a.Encode(b)
	var got ARP
	if err := got.Decode(b); err != nil || got != a || n != ARPLen {
		t.Errorf("%+v came back as %+v, %v", a, got, err)
	}
	if n := a.Encode(b[:ARPLen-1]); n != 0 {
		t.Errorf("Encode without room = %d, want 0", n)
	}
	a.TargetIP = netip.MustParseAddr("2001:db8::1")
	if n := a.Encode(b); n != 0 {
		t.Errorf("Encode of an IPv6 address = %d, want 0", n)
	}
}

// Who has 198.51.100.2?
func ExampleARP_Encode() {
	question := ARP{Op: OpRequest, SenderHW: Addr{2, 0, 0x5e, 0x10, 0, 1}, SenderIP: netip.MustParseAddr("198.51.100.1"),
		TargetIP: netip.MustParseAddr("198.51.100.2")}
	frame := make([]byte, 64)
	h := Header{Dst: Broadcast, Src: question.SenderHW, Type: TypeARP}
	n := h.Encode(frame)
	n += question.Encode(frame[n:])
	fmt.Printf("% x\n", frame[h.Len():n])
	// Output: 00 01 08 00 06 04 00 01 02 00 5e 10 00 01 c6 33 64 01 00 00 00 00 00 00 c6 33 64 02
}
