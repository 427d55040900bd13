package tcp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A pair is two connections over a wire that loses, repeats and delays. fate says what becomes of the next packet.
type pair struct {
	t     testing.TB
	now   time.Duration
	side  [2]*endpoint
	wire  []flying
	fate  func() byte
	trace []string
	n     int
}

// endpoint is a connection with the user on top of it.
type endpoint struct {
	*TCB
	send, got []byte // what is left to write, and what was read
	edge      Seq    // the right edge of the window as announced
	chunk     int    // octets of one Read
	lent      int
}

type flying struct {
	at   time.Duration
	to   int
	n    int
	data []byte
}

const wireDelay = 10 * time.Millisecond

// Borrow and Return make an endpoint its connection's Memory, which keeps account.
func (e *endpoint) Borrow(n int) *Chunk { e.lent++; return NewChunk(n) }

func (e *endpoint) Return(c *Chunk) {
	e.lent--
	clear(c.Bytes) // whoever still reads it is found out
}

// newPair makes two ends that will send text to each other. Where simultaneous, both open actively.
func newPair(t testing.TB, c Config, iss [2]Seq, text [2][]byte, simultaneous bool, fate func() byte) *pair {
	p := &pair{t: t, fate: fate}
	for i := range p.side {
		e := &endpoint{send: text[i], chunk: 1 + 700*i*i + 3000*(1-i)}
		k := c
		k.Memory = e
		if i == 0 || simultaneous {
			e.TCB = Open(0, iss[i], &k)
		}
		p.side[i] = e
	}
	if !simultaneous { // the passive end is made of the SYN
		var s Segment
		p.side[0].Next(0, &s)
		k := c
		k.Memory = p.side[1]
		p.side[1].TCB = Accept(0, iss[1], &s, &k)
	}
	return p
}

// run plays until both ends have ended, or for long virtual days.
func (p *pair) run() {
	for i := 0; i < 200000; i++ {
		for k := range p.side {
			p.user(k)
			p.flush(k)
		}
		if p.done() {
			return
		}
		if !p.step() && p.side[0].Buffered()+p.side[1].Buffered() == 0 {
			break
		}
	}
	for k, e := range p.side {
		p.t.Errorf("end %d at %v: %+v, %d octets to write, %d read", k, p.now, e.Info(), len(e.send), len(e.got))
	}
	p.t.Fatalf("the ends do not finish; the last segments were\n%s", p.tail())
}

func (p *pair) tail() string {
	var b bytes.Buffer
	for _, l := range p.trace[max(0, len(p.trace)-40):] {
		fmt.Fprintln(&b, l)
	}
	return b.String()
}

func (p *pair) done() bool {
	for _, e := range p.side {
		if e.State() != Closed && e.State() != TimeWait || e.Buffered() > 0 {
			return false
		}
	}
	return true
}

// user writes, reads and closes.
func (p *pair) user(k int) {
	e := p.side[k]
	if n := e.Write(p.now, e.send); n > 0 {
		e.send = e.send[n:]
	}
	if len(e.send) == 0 && e.State() >= SynReceived {
		e.Close(p.now)
	}
	if p.n%3 == k {
		b := make([]byte, e.chunk)
		e.got = append(e.got, b[:e.Read(p.now, b)]...)
	} else if c, b := e.Take(p.now); c != nil {
		e.got = append(e.got, b...)
		e.Return(c)
	}
}

// flush puts on the wire what an end has to send, cut into packets.
func (p *pair) flush(k int) {
	e := p.side[k]
	var s Segment
	for i := 0; e.Next(p.now, &s); i++ {
		if i > 1000 {
			p.t.Fatalf("Next does not end: %v %v", s.String(), s.Cause)
		}
		p.trace = append(p.trace, fmt.Sprintf("%v %d sends %v win=%d (%v) %v", p.now, k, s.String(), s.Window, s.Cause, e.State()))
		if s.Flags&(ACK|RST|SYN) == ACK {
			if edge := s.Ack + Seq(s.Window)<<e.rcv.scale; e.edge != 0 && edge.Less(e.edge) {
				p.t.Fatalf("the right edge of the window shrinks from %v to %v\n%s", e.edge, edge, p.tail())
			} else {
				e.edge = edge
			}
		}
		p.put(1-k, &s)
	}
}

// put encodes s, in packets of s.Size where it has one.
func (p *pair) put(to int, s *Segment) {
	text := bytes.Join(s.Text, nil)
	for first := true; first || len(text) > 0; first = false {
		one := *s
		n := len(text)
		if s.Size > 0 && n > int(s.Size) {
			n = int(s.Size)
			one.Flags &^= FIN | PSH
		}
		b := make([]byte, MaxHeaderLen, MaxHeaderLen+n)
		b = append(b[:one.Encode(b, Ports{1, 2})], text[:n]...)
		text = text[n:]
		s.Seq += Seq(n)
		at := p.now + wireDelay
		fate := p.fate()
		if fate&0x80 != 0 {
			at += time.Duration(fate&0x70) * time.Millisecond
		}
		if fate&7 != 1 {
			p.wire = append(p.wire, flying{at, to, p.n, b})
		}
		if fate&15 == 2 {
			p.wire = append(p.wire, flying{at + 3*wireDelay, to, p.n, slices.Clone(b)})
		}
		p.n++
	}
}

// step lets the next packet arrive or the next timer expire.
func (p *pair) step() bool {
	next, who := time.Duration(1<<62), -1
	for i, f := range p.wire {
		if f.at < next {
			next, who = f.at, i
		}
	}
	timer := -1
	for k, e := range p.side {
		if at, ok := e.Deadline(); ok && at < next {
			next, timer = at, k
		}
	}
	if next == 1<<62 {
		return false
	}
	p.now = max(p.now, next)
	if timer >= 0 {
		p.side[timer].Expire(p.now)
		return true
	}
	f := p.wire[who]
	p.wire = slices.Delete(p.wire, who, who+1)
	var s Segment
	if _, err := s.Decode(f.data); err != nil {
		p.t.Fatal(err)
	}
	e := p.side[f.to]
	if e.State() == Closed {
		if r, ok := ResetFor(&s); ok {
			p.put(1-f.to, &r)
		}
		return true
	}
	ev := e.Arrive(p.now, &s)
	clear(f.data) // the text was borrowed
	if d := ev.Drop(); d != DropNone {
		p.trace = append(p.trace, fmt.Sprintf("%v %d refuses %v: %v", p.now, f.to, s.String(), d))
	}
	return true
}

// check compares what was read to what was written, and that every chunk came back.
func (p *pair) check(text [2][]byte) {
	p.t.Helper()
	for k, e := range p.side {
		want := text[1-k]
		if !bytes.Equal(e.got, want) {
			i := 0
			for i < len(want) && i < len(e.got) && want[i] == e.got[i] {
				i++
			}
			p.t.Fatalf("end %d read %d octets of %d, and the first that differs is %d\n%s", k, len(e.got), len(want), i, p.tail())
		}
		if e.Err() != None {
			p.t.Fatalf("end %d ended by %v\n%s", k, e.Err(), p.tail())
		}
		p.flush(k)
		if e.lent != 0 {
			p.t.Fatalf("end %d in %v keeps %d chunks", k, e.State(), e.lent)
		}
	}
}

func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// FuzzPair: whatever the wire does for a while, what is read equals what was written, both ends finish, no window
// shrinks and no chunk is lost.
func FuzzPair(f *testing.F) {
	f.Add(uint8(0), uint16(5000), uint16(1), []byte{})
	f.Add(uint8(0xff), uint16(60000), uint16(9000), []byte("\x01\x01\x01\x01\x02\x02\xf0\x01\xe0\xd1"))
	f.Add(uint8(0x55), uint16(0), uint16(60000), bytes.Repeat([]byte{1, 0, 0xff, 2, 1, 0, 0}, 20))
	f.Fuzz(func(t *testing.T, how uint8, there, back uint16, fates []byte) {
		fate := func() (b byte) {
			if len(fates) > 0 {
				b, fates = fates[0], fates[1:]
			}
			return b
		}
		c := pairConfig(how)
		text := [2][]byte{pattern(int(there), 1), pattern(int(back), 2)}
		if len(fates) > 400 {
			fates = fates[:400] // then it works: R2 is not what is tested
		}
		p := newPair(t, c, [2]Seq{0xffff0000 + Seq(there), 0xffffffff - Seq(back)/2}, text, how&1 != 0, fate)
		p.run()
		p.check(text)
	})
}

// pairConfig makes a Config of the bits of how.
func pairConfig(how uint8) Config {
	c := Config{MTU: 1480, UserTimeout: 1000 * time.Hour, SYNTimeout: 1000 * time.Hour}
	c.NoTimestamps, c.NoSACK, c.NoScale, c.Nagle = how&2 != 0, how&4 != 0, how&8 != 0, how&16 != 0
	if how&32 != 0 {
		c.ReadBuffer, c.WriteBuffer = 9000, 5000
	}
	if how&64 != 0 {
		c.MaxText = 65000
	}
	if how&128 != 0 {
		c.MTU, c.ReadBuffer = 600, 200000
	}
	return c
}

// seededFate loses, repeats and delays packets as r says, each with a probability of some twelfths.
func seededFate(seed uint64, percent uint32) func() byte {
	r := rand.New(rand.NewPCG(seed, 7))
	return func() byte {
		if v := r.Uint32(); v%100 < percent {
			return byte(v >> 16)
		}
		return 0
	}
}

// TestC73PairsOverALossyWire: sequence numbers that wrap in the middle, in every configuration.
func TestC73PairsOverALossyWire(t *testing.T) {
	for how := range 256 {
		for _, percent := range []uint32{0, 20, 60} {
			text := [2][]byte{pattern(100000, uint64(how)), pattern(30000, uint64(how)+1)}
			p := newPair(t, pairConfig(uint8(how)), [2]Seq{0xffffffff - 40000, 0xfffffff0}, text, how&1 != 0,
				seededFate(uint64(how), percent))
			p.run()
			p.check(text)
			if t.Failed() {
				t.Fatalf("how=%#x percent=%d", how, percent)
			}
		}
	}
}

// TestSameSeedSameTrace: a connection draws no randomness and reads no clock.
func TestSameSeedSameTrace(t *testing.T) {
	var first []string
	for range 3 {
		text := [2][]byte{pattern(200000, 1), pattern(1000, 2)}
		p := newPair(t, Config{MTU: 1480}, [2]Seq{100, 300}, text, false, seededFate(42, 10))
		p.run()
		if first == nil {
			first = p.trace
		}
		if !slices.Equal(first, p.trace) {
			t.Fatal("two runs of one seed differ")
		}
	}
}
