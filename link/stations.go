package link

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
)

// stations is the table of a switch: at which port a station was heard last, in each VLAN.
//
// It is bounded. Where it is full, a new station takes the place of one at the port that has most, the newcomer's own if
// there is a draw: so a flood of made-up addresses costs the port it comes from, whatever the others have learnt stays, and
// they learn on. At that port those go first that nobody has sent to yet, which is what made-up addresses are. And no port
// may do that for ever at any pace: beyond relearn, its newcomers are not noted, which costs far less.
type stations struct {
	limit int
	age   time.Duration

	mu     sync.RWMutex
	m      map[stationKey]*station
	pinned int // of m, which do not count against limit
	ports  []*Port
	swept  time.Duration
	spare  *station
}

// stationKey is a VLAN, 16 bits, and an address, 48.
type stationKey uint64

func newStationKey(vlan uint16, a []byte) stationKey {
	return stationKey(vlan)<<48 | stationKey(a[0])<<40 | stationKey(a[1])<<32 | stationKey(a[2])<<24 |
		stationKey(a[3])<<16 | stationKey(a[4])<<8 | stationKey(a[5])
}

func (k stationKey) vlan() uint16 { return uint16(k >> 48) }

func (k stationKey) addr() ethernet.Addr {
	return ethernet.Addr{byte(k >> 40), byte(k >> 32), byte(k >> 24), byte(k >> 16), byte(k >> 8), byte(k)}
}

// A station is an entry of the table. Its links change under mu, seen under a reader's lock too.
type station struct {
	key        stationKey
	port       *Port
	seen       atomic.Int64 // nanoseconds since the switch was made
	pinned     bool         // it is where its port's configuration says, and nowhere else
	known      bool         // a frame was sent to it: it is in port.heard.known
	prev, next *station
}

// heard is what the table has of one port: two lists, each in the order of learning.
type heard struct {
	fresh, known stationList
	gone         bool // the port learns no more
}

func (h *heard) n() int { return h.fresh.n + h.known.n }

type stationList struct {
	first, last *station
	n           int
}

func (l *stationList) push(s *station) {
	s.prev, s.next = l.last, nil
	if l.last == nil {
		l.first = s
	} else {
		l.last.next = s
	}
	l.last = s
	l.n++
}

func (l *stationList) remove(s *station) {
	if s.prev == nil {
		l.first = s.next
	} else {
		s.prev.next = s.next
	}
	if s.next == nil {
		l.last = s.prev
	} else {
		s.next.prev = s.prev
	}
	s.prev, s.next = nil, nil
	l.n--
}

// The parts of the age: an entry is refreshed once in a refreshPart of it, which is about each second, and the table, where
// it is full, is searched for what is too old once in a sweepPart.
const (
	refreshPart = 256
	sweepPart   = 16
)

// relearn is how many stations of one port take the place of others in a second: a default table's worth, once everybody
// behind another switch comes anew, and at half a microsecond each 2 ms.
const relearn = defaultStations

// hear notes that a frame of the station src came to a port. It is false where the station has been pinned to another.
func (t *stations) hear(src stationKey, in *Port, now time.Duration) bool {
	t.mu.RLock()
	s := t.m[src]
	if s != nil && s.port == in {
		if now-time.Duration(s.seen.Load()) > t.age/refreshPart {
			s.seen.Store(int64(now))
		}
		t.mu.RUnlock()
		return true
	}
	crowded := s == nil && t.crowded()
	t.mu.RUnlock()
	if crowded && !in.learning.take(now, 1) {
		in.count(Unlearnt, 1)
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.learn(src, in, now)
}

// learn is hear for a station that is new, or new at this port. mu is held.
func (t *stations) learn(src stationKey, in *Port, now time.Duration) bool {
	if in.heard.gone {
		return true
	}
	s := t.m[src]
	switch {
	case s == nil:
		if t.crowded() {
			t.makeRoom(in, now)
		}
		s = t.entry()
		s.key = src
		t.m[src] = s
	case s.pinned:
		return s.port == in
	case s.port == in:
	default:
		t.list(s).remove(s)
		in.count(Moved, 1)
	}
	if s.port != in {
		s.port, s.known = in, false
		in.heard.fresh.push(s)
	}
	s.seen.Store(int64(now))
	return true
}

// crowded says that there is no room for one more.
func (t *stations) crowded() bool { return len(t.m)-t.pinned >= t.limit }

func (t *stations) list(s *station) *stationList {
	if s.known {
		return &s.port.heard.known
	}
	return &s.port.heard.fresh
}

// entry is memory for a station, that of one that was forgotten where there is one: a flood allocates nothing.
func (t *stations) entry() *station {
	s := t.spare
	if s == nil {
		return new(station)
	}
	t.spare, s.next = s.next, nil
	return s
}

// makeRoom takes one station at least out of the table, for a newcomer at a port.
func (t *stations) makeRoom(in *Port, now time.Duration) {
	if now-t.swept > t.age/sweepPart {
		t.swept = now
		for _, s := range t.m {
			if t.expired(s, now) {
				t.drop(s)
			}
		}
		if !t.crowded() {
			return
		}
	}
	most := in
	for _, p := range t.ports {
		if p.heard.n() > most.heard.n() {
			most = p
		}
	}
	s := most.heard.fresh.first
	if s == nil {
		s = most.heard.known.first
	}
	most.count(Evicted, 1)
	t.drop(s)
}

func (t *stations) expired(s *station, now time.Duration) bool {
	return !s.pinned && now-time.Duration(s.seen.Load()) >= t.age
}

// drop forgets a station that is not pinned.
func (t *stations) drop(s *station) {
	t.list(s).remove(s)
	delete(t.m, s.key)
	s.port, s.known = nil, false
	s.next, t.spare = t.spare, s
}

// find is the port where the station dst is; nil where nobody knows.
func (t *stations) find(dst stationKey, now time.Duration) *Port {
	t.mu.RLock()
	s := t.m[dst]
	if s == nil || t.expired(s, now) {
		t.mu.RUnlock()
		return nil
	}
	p, known := s.port, s.known || s.pinned
	t.mu.RUnlock()
	if !known {
		t.meet(dst)
	}
	return p
}

// meet notes that a frame was for this station.
func (t *stations) meet(dst stationKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.m[dst]; s != nil && !s.known && !s.pinned {
		s.port.heard.fresh.remove(s)
		s.known = true
		s.port.heard.known.push(s)
	}
}

// all is the table, without what is too old.
func (t *stations) all(now time.Duration) (list []Station) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for k, s := range t.m {
		if t.expired(s, now) {
			continue
		}
		e := Station{Addr: k.addr(), VLAN: k.vlan(), Port: s.port, Pinned: s.pinned}
		if !s.pinned {
			e.Age = now - time.Duration(s.seen.Load())
		}
		list = append(list, e)
	}
	return list
}

// count is how many entries a port has that were learnt.
func (t *stations) count(p *Port) int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return p.heard.n()
}

// add begins to learn what is at a port, and pins what belongs there.
func (t *stations) add(p *Port) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ports = append(t.ports, p)
	for vlan := range p.vlans() {
		for _, a := range p.config.Pinned {
			k := newStationKey(vlan, a[:])
			if old := t.m[k]; old != nil {
				if old.pinned {
					continue // the first to pin it has it
				}
				t.drop(old)
			}
			t.m[k] = &station{key: k, port: p, pinned: true}
			t.pinned++
		}
	}
}

// forget takes what was learnt at a port out of the table; with gone also what is pinned there, and it learns no more.
func (t *stations) forget(p *Port, gone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range []*stationList{&p.heard.fresh, &p.heard.known} {
		for l.first != nil {
			t.drop(l.first)
		}
	}
	if !gone {
		return
	}
	p.heard.gone = true
	for i, q := range t.ports {
		if q == p {
			t.ports = append(t.ports[:i:i], t.ports[i+1:]...)
			break
		}
	}
	for k, s := range t.m {
		if s.pinned && s.port == p {
			delete(t.m, k)
			t.pinned--
		}
	}
}
