package route

import (
	"math/bits"
	"net/netip"
	"slices"
)

// New makes a table of the entries. Prefixes are masked, among equal ones the
// first wins, and an invalid prefix (the zero Prefix) is left out.
func New[V any](entries []Entry[V]) *Table[V] {
	t := new(Table[V])
	for _, e := range entries {
		if _, there := t.Find(e.Prefix); !there {
			t = t.Insert(e.Prefix, e.Value)
		}
	}
	return t
}

// Insert returns a table that sends the addresses of p to v besides, or instead
// of where it sent them. An invalid prefix changes nothing.
func (t *Table[V]) Insert(p netip.Prefix, v V) *Table[V] {
	if !p.IsValid() {
		return t
	}
	p = p.Masked()
	return t.change(p, &Entry[V]{p, v})
}

// Delete returns a table without an entry for exactly p.
func (t *Table[V]) Delete(p netip.Prefix) *Table[V] {
	if _, there := t.Find(p); !there {
		return t
	}
	return t.change(p.Masked(), nil)
}

// change returns a table with e for p, or with nothing.
func (t *Table[V]) change(p netip.Prefix, e *Entry[V]) *Table[V] {
	var c Table[V]
	if t != nil {
		c = *t
	}
	root := &c.v6
	if p.Addr().Is4() {
		root = &c.v4
	}
	k, at, bit := place(p)
	if e != nil {
		var added bool
		if *root, added = (*root).insert(k, at, bit, e); added {
			c.n++
		}
	} else {
		*root = (*root).without(k, at, bit)
		c.n--
	}
	return &c
}

// insert returns a copy of n with e in it, or below it, and whether that makes one more.
func (n *node[V]) insert(k key, at uint8, bit uint64, e *Entry[V]) (*node[V], bool) {
	if n == nil {
		return &node[V]{key: k, at: at, prefixes: bit, entries: []*Entry[V]{e}}, true
	}
	c := *n
	switch both := min(k.common(n.key), at, n.at) / stride * stride; {
	case both < n.at: // e belongs above n, or the two part before n
		c = node[V]{key: k, at: both}
		c.setChild(n.key.chunk(both), n)
		if both < at {
			below, _ := (*node[V])(nil).insert(k, at, bit, e)
			c.setChild(k.chunk(both), below)
			return &c, true
		}
		c.prefixes, c.entries = bit, []*Entry[V]{e}
		return &c, true
	case n.at == at:
		added := n.prefixes&bit == 0
		i := bits.OnesCount64(n.prefixes & (bit - 1))
		if added {
			c.entries = slices.Insert(slices.Clone(n.entries), i, e)
		} else {
			c.entries = slices.Clone(n.entries)
			c.entries[i] = e
		}
		c.prefixes |= bit
		return &c, added
	}
	chunk := k.chunk(n.at)
	below, added := n.child(chunk).insert(k, at, bit, e)
	c.nodes = slices.Clone(n.nodes)
	c.setChild(chunk, below)
	return &c, added
}

// without returns a copy of n that lacks an entry, which is there; nil: nothing is left.
func (n *node[V]) without(k key, at uint8, bit uint64) *node[V] {
	c := *n
	if n.at == at {
		i := bits.OnesCount64(n.prefixes & (bit - 1))
		c.entries = slices.Delete(slices.Clone(n.entries), i, i+1)
		c.prefixes &^= bit
	} else {
		chunk := k.chunk(n.at)
		c.nodes = slices.Clone(n.nodes)
		c.setChild(chunk, n.child(chunk).without(k, at, bit))
	}
	if c.prefixes == 0 { // a node without a route of its own is there only where the ways part
		switch len(c.nodes) {
		case 0:
			return nil
		case 1:
			return c.nodes[0]
		}
	}
	return &c
}

// child is the node for the next chunk, or nil.
func (n *node[V]) child(chunk uint64) *node[V] {
	bit := uint64(1) << chunk
	if n.children&bit == 0 {
		return nil
	}
	return n.nodes[bits.OnesCount64(n.children&(bit-1))]
}

// setChild puts c, or nothing, where the child for a chunk stands. n.nodes is n's own.
func (n *node[V]) setChild(chunk uint64, c *node[V]) {
	bit := uint64(1) << chunk
	i := bits.OnesCount64(n.children & (bit - 1))
	switch there := n.children&bit != 0; {
	case c == nil && there:
		n.nodes = slices.Delete(n.nodes, i, i+1)
		n.children &^= bit
	case there:
		n.nodes[i] = c
	case c != nil:
		n.nodes = slices.Insert(n.nodes, i, c)
		n.children |= bit
	}
}
