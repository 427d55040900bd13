package link

import (
	"bytes"
	"testing"
)

// TestPipeBufferMayBeKept keeps the memory of every second large packet and leaves other memory instead: what was kept
// stays as it is while the wire goes on.
func TestPipeBufferMayBeKept(t *testing.T) {
	a, b := Pipe(PipeConfig{})
	defer a.Close()
	defer b.Close()
	send := func(v byte, n int) []byte {
		head := bytes.Repeat([]byte{v}, n)
		if k, err := a.Queues()[0].Write([]Packet{{Head: head}}); k != 1 || err != nil {
			t.Fatalf("Write: %d, %v", k, err)
		}
		return head
	}
	var kept, want [][]byte
	p := make([]Packet, 1)
	for i := range 40 {
		sent := send(byte(i), []int{60000, 65535, 40000}[i%3])
		if _, err := b.Queues()[0].Read(p); err != nil {
			t.Fatal(err)
		}
		q := &p[0]
		if !bytes.Equal(q.Head, sent) || q.Buffer == nil || len(*q.Buffer) != bufferLen || &(*q.Buffer)[q.At] != &q.Head[0] {
			t.Fatalf("packet %d: %d bytes, equal %v, with no memory to keep", i, len(q.Head), bytes.Equal(q.Head, sent))
		}
		if i%2 == 0 {
			kept, want = append(kept, q.Head), append(want, sent)
			*q.Buffer = make([]byte, bufferLen)
		}
	}
	for i := range kept {
		if !bytes.Equal(kept[i], want[i]) {
			t.Errorf("the packet kept as number %d has changed", i)
		}
	}
	send(1, 1500)
	if _, err := b.Queues()[0].Read(p); err != nil || p[0].Buffer != nil {
		t.Errorf("a small packet offers its memory: %v, %v", p[0].Buffer != nil, err)
	}
}
