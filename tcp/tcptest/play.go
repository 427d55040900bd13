package tcptest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// game is a figure while it is played.
type game struct {
	figure *figure
	at     int // the step that is played
	now    time.Duration
	names  map[string]tcp.Seq
	peers  [2]*peer
}

// lineTime is how long a line takes: a round trip is then 2 ms, far below every timer of a connection.
const lineTime = time.Millisecond

// msl is the maximum segment lifetime of both peers: 2 minutes, as RFC 9293 §3.4.2 defines it.
const msl = 2 * time.Minute

// play runs every line, then looks for what happened and was not drawn.
func play(f *figure) error {
	g := &game{figure: f, names: map[string]tcp.Seq{}}
	g.peers = [2]*peer{newPeer(g, 0), newPeer(g, 1)}
	if err := g.begin(); err != nil {
		return f.steps[0].fail(err)
	}
	for g.at = range f.steps {
		s := &f.steps[g.at]
		if err := g.play(s); err != nil {
			return s.fail(err)
		}
	}
	for _, p := range g.peers {
		if err := p.undrawn(); err != nil {
			return err
		}
	}
	return nil
}

// play runs one line: what the users do, the segment, and then both states.
func (g *game) play(s *step) error {
	g.advance(g.now + lineTime)
	var waited time.Duration
	for i, p := range g.peers {
		if s.seg != nil && i != s.from {
			continue // what stands beside an arrival is said of its outcome
		}
		for _, n := range s.side[i].notes {
			d, err := p.do(n)
			if err != nil {
				return fmt.Errorf("(%s) for %s: %w", n, p.name, err)
			}
			if waited > 0 && d > 0 && d != waited {
				return errors.New("time passes for both peers alike")
			}
			waited = max(waited, d)
		}
	}
	if waited > 0 {
		g.advance(g.now + waited)
	}
	if s.seg != nil {
		if err := g.move(s); err != nil {
			return err
		}
	}
	for i, p := range g.peers {
		if err := p.check(&s.side[i], s.seg != nil && i != s.from); err != nil {
			return err
		}
	}
	return nil
}

// move lets the segment of a line depart, arrive, or both.
func (g *game) move(s *step) error {
	from, to := g.peers[s.from], g.peers[1-s.from]
	var seg tcp.Segment
	var err error
	if s.departs {
		seg, err = from.depart(s)
	} else {
		seg, err = from.fetch(s)
	}
	switch {
	case err != nil:
		return err
	case !s.arrives && !s.side[0].has("lost") && !s.side[1].has("lost"):
		from.flight = append(from.flight, flying{seg, s})
	case s.arrives:
		return to.arrive(seg)
	}
	return nil
}

// advance lets time pass, and with it both peers' timers, in order. A timer whose segment was not drawn does not
// expire again before that segment departs.
func (g *game) advance(to time.Duration) {
	var waits [2]bool
	for {
		first, next := -1, to
		for i, p := range g.peers {
			if at, ok := p.deadline(); ok && at <= next && !waits[i] {
				first, next = i, at
			}
		}
		if first < 0 {
			break
		}
		g.now = max(g.now, next)
		g.peers[first].expire()
		at, ok := g.peers[first].deadline()
		waits[first] = ok && at <= next
	}
	g.now = max(g.now, to)
}

// begin puts both peers into the states in which the figure begins.
func (g *game) begin() error {
	var est [2]bool
	for i, p := range g.peers {
		switch state, err := g.first(i); {
		case err != nil:
			return err
		case state == tcp.Listen:
			p.listen()
		case state == tcp.Established:
			est[i] = true
		case state != tcp.Closed:
			return fmt.Errorf("a figure begins in CLOSED, LISTEN or ESTABLISHED, not in %s", state)
		}
	}
	if !est[0] && !est[1] {
		return nil
	}
	var snd [2]tcp.Seq
	for i := range snd {
		snd[i] = g.sendNext(i, est[i])
	}
	if est[0] && est[1] && g.contradicts(snd) {
		return errors.New("what one peer sends is not what the other receives")
	}
	return g.establish(est, snd)
}

// first is the state that a peer begins in: the first that stands in its column before any segment, or CLOSED.
func (g *game) first(side int) (tcp.State, error) {
	for i := range g.figure.steps {
		s := &g.figure.steps[i]
		c := &s.side[side]
		if _, _, ok := c.numbers(); ok {
			return tcp.Established, nil
		}
		switch {
		case s.seg != nil || c.has("reboot") || c.has("crash") || c.has("open") || c.has("listen"):
			return tcp.Closed, nil
		case c.named:
			return c.state, nil
		}
	}
	return tcp.Closed, nil
}

// sendNext is SND.NXT of a peer at the beginning, or what the other one takes it for.
func (g *game) sendNext(side int, established bool) tcp.Seq {
	for i := range g.figure.steps {
		s := &g.figure.steps[i]
		if snd, _, ok := s.side[side].numbers(); ok {
			return snd
		}
		if _, rcv, ok := s.side[1-side].numbers(); ok {
			return rcv
		}
		if established && s.seg != nil && s.departs && s.from == side {
			return g.value(s.seg.seq, defaultISS(side)+1)
		}
	}
	for i := range g.figure.steps {
		if s := &g.figure.steps[i]; s.seg != nil && s.departs && s.from != side && s.seg.flags.Has(tcp.ACK) {
			return g.value(s.seg.ack, defaultISS(side)+1)
		}
	}
	return defaultISS(side) + 1
}

// contradicts reports whether (send, receive) of one peer and of the other name different numbers.
func (g *game) contradicts(snd [2]tcp.Seq) bool {
	for i := range g.figure.steps {
		for side := range snd {
			if s, r, ok := g.figure.steps[i].side[side].numbers(); ok && (s != snd[side] || r != snd[1-side]) {
				return true
			}
		}
	}
	return false
}

// establish opens a connection between the peers, behind the scenes, and leaves its end to those that begin with one.
func (g *game) establish(est [2]bool, snd [2]tcp.Seq) error {
	var syn, answer, ack tcp.Segment
	a := tcp.Open(g.now, snd[0]-1, &g.peers[0].config)
	a.Next(g.now, &syn)
	b := tcp.Accept(g.now, snd[1]-1, &syn, &g.peers[1].config)
	b.Next(g.now, &answer)
	a.Arrive(g.now, &answer)
	a.Next(g.now, &ack)
	b.Arrive(g.now, &ack)
	for i, t := range [2]*tcp.TCB{a, b} {
		if t.State() != tcp.Established {
			return fmt.Errorf("no connection to begin with: %s", t.State())
		}
		if est[i] {
			g.peers[i].tcb = t
		}
	}
	return nil
}

// iss is the initial sequence number that the figure gives to the next SYN of a peer.
func (g *game) iss(side int) tcp.Seq {
	for i := g.at; i < len(g.figure.steps); i++ {
		s := &g.figure.steps[i]
		if s.seg != nil && s.departs && s.from == side && s.seg.flags.Has(tcp.SYN) {
			return g.value(s.seg.seq, defaultISS(side))
		}
	}
	return defaultISS(side)
}

// defaultISS is used where the figure leaves it open: any number would do, these two are told apart at sight.
func defaultISS(side int) tcp.Seq { return tcp.Seq(1000 + 4000*side) }

// value computes what the figure says. A name that has no value yet gets this one, if it stands alone.
func (g *game) value(v value, unbound tcp.Seq) tcp.Seq {
	base, ok := g.names[v.name]
	switch {
	case v.name == "":
		return v.off
	case ok:
		return base + v.off
	case v.off == 0:
		g.names[v.name] = unbound
	}
	return unbound
}

// equal reports whether a number is the drawn one. A name that stands alone takes the first value that it meets.
func (g *game) equal(v value, n tcp.Seq) bool {
	if _, ok := g.names[v.name]; v.name != "" && v.off != 0 && !ok {
		return false
	}
	return g.value(v, n) == n
}

// match reports whether a segment is the drawn one.
func (g *game) match(d *drawn, s *tcp.Segment) bool {
	flags := s.Flags
	if !d.flags.Has(tcp.PSH) {
		flags &^= tcp.PSH
	}
	n := s.TextLen()
	if flags != d.flags || d.data == anyData && n == 0 || d.data != anyData && d.data != n {
		return false
	}
	return g.equal(d.seq, s.Seq) && (!s.Flags.Has(tcp.ACK) || g.equal(d.ack, s.Ack))
}

// has reports whether a note stands in the column.
func (c *column) has(note string) bool {
	for _, n := range c.notes {
		if strings.TrimRight(n, "!") == note {
			return true
		}
	}
	return false
}

// numbers reads (send 300,receive 100).
func (c *column) numbers() (snd, rcv tcp.Seq, ok bool) {
	for _, n := range c.notes {
		s, r, found := strings.Cut(n, ",")
		s, isSend := strings.CutPrefix(s, "send ")
		r, isReceive := strings.CutPrefix(strings.TrimSpace(r), "receive ")
		x, errX := strconv.ParseUint(strings.TrimSpace(s), 10, 32)
		y, errY := strconv.ParseUint(strings.TrimSpace(r), 10, 32)
		if found && isSend && isReceive && errX == nil && errY == nil {
			return tcp.Seq(x), tcp.Seq(y), true
		}
	}
	return 0, 0, false
}
