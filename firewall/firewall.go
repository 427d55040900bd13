package firewall

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/seed87e66d9f/waybill/internal/pace"
)

// Config is what a Firewall is made with. The zero value works.
type Config struct {
	// Seed is the secret of the tables' hashing: 128 bits that nobody outside knows. The same seed and the same packets
	// give the same results.
	Seed [2]uint64
	// Connections is how many connections are tracked at most, and so how many mappings there are; 0: 65536. A connection
	// takes about 250 octets with its places in the index, and nothing is taken before it is needed.
	Connections int
	Timeouts    Timeouts
	// SourceRate is how many connections a second packets of one source may begin, with four seconds' worth at once; a source
	// is an address, or of IPv6 a network of 64 bits. SYNs that come again count as well. 0: 4096, which is more than the
	// busiest host of a household needs, and what a port scanner in a hurry needs; who serves many by one address, as behind
	// a proxy, may want more. Negative: any number. It takes 32 KB, and never more: of the 4096 places by a hash of the
	// source, those that meet in one share it.
	SourceRate int
	// NewRate is the same for all packets that come in by one interface, with two seconds' worth at once: what a flood with
	// made-up sources may cost. Those who come by other interfaces keep theirs. 0: 8192, which at 2 to 4 µs each take a
	// thirtieth of a processor, and several times that in the hosts behind; negative: any number.
	NewRate int
	// Rejects is how many packets a second answer rejected ones; 0: 1000 (what more are rejected is dropped).
	Rejects int
	// Address is the address of an interface, for a nat or forward line that names no external one; the zero Addr if it
	// has none of that family. Taken reports whether the host itself uses a port of an address of its own, which
	// translation then leaves alone. Either may be nil, and neither may call back.
	Address func(name string, v6 bool) netip.Addr
	Taken   func(proto uint8, at netip.AddrPort) bool
	// Log is told of packets that meet a rule with log. It may not call back.
	Log func(Entry)
}

// Timeouts are how long a connection is remembered after its last packet. Zero fields have the defaults that stand with
// them.
type Timeouts struct {
	TCP     time.Duration // established: 2 h 4 min (RFC 5382 REQ-5: not less)
	Half    time.Duration // TCP before that: 4 min (RFC 5382 REQ-5, transitory: not less)
	Closing time.Duration // TCP after FIN from both sides, or RST: 4 min (RFC 5382 REQ-5, RFC 7857 §2.2)
	UDP     time.Duration // a conversation: 5 min (RFC 4787 REQ-5c). Protocols without ports likewise
	New     time.Duration // UDP otherwise: 2 min (RFC 4787 REQ-5: not less)
	ICMP    time.Duration // queries: 60 s (RFC 5508 REQ-2: not less)
}

// Defaults, with their source in Timeouts.
const (
	defaultTCP         = 2*time.Hour + 4*time.Minute
	defaultTransitory  = 4 * time.Minute
	defaultUDP         = 5 * time.Minute
	defaultNew         = 2 * time.Minute
	defaultICMP        = time.Minute
	defaultConnections = 65536 // what Linux allows on a machine with 1 GB or more: a household needs a hundredth
	defaultRejects     = 1000  // Linux's icmp_msgs_per_sec
)

// Verdict is what is to be done with a packet.
type Verdict uint8

// The verdicts.
const (
	Accept Verdict = iota // it goes on, as Data has it now
	Drop                  // nothing
	Reject                // it is dropped, and Packet.Reply, if there is one, sent to its source
)

var verdictNames = [...]string{"accept", "drop", "reject"}

// String is the verdict in a word.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "unknown"
}

// Firewall is rules, the connections they have let begin, and the mappings of those. It has no lock.
type Firewall struct {
	table
	mappings   mappings
	key        secret
	config     Config
	timeouts   [numClasses]time.Duration
	rules      *program
	stats      Stats
	rejects    pace.Pace
	rejected   time.Duration // rejects: when all are paid for
	beginnings beginnings
	turn       class // whose oldest connection the next packet looks at
}

// New returns a Firewall without rules, which lets everything pass and tracks it.
func New(c Config) *Firewall {
	t := c.Timeouts
	set := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	set(&t.TCP, defaultTCP)
	set(&t.Half, defaultTransitory)
	set(&t.Closing, defaultTransitory)
	set(&t.UDP, defaultUDP)
	set(&t.New, defaultNew)
	set(&t.ICMP, defaultICMP)
	if c.Rejects <= 0 {
		c.Rejects = defaultRejects
	}
	f := &Firewall{key: c.Seed, config: c, rules: &program{source: &Rules{}}}
	f.timeouts = [numClasses]time.Duration{classHalf: t.Half, classNew: t.New, classICMP: t.ICMP,
		classClosing: t.Closing, classUDP: t.UDP, classTCP: t.TCP}
	f.limit = c.Connections
	if f.limit <= 0 {
		f.limit = defaultConnections
	}
	rate := func(n, value, seconds int) pace.Pace {
		n = min(cmp.Or(n, value), 1e8) // faster than a packet can be looked at, and seconds of it fit an int
		return pace.New(n, time.Second, seconds*n)
	}
	f.beginnings.source = rate(c.SourceRate, defaultSourceRate, sourceBurst)
	f.beginnings.way = rate(c.NewRate, defaultNewRate, newBurst)
	f.mappings.list = make([]mapping, 1)
	f.mappings.pools, f.mappings.peers = map[poolKey]*pool{}, map[peerKey]uint32{}
	f.rejects = pace.New(c.Rejects, time.Second, c.Rejects)
	return f
}

// SetRules puts r in the place of the rules there were. Connections stay as they are (see Forget); counters begin anew.
// r belongs to the Firewall then and is not to be changed. With an error the old rules hold.
func (f *Firewall) SetRules(r *Rules) error {
	p, err := compile(r)
	if err != nil {
		return err
	}
	f.rules = p
	return nil
}

// Rules is what SetRules was given last, not to be changed.
func (f *Firewall) Rules() *Rules { return f.rules.source }

// Arrive takes a packet that came in by the interface p.In, before its route is known, and translates its destination if
// it is to be. After Accept, the route of the destination in Data decides between In and Forward, and Filter comes next.
// A Reject is only for packets that Filter has seen.
func (f *Firewall) Arrive(now time.Duration, p *Packet) Verdict {
	p.stage = arrived
	if !f.begin(now, p) {
		return Drop
	}
	switch {
	case p.conn != 0 && !p.wrap:
		to := f.at(p.conn).heading(int(p.side))
		p.setTarget(to.dst, to.dport)
	case p.State == StateNew:
		if r := f.destination(p); r != 0 {
			f.lose(p, r)
			return Drop
		}
	}
	return Accept
}

// Filter judges a packet whose way is known: Direction, Out and MTU are set. With Accept it has seen its source
// translated. A packet that came in has been to Arrive, one of the host's own has not.
func (f *Firewall) Filter(now time.Duration, p *Packet) Verdict {
	if p.stage == fresh && !f.begin(now, p) {
		return Drop
	}
	p.stage = done
	var c *conn
	if p.conn != 0 {
		if c = f.at(p.conn); c.gen != p.gen {
			return f.refuse(now, p, Stale)
		}
		if !p.wrap && p.side == 0 && c.judged&(1<<p.Direction) == 0 {
			p.State = StateNew
			if c.translated {
				p.State |= StateTranslated
			}
		}
	}
	if p.State == 0 {
		f.stats.Accepted++
		return Accept
	}
	if v := f.judge(now, p); v != Accept {
		return v
	}
	if r := f.carry(now, p); r != 0 {
		return f.refuse(now, p, r)
	}
	if p.key.proto == protoTCP && p.seg.flags&flagSYN != 0 {
		f.clamp(p)
	}
	f.stats.Accepted++
	return Accept
}

// begin reads the packet and finds what it belongs to. With false it is dropped.
func (f *Firewall) begin(now time.Duration, p *Packet) bool {
	f.stats.Packets++
	f.expire(now, f.turn)
	if f.turn++; f.turn == numClasses {
		f.turn = 0
	}
	if r := p.parse(); r != 0 {
		return f.lose(p, r)
	}
	if p.key.proto == protoICMP4 || p.key.proto == protoICMP6 {
		switch role(p.v6, p.kind) {
		case discovery:
			return true
		case failure:
			return f.relate(now, p)
		}
	}
	ref, side := f.find(now, &p.key)
	if ref == 0 {
		if p.begins() {
			return f.starts(now, p)
		}
		p.State = StateInvalid
		return true
	}
	c := f.at(ref)
	if p.stage == arrived && p.key.proto == protoTCP && p.begins() && !f.repeats(now, c, side, p) {
		return false
	}
	switch c.follow(side, p) {
	case bogus:
		if c.tuples[0] != c.tuples[1].inverse() { // the host itself knows nothing of it, and would reset what it belongs to
			return f.lose(p, Untracked)
		}
		p.State = StateInvalid
		return true
	case reopen:
		f.remove(ref) // what was is over; this one is judged for itself
		p.State = StateNew
		return true
	}
	p.conn, p.gen, p.side, p.State = ref, c.gen, uint8(side), StateEstablished
	f.touch(now, ref)
	c.packets[side]++
	return true
}

// carry makes the connection of a packet that the rules let begin one, and translates the source.
func (f *Firewall) carry(now time.Duration, p *Packet) Reason {
	switch {
	case p.State&StateInvalid != 0:
		if f.rules.translates(p) { // nobody outside knows that source
			return Untracked
		}
		return 0
	case p.wrap:
		if p.hasNewSrc {
			p.setOuterSource()
		}
		return 0
	case p.conn == 0:
		if r := f.commit(now, p); r != 0 {
			return r
		}
	}
	c := f.at(p.conn)
	c.judged |= 1 << p.Direction
	to := c.heading(int(p.side))
	p.setSource(to.src, to.sport)
	return 0
}

// Forget drops the connections that match says, and says how many those are. A packet that comes for one later begins
// anew, if it can.
func (f *Firewall) Forget(match func(Connection) bool) int {
	n := 0
	for ref := uint32(1); ref <= f.used; ref++ {
		if c := f.at(ref); c.live && match(f.connection(c)) {
			f.remove(ref)
			n++
		}
	}
	return n
}
