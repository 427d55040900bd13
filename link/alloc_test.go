//go:build !race

package link

import "testing"

func TestPipeDoesNotAllocate(t *testing.T) {
	for _, size := range []int{60, 60000} {
		a, b := Pipe(PipeConfig{GSO: 65535})
		out, in := make([]Packet, 32), make([]Packet, 64)
		for i := range out {
			out[i] = Packet{Head: make([]byte, 40), Text: [][]byte{make([]byte, size)}}
		}
		if n := testing.AllocsPerRun(200, func() {
			a.Queues()[0].Write(out)
			b.Queues()[0].Read(in)
		}); n != 0 {
			t.Errorf("%v allocations for 32 packets of %d bytes, want 0", n, size+40)
		}
	}
}

func TestWrapDoesNotAllocate(t *testing.T) {
	q := Wrap(endless{}, Caps{MTU: 1500}).Queues()[0]
	out, in := []Packet{{Head: make([]byte, 40), Text: [][]byte{make([]byte, 1000)}}}, make([]Packet, 1)
	if n := testing.AllocsPerRun(200, func() {
		q.Write(out)
		q.Read(in)
	}); n != 0 {
		t.Errorf("%v allocations for a packet each way, want 0", n)
	}
}
