package sim

import (
	"math/rand/v2"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// flow is a Flow in a run: two ends with their users, and an observer of what the path carries of it.
type flow struct {
	Flow
	w       *world
	index   int32
	ends    [2]end // the sender, the receiver
	first   tcp.Seq
	written int64
	read    int64
	earned  int64 // octets that the user has had so far, where there is a Rate
	closed  bool
	top     int64 // octets of text that were sent, some more than once
	arrived spans // those that were delivered
	result  FlowResult
	delays  histogram
}

// end is a connection with its user.
type end struct {
	*tcp.TCB // nil: not open yet
	flow     *flow
	out      *link
	k        int32         // index in flow.ends
	armed    time.Duration // when wake is to be called, or never
	dirty    bool
	joining  bool
	joined   packet // what Coalesce has so far, where joining
	segment  tcp.Segment
}

func (f *flow) init(w *world, c *Flow, random *rand.Rand) {
	f.Flow, f.w, f.first = *c, w, tcp.Seq(random.Uint32())
	f.index = int32(len(w.result.Flows))
	w.result.Flows = append(w.result.Flows, FlowResult{})
	if f.TCP.Memory == nil {
		f.TCP.Memory = &w.chunks
	}
	for k := range f.ends {
		out := k
		if f.Reverse {
			out = 1 - k
		}
		f.ends[k] = end{flow: f, out: &w.links[out], k: int32(k), armed: never}
	}
	if f.Stop > 0 {
		w.events.push(f.Stop, event{kind: writes, i: f.index, k: 1})
	}
}

// open begins the connection.
func (f *flow) open() {
	s := &f.ends[0]
	s.TCB = tcp.Open(f.w.now, f.first-1, &f.TCP)
	s.touch()
	if f.Rate > 0 {
		f.earn(0)
	}
}

// earn gives the user more to write, and comes again; or where k is 1 it only sees to it that the user closes.
func (f *flow) earn(k int32) {
	f.ends[0].touch()
	if k == 0 {
		f.earned = int64(float64(f.Rate) * (f.w.now - f.Start + writeEvery).Seconds())
		f.w.events.push(f.w.now+writeEvery, event{kind: writes, i: f.index})
	}
}

// touch makes settle be called at the end of this instant.
func (e *end) touch() {
	if !e.dirty {
		e.dirty = true
		e.flow.w.dirty = append(e.flow.w.dirty, e)
	}
}

// take is the arrival of a packet.
func (e *end) take(p *packet) {
	e.touch()
	f := e.flow
	f.w.result.Segments++
	if p.n > 0 && e.k == 1 {
		at := f.offset(p.s.Seq)
		if again := f.arrived.add(at, at+int64(p.n)); again > 0 {
			f.result.Spurious += again
			f.result.SpuriousPackets++
		}
	}
	if f.Coalesce && e.join(p) {
		return
	}
	e.deliver(&p.s, p.n)
}

// join joins p with what is there already of this instant, or with what is to come; it is false where p is neither.
func (e *end) join(p *packet) bool {
	j := &e.joined
	if e.joining {
		s := &j.s
		same := s.Ack == p.s.Ack && s.Options == p.s.Options && s.ECN == p.s.ECN && (s.Flags^p.s.Flags)&^tcp.PSH == 0
		if same && p.n > 0 && s.Seq+tcp.Seq(j.n) == p.s.Seq && int(j.n+p.n) < len(e.flow.w.zeros) {
			j.n += p.n
			s.Flags |= p.s.Flags
			return true
		}
		e.release()
	}
	if p.n == 0 || p.s.Flags&^tcp.PSH != tcp.ACK {
		return false
	}
	*j, e.joining = *p, true
	return true
}

// release delivers what join has kept.
func (e *end) release() {
	if e.joining {
		e.joining = false
		e.deliver(&e.joined.s, e.joined.n)
	}
}

// deliver is SEGMENT ARRIVES, for a segment with n octets of text.
func (e *end) deliver(s *tcp.Segment, n int32) {
	w := e.flow.w
	s.Text, s.Cause = nil, tcp.CauseNone
	if n > 0 {
		w.text[0] = w.zeros[:n]
		s.Text = w.text[:]
	}
	switch {
	case e.TCB != nil:
		e.Arrive(w.now, s)
	case s.Flags&(tcp.SYN|tcp.ACK|tcp.RST) == tcp.SYN:
		e.TCB = tcp.Accept(w.now, ^e.flow.first, s, &e.flow.TCP)
	}
}

// wake lets timers expire, if one is due.
func (e *end) wake() {
	if e.flow.w.now != e.armed {
		return // it was needed earlier
	}
	e.armed = never
	e.touch()
	if at, ok := e.Deadline(); !ok || at > e.flow.w.now {
		return
	}
	before := 0
	if e.k == 0 {
		before = e.Info().Backoff
	}
	e.Expire(e.flow.w.now)
	if e.k == 0 && e.Info().Backoff > before {
		e.flow.result.Timeouts++
	}
}

// settle is what an end does when something has happened to it: its user, what it has to send, its timers.
func (e *end) settle() {
	e.dirty = false
	e.release()
	if e.TCB == nil {
		return
	}
	if e.k == 1 {
		e.flow.receive()
	}
	for e.flush(); e.k == 0 && e.flow.write(); {
		e.flush()
	}
	if at, ok := e.Deadline(); ok && at < e.armed {
		e.armed = max(at, e.flow.w.now)
		e.flow.w.events.push(e.armed, event{kind: wakes, i: e.flow.index, k: e.k})
	}
}

// ahead is how many octets a user without a limit keeps written and not yet sent, so that the buffers of many flows take
// no more memory than their windows do. It is several super-segments, and the user writes again before they run out.
const ahead = 256 << 10

// write is the sender's user. It reports whether something new was written or the connection closed.
func (f *flow) write() (more bool) {
	s := &f.ends[0]
	if f.closed || s.State() == tcp.SynSent {
		return false // a CLOSE in SYN-SENT would end it (RFC 9293 §3.10.4)
	}
	if f.Stop > 0 && f.w.now >= f.Stop || f.Octets > 0 && f.written >= f.Octets {
		s.Close(f.w.now)
		f.closed = true
		f.done()
		return true
	}
	for f.written-f.top < ahead {
		n := f.wants()
		k := s.Write(f.w.now, f.w.zeros[:n])
		f.written += int64(k)
		more = more || k > 0
		if k < n || k == 0 {
			break
		}
	}
	return more
}

// done notes when all that was ever written has been read.
func (f *flow) done() {
	if f.closed && f.read == f.written && f.result.Done == 0 {
		f.result.Done = f.w.now
	}
}

// wants is how many octets the user writes next.
func (f *flow) wants() int {
	n := int64(len(f.w.zeros))
	if f.Octets > 0 {
		n = min(n, f.Octets-f.written)
	}
	if m := int64(f.Message); m > 0 {
		left := m - f.written%m
		if left == m && f.written != f.read {
			left = 0 // until all of the last one was read
		}
		n = min(n, left)
	}
	if f.Rate > 0 {
		n = min(n, f.earned-f.written)
	}
	return int(max(n, 0))
}

// receive is the receiver's user.
func (f *flow) receive() {
	r := &f.ends[1]
	for r.Buffered() > 0 {
		c, b := r.Take(f.w.now)
		if c == nil {
			break
		}
		f.read += int64(len(b))
		f.TCP.Memory.Return(c)
	}
	f.done()
	if f.Message > 0 && f.read == f.written {
		f.ends[0].touch()
	}
	if r.EOF() {
		r.Close(f.w.now)
	}
}

// flush puts on the path what an end has to send, cut into packets.
func (e *end) flush() {
	w, s := e.flow.w, &e.segment
	for e.Next(w.now, s) {
		text, flags := s.TextLen(), s.Flags
		s.Options.Blocks = uint8(fits(s.Options))
		header := int32(ipHeader + tcp.HeaderLen + s.Options.Len())
		for ok := true; ok; ok = text > 0 {
			n := text
			if s.Size > 0 {
				n = min(n, int(s.Size))
			}
			text -= n
			s.Flags = flags
			if text > 0 {
				s.Flags &^= tcp.FIN | tcp.PSH
			}
			i := w.alloc()
			p := &w.pool[i]
			*p = packet{s: *s, n: int32(n), size: header + int32(n), to: &e.flow.ends[1-e.k], entered: w.now}
			p.s.Text, p.s.Size = nil, 0
			if n > 0 && e.k == 0 {
				e.flow.sent(p)
			}
			e.out.put(i)
			s.Seq += tcp.Seq(n)
			flags &^= tcp.CWR // RFC 3168 §6.1.2: on the first packet behind the reduction
		}
	}
}

// fits is how many SACK blocks have room in a header.
func fits(o tcp.Options) int {
	n := int(o.Blocks)
	o.Blocks = 0
	return min(n, (tcp.MaxHeaderLen-tcp.HeaderLen-4-o.Len())/8)
}

// offset is where in the text a sequence number stands, near what was sent last.
func (f *flow) offset(s tcp.Seq) int64 {
	return f.top + int64(int32(s-f.first-tcp.Seq(f.top)))
}

// sent notes a packet with text that the sender sends.
func (f *flow) sent(p *packet) {
	at, n := f.offset(p.s.Seq), int64(p.n)
	f.result.Packets++
	if again := min(at+n, f.top) - at; again > 0 {
		f.result.Retransmitted += again
		f.result.Retransmits++
	}
	f.top = max(f.top, at+n)
	p.tail = f.TailLoss > 0 && f.Message > 0 && p.s.Cause == tcp.CauseData && (at+n)%int64(f.Message) == 0
	if p.s.Cause == tcp.CauseTLP {
		f.result.Probes++
	}
}

// carried notes how long a packet of the flow has waited.
func (f *flow) carried(p *packet, wait time.Duration) {
	if p.n > 0 {
		f.delays.add(wait)
	}
}
