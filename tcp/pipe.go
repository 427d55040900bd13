package tcp

// A pipe holds the octets [start, end) of one direction of a connection in a list of chunks, addressed by sequence
// number. On the receive side it may have holes: octets are written in place wherever they belong, and a ranges says
// what is there. An empty pipe owns no chunk.
//
// Chunks are sorted and do not overlap: c covers [c.start, c.limit()), of which up to c.fill was written.
type pipe struct {
	head, tail *Chunk
	start, end Seq
}

// largeFrom is the number of octets in a pipe from which on it borrows large chunks. A quarter of a large chunk keeps
// the memory of a pipe in proportion to what it holds, and a request or answer of a few KB out of large chunks.
const largeFrom = LargeChunk / 4

// reset makes an empty pipe begin at sequence number at. Its chunks were discarded before.
func (p *pipe) reset(at Seq) { *p = pipe{start: at, end: at} }

// limit is where c's room ends: at the next chunk or at the end of its memory.
func (c *Chunk) limit() Seq {
	e := c.start + Seq(len(c.Bytes)-c.off)
	if c.next != nil {
		e = minSeq(e, c.next.start)
	}
	return e
}

// bytes is the part of c's memory that has sequence numbers.
func (c *Chunk) bytes() []byte { return c.Bytes[c.off:] }

// writeAt copies b to sequence number at, which is not before start, over whatever stands there. It returns how many
// octets found room: fewer than len(b) where m refuses a chunk.
func (p *pipe) writeAt(m Memory, at Seq, b []byte) int {
	n := 0
	for c := p.find(at); n < len(b); {
		if c == nil || !at.Less(c.limit()) {
			if c = p.insert(m, c, at, len(b)-n); c == nil {
				break
			}
		}
		k := copy(c.bytes()[at-c.start:c.limit()-c.start], b[n:])
		c.fill = max(c.fill, int(at-c.start)+k)
		n += k
		at += Seq(k)
		if c.next != nil && c.next.start == at {
			c = c.next
		}
	}
	if n > 0 {
		p.end = maxSeq(p.end, at)
	}
	return n
}

// append copies b behind the last octet, as far as m lends chunks, and returns how many octets found room.
func (p *pipe) append(m Memory, b []byte) int { return p.writeAt(m, p.end, b) }

// find returns the last chunk that begins at or before at, or nil.
func (p *pipe) find(at Seq) *Chunk {
	if p.tail != nil && p.tail.start.LessEq(at) {
		return p.tail
	}
	var prev *Chunk
	for c := p.head; c != nil && c.start.LessEq(at); c = c.next {
		prev = c
	}
	return prev
}

// insert borrows a chunk that has room at sequence number at for some of n octets, and puts it behind prev, where nil
// is the front. A chunk stands in steps of its own size from where the room before it ends, not just where its
// first octet happens to fall: octets that arrive back to front share chunks, and cannot cost one each.
func (p *pipe) insert(m Memory, prev *Chunk, at Seq, n int) *Chunk {
	low, next := p.start, p.head
	if prev != nil {
		low, next = prev.limit(), prev.next
	}
	size := SmallChunk
	if at.From(p.start)+n >= largeFrom {
		cell := at - (at-low)%LargeChunk
		if next == nil || next.start.From(cell) > SmallChunk {
			size = LargeChunk
		}
	}
	c := borrow(m, size)
	if c == nil && size == LargeChunk {
		size = SmallChunk
		c = borrow(m, size)
	}
	if c == nil {
		return nil
	}
	c.start, c.off, c.fill = at-(at-low)%Seq(size), 0, 0
	p.link(prev, c)
	return c
}

// borrow is m.Borrow, and refuses a chunk that is shorter than asked for.
func borrow(m Memory, size int) *Chunk {
	c := m.Borrow(size)
	if c != nil && len(c.Bytes) < size {
		m.Return(c)
		return nil
	}
	return c
}

// link puts c behind prev, or in front where prev is nil.
func (p *pipe) link(prev, c *Chunk) {
	if prev == nil {
		c.next, p.head = p.head, c
	} else {
		c.next, prev.next = prev.next, c
	}
	if p.tail == prev {
		p.tail = c
	}
}

// views appends slices to dst that cover the octets [from, from+n), all of which must be there. They stay valid for
// as long as their chunks are not returned to Memory, since what was written once is not written again.
func (p *pipe) views(dst [][]byte, from Seq, n int) [][]byte {
	for c := p.find(from); c != nil && n > 0; c = c.next {
		i := from.From(c.start)
		j := min(i+n, c.fill)
		if i >= j {
			break
		}
		dst = append(dst, c.bytes()[i:j:j])
		from += Seq(j - i)
		n -= j - i
	}
	return dst
}

// copyTo copies up to n octets from sequence number from on into b, all of which must be there, and returns how many.
func (p *pipe) copyTo(b []byte, from Seq, n int) int {
	b = b[:min(n, len(b))]
	k := 0
	for c := p.find(from); c != nil && k < len(b); c = c.next {
		i := from.From(c.start)
		if i >= c.fill {
			break
		}
		d := copy(b[k:], c.bytes()[i:c.fill])
		from += Seq(d)
		k += d
	}
	return k
}

// discard drops everything before sequence number to. The chunks that become empty are pushed on the list *free, with
// their octets untouched: views may still borrow them.
func (p *pipe) discard(to Seq, free **Chunk) {
	p.start = maxSeq(p.start, to)
	p.end = maxSeq(p.end, to)
	for c := p.head; c != nil && (c.start + Seq(c.fill)).LessEq(p.start); c = p.head {
		p.unlinkHead()
		c.next, *free = *free, c
	}
}

func (p *pipe) unlinkHead() {
	p.head = p.head.next
	if p.head == nil {
		p.tail = nil
	}
}

// give appends the chunk c, the first n of whose octets are text: 0 < n ≤ len(c.Bytes).
func (p *pipe) give(c *Chunk, n int) {
	c.start, c.off, c.fill, c.next = p.end, 0, n, nil
	p.link(p.tail, c)
	p.end += Seq(n)
}

// adopt makes n octets of text the pipe's without copying them: they stand in *buffer from off on, and the chunk c takes
// that slice in exchange for its own, of the same length. Sequence number at, where they belong, is not before p.end.
func (p *pipe) adopt(c *Chunk, at Seq, buffer *[]byte, off, n int) {
	c.Bytes, *buffer = *buffer, c.Bytes
	c.start, c.off, c.fill, c.next = at, off, n, nil
	p.link(p.tail, c)
	p.end = at + Seq(n)
}

// take removes the first chunk and returns it with its octets from start on, where all that was written to it stands
// before sequence number to, up to which everything is there. Else it returns nil.
func (p *pipe) take(to Seq) (*Chunk, []byte) {
	c := p.head
	if c == nil || to.Less(c.start+Seq(c.fill)) {
		return nil, nil
	}
	b := c.bytes()[p.start.From(c.start):c.fill]
	p.unlinkHead()
	c.next = nil
	p.start = c.start + Seq(c.fill)
	return c, b
}

// heapMemory is the Memory of a Config that names none: the heap, without a bound.
type heapMemory struct{}

func (heapMemory) Borrow(n int) *Chunk { return NewChunk(n) }
func (heapMemory) Return(*Chunk)       {}
