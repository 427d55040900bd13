// Package route answers which of many prefixes is the longest one that
// contains an address: the question a router asks for every packet.
//
// A [Table] is immutable. A change of the routes builds a new one, and readers
// go on with the one that they have: no lock anywhere. New cuts the address
// space at the first address of each prefix and just after the last one, and
// notes for each piece which prefix is the longest there. Prefixes nest and
// never overlap half, so n of them make at most 2n pieces, and Lookup is one
// binary search, for one default route as for the 10^5 routes of a backbone.
package route

import (
	"cmp"
	"encoding/binary"
	"iter"
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
	entries []Entry[V] // longest prefix first
	v4, v6  []piece    // sorted by start
}

// A piece is a run of addresses, up to the start of the next piece, that one
// entry is the best answer for.
type piece struct {
	start key
	entry int32 // index into entries, or none
}

const none = -1

// A key is an address as a number; an IPv4 address is in lo alone.
type key struct{ hi, lo uint64 }

// New makes a table of the entries. Prefixes are masked, among equal ones the
// first wins, and an invalid prefix (the zero Prefix) is left out.
func New[V any](entries []Entry[V]) *Table[V] {
	t := &Table[V]{entries: make([]Entry[V], 0, len(entries))}
	for _, e := range entries {
		if e.Prefix.IsValid() {
			e.Prefix = e.Prefix.Masked()
			t.entries = append(t.entries, e)
		}
	}
	slices.SortStableFunc(t.entries, func(a, b Entry[V]) int {
		return cmp.Or(cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()), a.Prefix.Addr().Compare(b.Prefix.Addr()))
	})
	t.entries = slices.CompactFunc(t.entries, func(a, b Entry[V]) bool { return a.Prefix == b.Prefix })
	t.v4, t.v6 = t.cut(true), t.cut(false)
	return t
}

// Lookup returns the value of the longest prefix that contains a, and false if
// there is none. It does not allocate.
func (t *Table[V]) Lookup(a netip.Addr) (v V, ok bool) {
	if t == nil {
		return v, false
	}
	pieces := t.v6
	if a.Is4() {
		pieces = t.v4
	} else if !a.IsValid() || a.Zone() != "" {
		return v, false
	}
	k := number(a)
	// The last piece that does not start after k: pieces[i-1].
	i, j := 0, len(pieces)
	for i < j {
		if m := int(uint(i+j) / 2); k.less(pieces[m].start) {
			j = m
		} else {
			i = m + 1
		}
	}
	if i == 0 || pieces[i-1].entry == none {
		return v, false
	}
	return t.entries[pieces[i-1].entry].Value, true
}

// All returns the entries with their masked prefixes, longest prefix first,
// among equal lengths IPv4 before IPv6, then by address.
func (t *Table[V]) All() iter.Seq[Entry[V]] {
	return func(yield func(Entry[V]) bool) {
		if t == nil {
			return
		}
		for _, e := range t.entries {
			if !yield(e) {
				return
			}
		}
	}
}

// Len returns the number of entries.
func (t *Table[V]) Len() int {
	if t == nil {
		return 0
	}
	return len(t.entries)
}

// cut makes the pieces of one family. It walks over the prefixes by first
// address, the wider of two first, with those that are open at this address on
// a stack: the top is the longest.
func (t *Table[V]) cut(v4 bool) []piece {
	var order []int32
	for i, e := range t.entries {
		if e.Prefix.Addr().Is4() == v4 {
			order = append(order, int32(i))
		}
	}
	slices.SortFunc(order, func(a, b int32) int {
		p, q := t.entries[a].Prefix, t.entries[b].Prefix
		return cmp.Or(p.Addr().Compare(q.Addr()), cmp.Compare(p.Bits(), q.Bits()))
	})

	c := cutter{pieces: make([]piece, 0, 2*len(order))}
	for _, i := range order {
		p := t.entries[i].Prefix
		first := number(p.Addr())
		c.closeBefore(first)
		c.begin(first, i)
		c.open = append(c.open, span{last(p), i})
	}
	// All that is still open, but for IPv6 prefixes that end with the last
	// address: nothing comes after those.
	c.closeBefore(key{^uint64(0), ^uint64(0)})
	return slices.Clip(c.pieces)
}

// A cutter is the state of cut.
type cutter struct {
	pieces []piece
	open   []span
}

// A span is an open prefix: its last address and its entry.
type span struct {
	last  key
	entry int32
}

// closeBefore ends the open prefixes that do not reach k.
func (c *cutter) closeBefore(k key) {
	for n := len(c.open); n > 0 && c.open[n-1].last.less(k); n = len(c.open) {
		after := c.open[n-1].last.next()
		c.open = c.open[:n-1]
		entry := int32(none)
		if n > 1 {
			entry = c.open[n-2].entry
		}
		c.begin(after, entry)
	}
}

// begin starts a piece at k. Of several that start there the last one stands,
// as Lookup's search ends behind it.
func (c *cutter) begin(k key, entry int32) {
	c.pieces = append(c.pieces, piece{k, entry})
}

// number returns the address as a number.
func number(a netip.Addr) key {
	if a.Is4() {
		b := a.As4()
		return key{0, uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// last returns the last address of p, which is masked.
func last(p netip.Prefix) key {
	k, host := number(p.Addr()), p.Addr().BitLen()-p.Bits()
	// A shift by 64 or more gives 0, and 0-1 all ones.
	k.lo |= 1<<min(host, 64) - 1
	k.hi |= 1<<max(host-64, 0) - 1
	return k
}

func (k key) less(o key) bool {
	return k.hi < o.hi || k.hi == o.hi && k.lo < o.lo
}

// next returns the address after k.
func (k key) next() key {
	k.lo++
	if k.lo == 0 {
		k.hi++
	}
	return k
}
