package link

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
)

// TestTUNBuffers has the kernel send packets of all sizes, many to a Read: small ones share a buffer, large ones do not
// fit behind small ones, and the largest packet of IP fits no buffer. Each arrives whole, and what a reader keeps of one
// Read stands while the next ones fill what it left instead.
func TestTUNBuffers(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	d := opened(t, OpenTUN, TUNConfig{MTU: 65535})
	c, _ := listenUDP(t, host4)
	sizes := []int{65507, 100, 60000, 100, 100, 1000, 65507, 50000, 3000, 20, 65500, 2100, 33000, 65507}
	var kept, want [][]byte
	got := 0
	p := make([]Packet, 64)
	for round := range 4 {
		for i, n := range sizes {
			b := bytes.Repeat([]byte{byte(round*len(sizes) + i + 1)}, n)
			if _, err := c.WriteToUDPAddrPort(b, netip.AddrPortFrom(station4, 9)); err != nil {
				t.Fatal(err)
			}
		}
		for got < (round+1)*len(sizes) {
			n, err := d.Queues()[0].Read(p)
			if err != nil {
				t.Fatal(err)
			}
			for k := range p[:n] {
				q := &p[k]
				if q.Head[0] != 0x45 || q.Head[9] != protoUDP {
					continue
				}
				b := bytes.Repeat([]byte{byte(got + 1)}, sizes[got%len(sizes)])
				if got++; !bytes.Equal(q.Head[28:], b) {
					t.Fatalf("packet %d has %d bytes of %#x, want %d of %#x", got, len(q.Head)-28, q.Head[28], len(b), b[0])
				}
				if q.Buffer == nil {
					continue
				}
				if len(*q.Buffer) != bufferLen || &(*q.Buffer)[q.At] != &q.Head[0] {
					t.Fatalf("packet %d does not stand %d bytes behind the start of its buffer", got, q.At)
				}
				if len(b) > bufferLen/2 {
					kept, want = append(kept, q.Head[28:]), append(want, b)
					*q.Buffer = make([]byte, bufferLen)
				}
			}
		}
	}
	if len(kept) < 4*3 {
		t.Errorf("only %d of the large packets could be kept", len(kept))
	}
	for i := range kept {
		if !bytes.Equal(kept[i], want[i]) {
			t.Errorf("the packet kept as number %d has changed", i)
		}
	}
}
