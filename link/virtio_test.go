package link

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// header is a virtio header of its fields, in this machine's byte order.
func header(flags, gso byte, rest ...uint16) []byte {
	b := []byte{flags, gso}
	for _, v := range rest {
		b = binary.NativeEndian.AppendUint16(b, v)
	}
	return b
}

func TestOffloadVirtioHeader(t *testing.T) {
	tests := []struct {
		name string
		b    []byte
		o    Offload
	}{
		{"nothing", header(0, 0, 0, 0, 0, 0), Offload{}},
		{"checksum verified", header(2, 0, 0, 0, 0, 0), Offload{Valid: true}},
		{"checksum to complete", header(1, 0, 0, 0, 34, 16), Offload{Partial: true, Valid: true, Start: 34, Offset: 16}},
		{"TCP over IPv4", header(1, 1, 54, 1460, 34, 16),
			Offload{Partial: true, Valid: true, Start: 34, Offset: 16, GSO: TCP4, Size: 1460, HeaderLen: 54}},
		{"TCP over IPv6 with ECN", header(1, 0x84, 60, 1440, 40, 16),
			Offload{Partial: true, Valid: true, ECN: true, Start: 40, Offset: 16, GSO: TCP6, Size: 1440, HeaderLen: 60}},
		{"UDP", header(1, 5, 28, 1472, 20, 6),
			Offload{Partial: true, Valid: true, Start: 20, Offset: 6, GSO: UDP, Size: 1472, HeaderLen: 28}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := Offload{Size: 99}
			if err := o.Decode(tt.b); err != nil || o != tt.o {
				t.Errorf("Decode(% x): %+v, %v\nwant %+v", tt.b, o, err, tt.o)
			}
			b := make([]byte, VirtioLen)
			if n := tt.o.Encode(b); n != VirtioLen || !bytes.Equal(b, tt.b) {
				t.Errorf("Encode: %d, % x\nwant    10, % x", n, b, tt.b)
			}
		})
	}
}

func TestOffloadRefusesHeaders(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":             nil,
		"short":             make([]byte, VirtioLen-1),
		"UDP by fragments":  header(1, 3, 28, 1472, 20, 6),
		"unknown kind":      header(0, 77, 28, 1472, 20, 6),
		"GSO without size":  header(1, 1, 40, 0, 20, 16),
		"unknown, with ECN": header(1, 0x82, 40, 100, 20, 16),
	} {
		if err := new(Offload).Decode(b); err != ErrOffload {
			t.Errorf("%s: Decode(% x): %v, want ErrOffload", name, b, err)
		}
	}
	if n := new(Offload).Encode(make([]byte, VirtioLen-1)); n != 0 {
		t.Errorf("Encode to a short buffer: %d, want 0", n)
	}
}

func TestOffloadChecksumLiesWithinThePacket(t *testing.T) {
	tests := []struct {
		o    Offload
		n    int
		want bool
	}{
		{Offload{}, 0, true},
		{Offload{Partial: true, Start: 20, Offset: 16}, 38, true},
		{Offload{Partial: true, Start: 20, Offset: 16}, 37, false},
		{Offload{Partial: true, Start: 65535, Offset: 65535}, 65535, false},
	}
	for _, tt := range tests {
		if got := tt.o.fits(tt.n); got != tt.want {
			t.Errorf("%+v in %d bytes: %v, want %v", tt.o, tt.n, got, tt.want)
		}
	}
}

func FuzzOffload(f *testing.F) {
	f.Add(header(1, 0x84, 60, 1440, 40, 16))
	f.Add(header(2, 0, 1, 2, 3, 4))
	f.Fuzz(func(t *testing.T, b []byte) {
		var o, again Offload
		if o.Decode(b) != nil {
			return
		}
		e := make([]byte, VirtioLen)
		if n := o.Encode(e); n != VirtioLen {
			t.Fatalf("Encode(%+v): %d", o, n)
		}
		if err := again.Decode(e); err != nil || again != o {
			t.Fatalf("% x means %+v\nbut % x: %+v, %v", b, o, e, again, err)
		}
	})
}
