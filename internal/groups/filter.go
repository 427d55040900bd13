package groups

import (
	"net/netip"
	"slices"
)

// Filter says from whom a group is to be heard: from the sources, or with Exclude from all but them. The zero Filter is nobody:
// not to listen at all.
type Filter struct {
	Exclude bool
	Sources []netip.Addr // sorted, each once
}

// listens reports whether there is anybody to be heard.
func (f *Filter) listens() bool { return f.Exclude || len(f.Sources) > 0 }

// Accepts reports whether a packet of that source is to be heard.
func (f *Filter) Accepts(source netip.Addr) bool {
	_, found := slices.BinarySearchFunc(f.Sources, source, netip.Addr.Compare)
	return found != f.Exclude
}

// equal reports whether two filters say the same.
func (f *Filter) equal(o *Filter) bool {
	return f.Exclude == o.Exclude && slices.Equal(f.Sources, o.Sources)
}

// sorted is a set: the addresses in order, each once, in memory of its own.
func sorted(s []netip.Addr) []netip.Addr {
	s = slices.Clone(s)
	slices.SortFunc(s, netip.Addr.Compare)
	return slices.Compact(s)
}

// has reports whether a set has a.
func has(set []netip.Addr, a netip.Addr) bool {
	_, found := slices.BinarySearchFunc(set, a, netip.Addr.Compare)
	return found
}

// minus is what of the set a is not in b, and intersection what is.
func minus(a, b []netip.Addr) []netip.Addr        { return pick(a, b, false) }
func intersection(a, b []netip.Addr) []netip.Addr { return pick(a, b, true) }

// pick is what of the set a is in b, or is not.
func pick(a, b []netip.Addr, in bool) []netip.Addr {
	var out []netip.Addr
	for _, x := range a {
		if has(b, x) == in {
			out = append(out, x)
		}
	}
	return out
}

// union is what is in a or b.
func union(a, b []netip.Addr) []netip.Addr { return sorted(slices.Concat(a, b)) }

// merge makes one filter of those of all sockets. RFC 9776 §3.2: "if any such record has a filter-mode of EXCLUDE, then the
// filter-mode of the interface record is EXCLUDE, and the source-list of the interface record is the intersection of the
// source-lists of all socket records in EXCLUDE mode, minus those source addresses that appear in any socket record in INCLUDE
// mode." Otherwise it is the union of all.
func merge(sockets map[uint64]Filter) Filter {
	var wanted, refused []netip.Addr
	exclude := false
	for _, f := range sockets {
		switch {
		case !f.Exclude:
			wanted = union(wanted, f.Sources)
		case !exclude:
			exclude, refused = true, f.Sources
		default:
			refused = intersection(refused, f.Sources)
		}
	}
	if exclude {
		return Filter{Exclude: true, Sources: minus(refused, wanted)}
	}
	return Filter{Sources: wanted}
}
