package tcp

import "slices"

// ranges is a set of sequence numbers, such as what arrived out of order: blocks that are sorted and neither overlap
// nor touch. A nil *ranges is an empty set for every method but add. Everything in it stands within 2³¹ of each other.
type ranges struct {
	r      []Block
	mem    []Block // r is a part of it, and reaches to its end with what it could hold
	recent [4]Seq  // an octet of each block that changed last, the newest first; some may have gone since
	n      uint8   // how many of recent are meaningful
}

// maxRanges bounds the blocks of one set. A slow start that overshoots a window of 12 MB, 500 Mbit/s over 200 ms, loses
// every other packet of it and leaves 4,000; a set beyond that is somebody's attempt to make us search and store.
const maxRanges = 4096

// add puts b into the set. It reports false, and changes nothing, where the set would have more than maxRanges blocks.
func (x *ranges) add(b Block) bool {
	if !b.Left.Less(b.Right) {
		return true
	}
	i := x.search(b.Left)
	j := i
	octet := b.Left
	for ; j < len(x.r) && x.r[j].Left.LessEq(b.Right); j++ {
		b.Left = minSeq(b.Left, x.r[j].Left)
		b.Right = maxSeq(b.Right, x.r[j].Right)
	}
	switch {
	case j > i:
		x.r[i] = b
		x.delete(i+1, j)
	case len(x.r) >= maxRanges:
		return false
	default:
		x.insert(i, b)
	}
	x.changed(octet, b)
	return true
}

// insert makes b the block at index i. The fewer of the others move.
func (x *ranges) insert(i int, b Block) {
	n := len(x.r)
	front := i < n/2
	if front && len(x.mem) == cap(x.r) || !front && n == cap(x.r) {
		x.centre()
	}
	if front {
		lo := len(x.mem) - cap(x.r)
		r := x.mem[lo-1 : lo+n]
		copy(r, x.r[:i])
		x.r = r
	} else {
		x.r = x.r[:n+1]
		copy(x.r[i+1:], x.r[i:])
	}
	x.r[i] = b
}

// centre moves the blocks to the middle of the memory, or of twice as much where it is nearly full.
func (x *ranges) centre() {
	n := len(x.r)
	if len(x.mem)-n <= n/4+2 {
		x.mem = make([]Block, max(2*n, 8))
	}
	lo := (len(x.mem) - n) / 2
	x.r = x.mem[lo : lo+copy(x.mem[lo:], x.r)]
}

// delete takes the blocks [i, j) out. The fewer of the others move.
func (x *ranges) delete(i, j int) {
	if i >= len(x.r)-j {
		x.r = x.r[:i+copy(x.r[i:], x.r[j:])]
		return
	}
	copy(x.r[j-i:], x.r[:i])
	x.r = x.r[j-i:]
}

// search returns the index of the first block that ends at or behind s, which is where a block from s on belongs.
func (x *ranges) search(s Seq) int {
	i := 0 // as many end before s
	for n := len(x.r); n > 0; {
		half := (n + 1) >> 1
		i += half & x.r[i+half-1].Right.before(s)
		n -= half
	}
	return i
}

// changed notes that octet arrived last, and has become part of b.
func (x *ranges) changed(octet Seq, b Block) {
	list := [len(x.recent)]Seq{octet}
	k := uint8(1)
	for _, s := range x.recent[:x.n] {
		if !s.In(b.Left, b.Right) && int(k) < len(list) {
			list[k] = s
			k++
		}
	}
	x.recent, x.n = list, k
}

// takeFrom removes what begins at or before at, and returns the end of the octets that are there without a hole from
// at on: the new RCV.NXT.
func (x *ranges) takeFrom(at Seq) Seq {
	if x == nil {
		return at
	}
	i := 0
	for ; i < len(x.r) && x.r[i].Left.LessEq(at); i++ {
		at = maxSeq(at, x.r[i].Right)
	}
	x.delete(0, i)
	return at
}

// hole returns the first run of octets in b that the set does not have, and false where it has them all. What is
// written only into holes leaves the octets that arrived first as they were.
func (x *ranges) hole(b Block) (Block, bool) {
	if x != nil {
		for _, k := range x.r[x.search(b.Left):] {
			if b.Left.Less(k.Left) {
				b.Right = minSeq(b.Right, k.Left)
				break
			}
			b.Left = k.Right
		}
	}
	return b, b.Left.Less(b.Right)
}

// block returns the block that the octet at s is in.
func (x *ranges) block(s Seq) (Block, bool) {
	if x == nil {
		return Block{}, false
	}
	i := x.search(s + 1)
	if i == len(x.r) || s.Less(x.r[i].Left) {
		return Block{}, false
	}
	return x.r[i], true
}

// sack puts blocks into o, behind those that it carries (a D-SACK of RFC 2883), until it has four or the set no more:
// the block that changed last, then the one before it, and so on, then any others.
func (x *ranges) sack(o *Options) {
	if x == nil {
		return
	}
	first := int(o.Blocks)
	// RFC 2018 §4: "The first SACK block […] MUST specify the contiguous block of data containing the segment which
	// triggered this ACK"
	for _, s := range x.recent[:x.n] {
		if b, ok := x.block(s); ok {
			o.addSACK(b, first)
		}
	}
	for _, b := range x.r {
		if int(o.Blocks) >= len(o.SACK) {
			return
		}
		o.addSACK(b, first)
	}
}

// addSACK appends b where there is room and it does not stand among the blocks from index first on.
func (o *Options) addSACK(b Block, first int) {
	if int(o.Blocks) < len(o.SACK) && !slices.Contains(o.SACK[first:o.Blocks], b) {
		o.SACK[o.Blocks] = b
		o.Blocks++
	}
}

// bytes is the number of octets in the set.
func (x *ranges) bytes() int {
	n := 0
	if x != nil {
		for _, b := range x.r {
			n += b.Right.From(b.Left)
		}
	}
	return n
}

// len is the number of blocks.
func (x *ranges) len() int {
	if x == nil {
		return 0
	}
	return len(x.r)
}

// reset empties the set and gives its memory back.
func (x *ranges) reset() {
	if x != nil {
		*x = ranges{}
	}
}
