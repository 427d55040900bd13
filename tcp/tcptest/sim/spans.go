package sim

import "sort"

// span is the octets [from, to) of a flow's text.
type span struct{ from, to int64 }

// spans is a set of octets: all before edge, and ahead of it some that are sorted and do not touch.
type spans struct {
	edge  int64
	ahead []span
}

// add adds [from, to) and returns how many of the octets were in the set before.
func (s *spans) add(from, to int64) (again int64) {
	if from < s.edge {
		again = min(to, s.edge) - from
		from = s.edge
	}
	if from >= to {
		return again
	}
	if from == s.edge && (len(s.ahead) == 0 || to < s.ahead[0].from) { // the usual case
		s.edge = to
		return again
	}
	i := sort.Search(len(s.ahead), func(i int) bool { return s.ahead[i].to >= from })
	j := i
	whole := span{from, to}
	for ; j < len(s.ahead) && s.ahead[j].from <= to; j++ {
		a := s.ahead[j]
		again += max(min(to, a.to)-max(from, a.from), 0)
		whole = span{min(whole.from, a.from), max(whole.to, a.to)}
	}
	if i == j {
		s.ahead = append(s.ahead, span{})
		copy(s.ahead[i+1:], s.ahead[i:])
		s.ahead[i] = whole
	} else {
		s.ahead[i] = whole
		s.ahead = append(s.ahead[:i+1], s.ahead[j:]...)
	}
	if s.ahead[0].from <= s.edge {
		s.edge = s.ahead[0].to
		s.ahead = s.ahead[:copy(s.ahead, s.ahead[1:])]
	}
	return again
}
