package autoconf

import (
	"slices"
	"time"

	"github.com/seed87e66d9f/waybill/ipv6"
)

// server is RFC 8106 §6.1 for a name server: it is asked until its lifetime is over, or said to be.
func (h *Host) server(now time.Duration, s *ipv6.Server) {
	if s.Addr.IsUnspecified() || s.Addr.IsMulticast() || s.Addr.IsLoopback() || s.Addr.Is4In6() {
		return
	}
	k := slices.IndexFunc(h.servers, func(x Server) bool { return x.Addr == s.Addr })
	learn(h, now, &h.servers, k, MaxServers, Server{s.Addr, until(now, s.Lifetime)}, s.Lifetime == 0)
}

// domain is the same for a domain of the search list.
func (h *Host) domain(now time.Duration, name string, lifetime uint32) {
	k := slices.IndexFunc(h.domains, func(x Domain) bool { return x.Name == name })
	learn(h, now, &h.domains, k, MaxDomains, Domain{name, until(now, lifetime)}, lifetime == 0)
}

// learn enters x at k, or as a new one where k is -1, or takes it away where it is over. The first of a list is in use.
func learn[T any](h *Host, now time.Duration, list *[]T, k, most int, x T, over bool) {
	switch {
	case over && k >= 0:
		*list, h.changed = slices.Delete(*list, k, k+1), true
	case over:
	case k >= 0:
		(*list)[k] = x
	case room(h, now, list, most, func(k int) bool { return k == 0 }):
		*list, h.changed = append(*list, x), true
	}
}
