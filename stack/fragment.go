package stack

import (
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/internal/reassembly"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// fragments are the packets of which some fragments have arrived, at whichever interface.
type fragments struct {
	sync.Mutex
	table *reassembly.Table
	held  int // octets of the account that the table has
	alarm alarm
}

// fragmentShare is the part of the account that fragments may have at most, a quarter: the sockets need the rest.
const fragmentShare = 4

func (f *fragments) init(s *Stack) {
	f.table = reassembly.New(reassembly.Config{Octets: int(min(s.config.Memory/fragmentShare, reassembly.DefaultOctets))})
	f.alarm = alarm{stack: s, fire: func(now time.Duration) { s.expireFragments(now) }}
}

// addFragment gives the fragment at hand to the table, as far as the account has room for it.
func (s *Stack) addFragment(now time.Duration, in *inbox, w reassembly.Way) reassembly.Result {
	f := &s.fragments
	f.Lock()
	defer f.Unlock()
	cost := reassembly.Cost(len(in.m.packet))
	if f.table == nil || !s.memory.take(cost) {
		return reassembly.Result{Verdict: reassembly.Full}
	}
	var r reassembly.Result
	if in.m.src.Is4() {
		r = f.table.IPv4(now, &in.ip4, in.m.packet, w, in.whole)
	} else {
		r = f.table.IPv6(now, &in.ip6, &in.chain, in.m.packet, w, in.whole)
	}
	f.settle(s, cost)
	if at, ok := f.table.Deadline(); ok {
		f.alarm.set(at)
	}
	return r
}

// settle gives back what was taken of the account, or held before, and is not held any longer.
func (f *fragments) settle(s *Stack, taken int) {
	s.memory.give(f.held + taken - f.table.Octets())
	f.held = f.table.Octets()
}

// join puts the packet together that a fragment belongs to (RFC 1122 §3.3.2, RFC 8200 §4.5), and reports whether it is
// whole now: then the inbox holds it as if it had arrived like that.
func (i *Interface) join(now time.Duration, in *inbox) bool {
	s, m := i.stack, &in.m
	s.stats.fragmentsIn.Add(1)
	r := s.addFragment(now, in, reassembly.Way{Iface: i.index, Scoped: m.group || i.zone(m.src, m.dst) != 0})
	if r.Lost > 0 {
		s.stats.dropN(fragmentDrops[r.Verdict], r.Lost)
	}
	if r.Verdict != reassembly.Whole {
		if r.Verdict != reassembly.Waiting {
			in.drop(fragmentDrops[r.Verdict])
		}
		return false
	}
	in.whole = r.Packet
	m.packet, m.size, m.sound, m.joined = r.Packet, 0, false, true
	if m.src.Is4() {
		return i.rejoin4(in)
	}
	return i.rejoin6(now, in)
}

// fragmentDrops names why fragments go; those of other packets that had to make room are gone for FragmentFull.
var fragmentDrops = [...]Drop{
	reassembly.Waiting: FragmentFull, reassembly.Whole: FragmentFull, reassembly.Full: FragmentFull,
	reassembly.Duplicate: FragmentDuplicate, reassembly.Malformed: BadFragment, reassembly.Overlap: FragmentOverlap,
	reassembly.Abandoned: FragmentOverlap, reassembly.Congested: FragmentCongested,
}

// rejoin4 reads the header of a packet that is whole.
func (i *Interface) rejoin4(in *inbox) bool {
	n, err := in.ip4.Decode(in.m.packet)
	if err != nil {
		in.drop(BadFragment)
		return false
	}
	in.m.tos, in.m.hops, in.m.text = in.ip4.TOS, in.ip4.TTL, in.m.packet[n:]
	return true
}

// rejoin6 reads the headers of a packet that is whole; what stands behind the Fragment header is walked for the first time.
func (i *Interface) rejoin6(now time.Duration, in *inbox) bool {
	if in.ip6.Decode(in.m.packet) != nil {
		in.drop(BadFragment)
		return false
	}
	in.m.tos, in.m.hops = in.ip6.TrafficClass, in.ip6.HopLimit
	if err := in.chain.Walk(in.ip6.NextHeader, in.m.packet[ipv6.HeaderLen:]); err != nil {
		in.drop(BadExtension)
		i.problem6(now, &in.m, err)
		return false
	}
	if in.chain.Fragment { // no sender makes a fragment of fragments
		in.drop(BadFragment)
		return false
	}
	return true
}

// expireFragments gives up the packets that did not become whole in time.
func (s *Stack) expireFragments(now time.Duration) {
	f := &s.fragments
	f.Lock()
	live := f.alarm.fired()
	for live && f.table != nil {
		e, ok := f.table.Expire(now)
		if !ok {
			break
		}
		f.settle(s, 0)
		s.stats.dropN(FragmentTimeout, e.Fragments)
		if e.First != nil {
			f.Unlock()
			s.timeExceeded(now, &e)
			f.Lock()
		}
	}
	if live && f.table != nil {
		if at, ok := f.table.Deadline(); ok {
			f.alarm.set(at)
		}
	}
	f.Unlock()
}

// timeExceeded tells a sender that fragments are missing. RFC 792: "If fragment zero is not available then no time exceeded
// need be sent at all"; RFC 8200 §4.5 says the same.
func (s *Stack) timeExceeded(now time.Duration, e *reassembly.Expired) {
	i := s.view.Load().ifaces[e.Iface]
	m := datagram{packet: e.First}
	if e.First[0]>>4 == 4 {
		var h ipv4.Header
		if _, err := h.DecodeQuoted(e.First); err == nil {
			m.src, m.dst, m.group = h.Src, h.Dst, h.Dst.IsMulticast() || i.broadcast(h.Dst)
			i.error4(now, &m, &ipv4.ICMP{Type: ipv4.TimeExceeded, Code: ipv4.CodeReassembly})
		}
		return
	}
	var h ipv6.Header
	if h.DecodeQuoted(e.First) == nil && !h.Dst.IsMulticast() {
		m.src, m.dst = h.Src, h.Dst
		i.refuse6(now, &m, &ipv6.ICMP{Type: ipv6.TimeExceeded, Code: ipv6.CodeReassembly})
	}
}

// close forgets all fragments.
func (f *fragments) close(s *Stack) {
	f.Lock()
	defer f.Unlock()
	f.alarm.stop()
	s.memory.give(f.held)
	f.table, f.held = nil, 0
}
