// Package route answers which of many prefixes is the longest one that
// contains an address: the question a host asks for every packet.
//
// A [Table] is immutable. A change makes a new table, which shares with the old
// one all but the few nodes on the way to what has changed, and readers go on
// with the one that they have: no lock anywhere, and a route added to 10^5
// others costs what it costs among ten.
//
// The table is a trie that eats six bits of the address at each node. Six bits
// make 64 children, and 63 prefixes of no to five bits more than the node's own,
// so one 64-bit word says which of either there are, and counting its ones tells
// where they stand. A chain of nodes with a single child and no prefix is left
// out: nodes say at which bit they stand, and what the bits before are.
package route

import (
	"cmp"
	"encoding/binary"
	"iter"
	"math/bits"
	"net/netip"
	"slices"
)

// An Entry is one route: addresses in Prefix go to Value.
type Entry[V any] struct {
	Prefix netip.Prefix
	Value  V
}

// A Table is an immutable set of entries of both families. A nil *Table and
// the zero Table are empty.
//
// The families never mix, and addresses are taken as package net/netip takes
// them: ::ffff:192.0.2.1 is an IPv6 address that no IPv4 prefix contains, and
// an address with a zone is in no prefix. Who means otherwise says Unmap or
// WithZone("") first.
type Table[V any] struct {
	v4, v6 *node[V]
	n      int
}

// stride is how many bits of the address a node decides by: the most for which
// the prefixes of a node, 2^stride-1 of them, and its children fit into a word each.
const stride = 6

// A node stands for the prefix of at bits that key begins with.
type node[V any] struct {
	key      key
	at       uint8  // a multiple of stride
	prefixes uint64 // bit 1<<l | v: there is a route for the l bits v behind the node's own, l < stride
	children uint64 // bit v: there is a node for the next stride bits v
	entries  []*Entry[V]
	nodes    []*node[V]
}

// A key is an address as a number whose first bit is the address's, so that
// both families are cut from the same end.
type key struct{ hi, lo uint64 }

// Lookup returns the value of the longest prefix that contains a, and false if
// there is none. It does not allocate.
func (t *Table[V]) Lookup(a netip.Addr) (v V, ok bool) {
	k := number(a)
	var best *node[V]
	var found uint64
	for n := t.root(a); n != nil && k.shares(n.key, n.at); {
		c := k.chunk(n.at)
		if m := n.prefixes & covers[c]; m != 0 {
			best, found = n, m
		}
		bit := uint64(1) << c
		if n.children&bit == 0 {
			break
		}
		n = n.nodes[bits.OnesCount64(n.children&(bit-1))]
	}
	if best == nil {
		return v, false
	}
	return best.longest(found).Value, true
}

// LookupFunc is Lookup among the entries whose value suits.
func (t *Table[V]) LookupFunc(a netip.Addr, suits func(V) bool) (v V, ok bool) {
	k := number(a)
	for n := t.root(a); n != nil && k.shares(n.key, n.at); {
		c := k.chunk(n.at)
		for m := n.prefixes & covers[c]; m != 0; {
			e := n.longest(m)
			if suits(e.Value) {
				v, ok = e.Value, true
				break
			}
			m &^= 1 << (63 - bits.LeadingZeros64(m))
		}
		bit := uint64(1) << c
		if n.children&bit == 0 {
			break
		}
		n = n.nodes[bits.OnesCount64(n.children&(bit-1))]
	}
	return v, ok
}

// longest is the entry of the highest of the bits in m, all of which are in n.prefixes.
func (n *node[V]) longest(m uint64) *Entry[V] {
	top := 63 - bits.LeadingZeros64(m)
	return n.entries[bits.OnesCount64(n.prefixes&(1<<top-1))]
}

// Find returns the value of exactly this prefix, which is masked first.
func (t *Table[V]) Find(p netip.Prefix) (v V, ok bool) {
	if !p.IsValid() {
		return v, false
	}
	p = p.Masked()
	k, at, bit := place(p)
	for n := t.root(p.Addr()); n != nil && n.at <= at && k.shares(n.key, n.at); {
		if n.at == at {
			if n.prefixes&bit == 0 {
				break
			}
			return n.longest(bit).Value, true
		}
		child := uint64(1) << k.chunk(n.at)
		if n.children&child == 0 {
			break
		}
		n = n.nodes[bits.OnesCount64(n.children&(child-1))]
	}
	return v, false
}

// All returns the entries with their masked prefixes, longest prefix first,
// among equal lengths IPv4 before IPv6, then by address. It sorts a copy.
func (t *Table[V]) All() iter.Seq[Entry[V]] {
	return func(yield func(Entry[V]) bool) {
		if t == nil {
			return
		}
		all := t.v6.collect(t.v4.collect(make([]*Entry[V], 0, t.n)))
		slices.SortFunc(all, func(a, b *Entry[V]) int {
			return cmp.Or(cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()), a.Prefix.Addr().Compare(b.Prefix.Addr()))
		})
		for _, e := range all {
			if !yield(*e) {
				return
			}
		}
	}
}

// collect appends the entries of n and what is below it.
func (n *node[V]) collect(to []*Entry[V]) []*Entry[V] {
	if n == nil {
		return to
	}
	to = append(to, n.entries...)
	for _, c := range n.nodes {
		to = c.collect(to)
	}
	return to
}

// Len returns the number of entries.
func (t *Table[V]) Len() int {
	if t == nil {
		return 0
	}
	return t.n
}

// root is the trie that a can be in.
func (t *Table[V]) root(a netip.Addr) *node[V] {
	switch {
	case t == nil || !a.IsValid():
		return nil
	case a.Is4():
		return t.v4
	case a.Zone() != "":
		return nil
	}
	return t.v6
}

// covers has for each chunk of an address the bits of node.prefixes that contain it.
var covers = func() (all [1 << stride]uint64) {
	for c := range all {
		for l := range stride {
			all[c] |= 1 << (1<<l | c>>(stride-l))
		}
	}
	return all
}()

// number returns the address as a number.
func number(a netip.Addr) key {
	if a.Is4() {
		b := a.As4()
		return key{uint64(binary.BigEndian.Uint32(b[:])) << 32, 0}
	}
	b := a.As16()
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// place says where the entry of p, which is masked, stands: the node's bits and the bit of its prefixes.
func place(p netip.Prefix) (k key, at uint8, bit uint64) {
	k = number(p.Addr())
	at = uint8(p.Bits() / stride * stride)
	l := p.Bits() - int(at)
	return k, at, 1 << (1<<l | k.chunk(at)>>(stride-l))
}

// chunk is the stride bits of k from bit at on; behind its end there are zeros.
func (k key) chunk(at uint8) uint64 {
	// Shifts by 64 and more give 0.
	return (k.hi<<at | k.lo>>(64-at) | k.lo<<(at-64)) >> (64 - stride)
}

// shares reports whether the first n bits of k and o are the same.
func (k key) shares(o key, n uint8) bool {
	return k.common(o) >= n
}

// common is the number of bits that k and o begin with together.
func (k key) common(o key) uint8 {
	if x := k.hi ^ o.hi; x != 0 {
		return uint8(bits.LeadingZeros64(x))
	}
	return 64 + uint8(bits.LeadingZeros64(k.lo^o.lo))
}
