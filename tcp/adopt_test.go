package tcp

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// TestAdopt has a device offer the memory of what it received. Text that is worth a chunk is kept in it, however it
// arrives; what is kept is not written over when the device goes on with the memory it was given in exchange; and what
// is not kept leaves the device its own.
func TestAdopt(t *testing.T) {
	const header = 66 // octets in front of the text
	text := make([]byte, 6*40000)
	rand.NewChaCha8([32]byte{1}).Read(text)
	for name, c := range map[string]struct {
		order  []int // of the six segments
		length int   // of a segment
		kept   int   // how many are
		spoil  func(*Segment)
	}{
		"in order":            {[]int{0, 1, 2, 3, 4, 5}, 40000, 6, nil},
		"again":               {[]int{0, 0, 1, 2, 1, 3, 4, 5}, 40000, 6, nil},
		"behind a hole":       {[]int{1, 2, 0, 3, 5, 4}, 40000, 4, nil}, // 0 and 4 fall into holes
		"short":               {[]int{0, 1, 2, 3, 4, 5}, 30000, 0, nil},
		"memory not offered":  {[]int{0, 1, 2, 3, 4, 5}, 40000, 0, func(s *Segment) { s.Buffer = nil }},
		"of the wrong length": {[]int{0, 1, 2, 3, 4, 5}, 40000, 0, func(s *Segment) { b := make([]byte, LargeChunk+1); s.Buffer = &b }},
	} {
		t.Run(name, func(t *testing.T) {
			r := established(t, full(), 65535, Options{MSS: 1460, HasScale: true})
			r.now = time.Second
			buffer := make([]byte, LargeChunk)
			kept := 0
			var got []byte
			for _, k := range c.order {
				part := text[k*c.length : (k+1)*c.length]
				copy(buffer[header:], part)
				before := &buffer[0]
				s := Segment{Seq: r.rcv.irs + 1 + Seq(k*c.length), Ack: r.snd.nxt, Flags: ACK, Window: 65535,
					Text: [][]byte{buffer[header : header+c.length]}, Buffer: &buffer, At: header}
				if c.spoil != nil {
					c.spoil(&s)
				}
				r.Arrive(time.Second, &s)
				r.flush()
				if before != &buffer[0] {
					kept++
				}
				if len(buffer) != LargeChunk {
					t.Fatalf("in exchange the device got %d octets", len(buffer))
				}
				clear(buffer) // the device reads on
				b := make([]byte, 70001)
				got = append(got, b[:r.Read(time.Second, b)]...)
				r.flush()
			}
			for r.Buffered() > 0 {
				b := make([]byte, 70001)
				got = append(got, b[:r.Read(time.Second, b)]...)
			}
			if kept != c.kept {
				t.Errorf("%d segments were kept as they stood, want %d", kept, c.kept)
			}
			if !bytes.Equal(got, text[:6*c.length]) {
				t.Error("the octets are not those that arrived")
			}
		})
	}
}

// TestAdoptRefused has no memory to give in exchange.
func TestAdoptRefused(t *testing.T) {
	c := full()
	c.Memory = noMemory{}
	r := established(t, c, 65535, Options{MSS: 1460, HasScale: true})
	buffer := make([]byte, LargeChunk)
	before := &buffer[0]
	s := Segment{Seq: r.rcv.nxt, Ack: r.snd.nxt, Flags: ACK, Window: 65535, Text: [][]byte{buffer[20:]}, Buffer: &buffer, At: 20}
	if ev := r.Arrive(time.Second, &s); ev.Drop() != DropMemory || &buffer[0] != before || r.Buffered() != 0 {
		t.Errorf("event %v, exchanged %v, %d octets; want a drop for want of memory", ev.Drop(), &buffer[0] != before, r.Buffered())
	}
}

type noMemory struct{}

func (noMemory) Borrow(int) *Chunk { return nil }
func (noMemory) Return(*Chunk)     {}
