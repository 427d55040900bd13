package tcp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// account is a Memory that counts what is on loan, refuses at random or beyond a bound, and spoils what comes back.
type account struct {
	t      *testing.T
	rnd    *rand.Rand // nil: never refuses at random
	bound  int        // chunks on loan at most; 0: no bound
	small  bool       // has no large chunks
	lent   map[*Chunk]bool
	octets int
	calls  int
}

func newAccount(t *testing.T) *account { return &account{t: t, lent: map[*Chunk]bool{}} }

func (a *account) Borrow(n int) *Chunk {
	a.calls++
	if n != SmallChunk && n != LargeChunk {
		a.t.Errorf("Borrow(%d): neither a small nor a large chunk", n)
	}
	if a.rnd != nil && a.rnd.IntN(4) == 0 || a.bound > 0 && len(a.lent) >= a.bound || a.small && n == LargeChunk {
		return nil
	}
	c := NewChunk(n)
	a.lent[c] = true
	a.octets += n
	return c
}

func (a *account) Return(c *Chunk) {
	if !a.lent[c] {
		a.t.Errorf("Return of a chunk of %d octets that is not on loan", len(c.Bytes))
	}
	delete(a.lent, c)
	a.octets -= len(c.Bytes)
	for i := range c.Bytes {
		c.Bytes[i] = 0xee
	}
}

func (a *account) returnAll(free **Chunk) {
	for *free != nil {
		c := *free
		*free = c.next
		a.Return(c)
	}
}

// pipeModel runs a pipe beside a plain array that has a place for every sequence number it comes by.
type pipeModel struct {
	t    *testing.T
	rnd  *rand.Rand
	m    *account
	p    pipe
	free *Chunk
	base Seq
	want []uint16 // of the octet at base+i: itself plus one, or 0
	end  Seq
	full Seq // there is no hole before it
}

// at is the place for the octet at s.
func (x *pipeModel) at(s Seq) *uint16 {
	i := int(s - x.base)
	if i >= len(x.want) {
		x.want = append(x.want, make([]uint16, i+1<<20)...)
	}
	return &x.want[i]
}

func (x *pipeModel) random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(x.rnd.Uint32())
	}
	return b
}

func (x *pipeModel) size() int {
	return 1 + x.rnd.IntN([]int{3, 1500, 5000, 70000}[x.rnd.IntN(4)])
}

// there is the end of what is in the model without a hole from start on.
func (x *pipeModel) there() Seq {
	x.full = maxSeq(x.full, x.p.start)
	for *x.at(x.full) != 0 {
		x.full++
	}
	return x.full
}

func (x *pipeModel) write(at Seq) {
	b := x.random(x.size())
	n := x.p.writeAt(x.m, at, b)
	if n < len(b) && x.m.rnd == nil {
		x.t.Fatalf("writeAt(%v, %d octets) = %d though memory was never refused", at, len(b), n)
	}
	for i, v := range b[:n] {
		*x.at(at + Seq(i)) = uint16(v) + 1
	}
	if n > 0 {
		x.end = maxSeq(x.end, at+Seq(n))
	}
}

func (x *pipeModel) forget(from, to Seq) {
	for ; from.Less(to); from++ {
		*x.at(from) = 0
	}
}

func (x *pipeModel) step() {
	there := x.there()
	switch k := x.rnd.IntN(11); {
	case k < 3:
		x.write(x.p.end)
	case k < 4: // into a hole, over what is there, or behind the end
		x.write(x.p.start + Seq(x.rnd.IntN(200000)))
	case k < 5:
		x.write(there)
	case k < 6:
		if c := x.m.Borrow(SmallChunk); c != nil {
			n := 1 + x.rnd.IntN(len(c.Bytes))
			for i, v := range x.random(n) {
				c.Bytes[i] = v
				*x.at(x.end + Seq(i)) = uint16(v) + 1
			}
			x.p.give(c, n)
			x.end += Seq(n)
		}
	case k < 7: // behind the end, with a gap or without
		if c := x.m.Borrow(LargeChunk); c != nil {
			off := x.rnd.IntN(100)
			n := 1 + x.rnd.IntN(LargeChunk-off)
			buffer := x.random(LargeChunk)
			before := &buffer[0]
			at := x.p.end + Seq(x.rnd.IntN(2)*x.rnd.IntN(100000))
			x.p.adopt(c, at, &buffer, off, n)
			if len(buffer) != LargeChunk || &buffer[0] == before || &c.Bytes[0] != before {
				x.t.Fatal("adopt has not exchanged the memory")
			}
			for i, v := range c.Bytes[off : off+n] {
				*x.at(at + Seq(i)) = uint16(v) + 1
			}
			x.end = at + Seq(n)
		}
	case k < 8:
		if c, b := x.p.take(there); c != nil {
			x.compare("take", [][]byte{b}, x.p.start-Seq(len(b)), len(b))
			x.forget(x.p.start-Seq(len(b)), x.p.start)
			x.m.Return(c)
		}
	default:
		to := x.p.start + Seq(x.rnd.IntN(there.From(x.p.start)+1))
		if x.rnd.IntN(20) == 0 {
			to = x.p.end
		}
		x.forget(x.p.start, to)
		x.p.discard(to, &x.free)
	}
}

func (x *pipeModel) compare(what string, views [][]byte, from Seq, n int) {
	x.t.Helper()
	got := bytes.Join(views, nil)
	if len(got) != n {
		x.t.Fatalf("%s from %v: %d octets, want %d", what, from, len(got), n)
	}
	for i, v := range got {
		if w := int(*x.at(from + Seq(i))) - 1; w != int(v) {
			x.t.Fatalf("%s from %v: octet %d is %#x, want %#x", what, from, i, v, w)
		}
	}
}

func (x *pipeModel) check() {
	x.t.Helper()
	p := &x.p
	if p.end != x.end && !(p.start == p.end && p.head == nil) {
		x.t.Fatalf("end %v, want %v", p.end, x.end)
	}
	n := x.there().From(p.start)
	i := x.rnd.IntN(n + 1)
	k := x.rnd.IntN(n - i + 1)
	x.compare("views", p.views(nil, p.start+Seq(i), k), p.start+Seq(i), k)
	b := make([]byte, k+10)
	if c := p.copyTo(b, p.start+Seq(i), k); c != k {
		x.t.Fatalf("copyTo(%d) = %d", k, c)
	}
	x.compare("copyTo", [][]byte{b[:k]}, p.start+Seq(i), k)
	var last *Chunk
	for c := p.head; c != nil; c = c.next {
		if c.fill == 0 || (c.start + Seq(c.fill)).LessEq(p.start) {
			x.t.Fatalf("chunk at %v with %d octets holds nothing from %v on", c.start, c.fill, p.start)
		}
		if c.next != nil && c.next.start.Less(c.start+Seq(c.fill)) {
			x.t.Fatalf("chunk at %v with %d octets overlaps the one at %v", c.start, c.fill, c.next.start)
		}
		last = c
	}
	if last != p.tail {
		x.t.Fatalf("tail is not the last chunk")
	}
	if p.start == p.end && p.head != nil {
		x.t.Fatalf("the empty pipe owns a chunk")
	}
}

// TestPipeModel compares a pipe with a plain array through thousands of random operations, across the wrap of sequence
// numbers, with memory that is refused at random in every other run.
func TestPipeModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			x := &pipeModel{t: t, rnd: rnd, m: newAccount(t)}
			if seed%2 == 1 {
				x.m.rnd = rnd
			}
			x.p.reset(-Seq(1 + rnd.IntN(300000)))
			x.base, x.end, x.full = x.p.start, x.p.start, x.p.start
			for range 400 {
				x.step()
				x.end = maxSeq(x.end, x.p.start)
				x.check()
				if rnd.IntN(4) == 0 {
					x.m.returnAll(&x.free)
				}
			}
			x.p.discard(x.p.end, &x.free)
			x.m.returnAll(&x.free)
			if len(x.m.lent) != 0 || x.m.octets != 0 {
				t.Errorf("the empty pipe still owes %d chunks, %d octets", len(x.m.lent), x.m.octets)
			}
		})
	}
}

// TestPipeViewsSurviveDiscard: what a view shows stays while the chunk was not returned, whatever happens to the pipe.
func TestPipeViewsSurviveDiscard(t *testing.T) {
	m := newAccount(t)
	var p pipe
	var free *Chunk
	p.reset(0xfffffff0)
	first := bytes.Repeat([]byte{1}, 5000)
	p.append(m, first)
	v := p.views(nil, p.start, 5000)
	p.discard(p.end, &free)
	p.append(m, bytes.Repeat([]byte{2}, 9000))
	p.discard(p.end-1, &free)
	p.append(m, bytes.Repeat([]byte{3}, 9000))
	if got := bytes.Join(v, nil); !bytes.Equal(got, first) {
		t.Errorf("a view changed before its chunk was returned")
	}
}

// TestPipeMemory: what a pipe borrows stays in proportion to the octets in it, however they arrive.
func TestPipeMemory(t *testing.T) {
	const window = 1 << 20
	for _, tt := range []struct {
		name  string
		at    func(i int) Seq
		octet int // octets a write
		n     int // writes
		most  int // octets on loan in the end
		lent  int // chunks on loan, at most
	}{
		{"one small request", func(int) Seq { return 0 }, 300, 1, SmallChunk, 1},
		{"a response of 8 KB", func(i int) Seq { return Seq(i * 1024) }, 1024, 8, 8 << 10, 4},
		{"a super-segment", func(int) Seq { return 0 }, 65000, 1, LargeChunk, 1},
		{"a segment behind one lost", func(int) Seq { return 1448 }, 500, 1, SmallChunk, 1},
		{"a full window in order", func(i int) Seq { return Seq(i * 1024) }, 1024, 1024, window + 2*LargeChunk, 8 + 17},
		{"octets back to front", func(i int) Seq { return Seq(window - 1 - i) }, 1, 100000, 100000 + 3*LargeChunk, 12},
		{"an octet in each 2 KB", func(i int) Seq { return Seq(window - 1 - i*2048) }, 1, 512, window + LargeChunk, 32},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newAccount(t)
			var p pipe
			b := make([]byte, tt.octet)
			for i := range tt.n {
				if n := p.writeAt(m, tt.at(i), b); n != len(b) {
					t.Fatalf("write %d took %d of %d", i, n, len(b))
				}
			}
			if m.octets > tt.most || len(m.lent) > tt.lent {
				t.Errorf("%d writes of %d borrowed %d octets in %d chunks, want at most %d in %d", tt.n, tt.octet, m.octets,
					len(m.lent), tt.most, tt.lent)
			}
		})
	}
}

// TestPipeNarrowGap: a gap that a small chunk fills gets no large one, however much is being written.
func TestPipeNarrowGap(t *testing.T) {
	m := newAccount(t)
	var p pipe
	p.writeAt(m, 14336, make([]byte, SmallChunk-1))
	p.writeAt(m, 0, make([]byte, 12288))
	p.writeAt(m, 12288, make([]byte, 4096))
	if m.octets != 16384 {
		t.Errorf("%d octets on loan for 16384, of which 2048 stood between two chunks", m.octets)
	}
}

// TestPipeRefused: a write is short where memory is refused, and the pipe is as if only that much had been written.
func TestPipeRefused(t *testing.T) {
	m := newAccount(t)
	m.bound = 2
	var p pipe
	b := bytes.Repeat([]byte{7}, 3*LargeChunk)
	if n := p.append(m, b); n != 2*LargeChunk {
		t.Errorf("append took %d octets, want two large chunks, %d", n, 2*LargeChunk)
	}
	if n := p.append(m, b); n != 0 || p.end != 2*LargeChunk {
		t.Errorf("append took %d octets, end %v; want 0 and %d", n, p.end, 2*LargeChunk)
	}
	if n := p.writeAt(m, p.end+100, b); n != 0 || p.end != 2*LargeChunk {
		t.Errorf("writeAt behind the end took %d octets, end %v; want 0 and %d", n, p.end, 2*LargeChunk)
	}
}

// TestPipeFallsBack: where there is no large chunk left, small ones do.
func TestPipeFallsBack(t *testing.T) {
	m := newAccount(t)
	m.small = true
	var p pipe
	if n := p.append(m, make([]byte, 100000)); n != 100000 || m.octets > 100000+SmallChunk {
		t.Errorf("append took %d of 100000 octets into %d", n, m.octets)
	}
}

// shortMemory lends less than it was asked for.
type shortMemory struct{ heapMemory }

func (shortMemory) Borrow(int) *Chunk { return NewChunk(0) }

func TestPipeShortChunkIsRefused(t *testing.T) {
	var p pipe
	if n := p.append(shortMemory{}, []byte("x")); n != 0 || p.head != nil {
		t.Errorf("append = %d, head %v; want nothing taken", n, p.head)
	}
}

// TestPipeGive: given chunks are read, filled up behind and taken like any other.
func TestPipeGive(t *testing.T) {
	m := newAccount(t)
	var p pipe
	p.reset(1000)
	c := m.Borrow(SmallChunk)
	copy(c.Bytes, "hello")
	p.give(c, 5)
	p.append(m, []byte(", world"))
	if len(m.lent) != 1 {
		t.Errorf("%d chunks on loan, want the room behind a given chunk to be used", len(m.lent))
	}
	if got := string(bytes.Join(p.views(nil, 1002, 8), nil)); got != "llo, wor" {
		t.Errorf("views = %q", got)
	}
	if c, _ := p.take(1011); c != nil {
		t.Errorf("take(1011) took a chunk that has an octet at 1011")
	}
	if got, b := p.take(1012); got != c || string(b) != "hello, world" || p.start != 1012 || p.tail != nil {
		t.Errorf("take(1012) = %p %q, start %v; want %p and all of it", got, b, p.start, c)
	}
}
