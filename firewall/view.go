package firewall

import (
	"iter"
	"net/netip"
	"time"
)

// Stats counts packets by what became of them.
type Stats struct {
	Packets     uint64             // that Arrive, or Filter first, has seen
	Accepted    uint64             // by Filter
	Dropped     [numReasons]uint64 // and rejected, by Reason
	Replies     uint64             // written to tell of a rejected packet
	Opened      uint64             // connections
	Expired     uint64             // connections whose time was up
	Evicted     uint64             // connections given up for others, the table being full
	Connections int                // now
	Mappings    int                // now
}

// Stats returns the counters.
func (f *Firewall) Stats() Stats {
	s := f.stats
	s.Connections, s.Mappings = f.table.n, f.mappings.n
	return s
}

// Connection is a tracked connection.
type Connection struct {
	Flow       Flow // as its first side sends, before translation
	Return     Flow // as the answers come, before theirs is undone
	Progress   Progress
	Translated bool          // its destination
	Seen       time.Duration // when its last packet was
	Packets    [2]uint64     // by the first side, by the other
}

func (f *Firewall) connection(c *conn) Connection {
	return Connection{c.tuples[0].flow(), c.tuples[1].flow(), c.progress, c.translated, c.seen, c.packets}
}

// Connections lists the connections. Nothing else may be done with f meanwhile.
func (f *Firewall) Connections() iter.Seq[Connection] {
	return func(yield func(Connection) bool) {
		for ref := uint32(1); ref <= f.used; ref++ {
			if c := f.at(ref); c.live && !yield(f.connection(c)) {
				return
			}
		}
	}
}

// Mapping is an internal endpoint with the external one that it has.
type Mapping struct {
	Protocol           uint8
	Internal, External netip.AddrPort
	Filter             Filtering
	Connections        int // that use it
}

// Mappings lists the mappings. Nothing else may be done with f meanwhile.
func (f *Firewall) Mappings() iter.Seq[Mapping] {
	return func(yield func(Mapping) bool) {
		for i := range f.mappings.list {
			m := &f.mappings.list[i]
			if m.refs > 0 && !yield(Mapping{m.inside.proto, m.inside.source(), m.outside.target(), m.filter, m.refs}) {
				return
			}
		}
	}
}

// Counter is what a rule has matched since SetRules.
type Counter struct{ Packets, Octets uint64 }

// Counters lists the rules with what they have matched, in order. Nothing else may be done with f meanwhile.
func (f *Firewall) Counters() iter.Seq2[*Rule, Counter] {
	return func(yield func(*Rule, Counter) bool) {
		for i := range f.rules.memory {
			m := &f.rules.memory[i]
			if !yield(&f.rules.source.Filter[i], Counter{m.packets, m.octets}) {
				return
			}
		}
	}
}
