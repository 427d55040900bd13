package tcptest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// peer is one of the two columns: a connection, a listener, both, or nothing.
type peer struct {
	g        *game
	side     int
	name     string
	config   tcp.Config
	listener *tcp.Listener
	tcb      *tcp.TCB      // the connection that is there, or was there last
	out      []tcp.Segment // answers of the listener, or of nobody, that have not departed
	flight   []flying
	sent     []tcp.Segment // everything that departed
	touched  int           // the last step that did something to this peer
}

// flying is a segment in the network, with the line that it departed on.
type flying struct {
	seg  tcp.Segment
	line *step
}

// window is what a segment that neither peer made announces: the largest that fits without scaling.
const window = 65535

// usualData is the number of octets of a <DATA> that names none.
const usualData = 10

// maxWaits bounds how many of its timers a peer is given before a segment that was drawn must be there:
// a delayed acknowledgement, a loss probe and a retransmission may come first.
const maxWaits = 4

func newPeer(g *game, side int) *peer {
	return &peer{g: g, side: side, name: [2]string{"peer A", "peer B"}[side], config: tcp.Config{MSL: msl}}
}

// flow is the connection that the listener knows: a figure has one only.
func (p *peer) flow() *tcp.Flow {
	return &tcp.Flow{LocalPort: uint16(p.side + 1), RemotePort: uint16(2 - p.side)}
}

func (p *peer) listen() {
	p.tcb = nil
	p.listener = tcp.NewListener(tcp.ListenConfig{ISS: func(time.Duration, *tcp.Flow) (tcp.Seq, uint32) {
		return p.g.iss(p.side), 0
	}})
}

// state is the connection's, else the listener's: a connection that ended is reported until a new one begins.
func (p *peer) state() tcp.State {
	switch {
	case p.tcb != nil:
		return p.tcb.State()
	case p.listener != nil && p.listener.Len() > 0:
		return tcp.SynReceived
	case p.listener != nil:
		return tcp.Listen
	}
	return tcp.Closed
}

// do is what stands in parentheses. It returns the time that passes.
func (p *peer) do(note string) (time.Duration, error) {
	state := p.state()
	verb, arg, _ := strings.Cut(strings.TrimRight(note, "!"), " ")
	p.touched = p.g.at
	switch {
	case arg == "" && (verb == "reboot" || verb == "crash"):
		p.tcb, p.listener, p.out = nil, nil, nil
	case arg == "" && verb == "close":
		return 0, p.close(state)
	case arg == "" && verb == "abort":
		if p.tcb == nil {
			return 0, errors.New("there is no connection")
		}
		p.tcb.Abort()
	case arg == "" && verb == "open":
		return 0, p.open(state)
	case arg == "" && verb == "listen":
		if state != tcp.Closed {
			return 0, fmt.Errorf("the state is %s", state)
		}
		p.listen()
	case verb == "send" && !strings.Contains(arg, ","):
		n, err := strconv.Atoi(arg)
		if err != nil || n < 1 || n > maxData {
			return 0, fmt.Errorf("from 1 to %d octets", maxData)
		}
		return 0, p.write(n)
	default:
		return duration(note), nil
	}
	return 0, nil
}

// maxTime bounds what one line waits, so that no figure runs the clock over.
const maxTime = 30 * 24 * time.Hour

// duration reads "2 MSL" and Go's durations; all else is a comment, which takes no time.
func duration(note string) time.Duration {
	if n, ok := strings.CutSuffix(note, "msl"); ok {
		if k, err := strconv.ParseUint(strings.TrimSpace(n), 10, 16); err == nil {
			return min(time.Duration(k)*msl, maxTime)
		}
	}
	d, err := time.ParseDuration(strings.ReplaceAll(note, " ", ""))
	if err != nil {
		return 0
	}
	return min(max(d, 0), maxTime)
}

func (p *peer) open(state tcp.State) error {
	if state != tcp.Closed {
		return fmt.Errorf("%s cannot open: the state is %s", p.name, state)
	}
	p.tcb = tcp.Open(p.g.now, p.g.iss(p.side), &p.config)
	return nil
}

func (p *peer) close(state tcp.State) error {
	switch {
	case p.tcb != nil && state != tcp.Closed:
		p.tcb.Close(p.g.now)
	case p.listener != nil:
		p.listener = nil
	default:
		return errors.New("there is no connection")
	}
	return nil
}

// write is a SEND. The octets follow from their sequence numbers, so the other side can tell what should arrive.
func (p *peer) write(n int) error {
	if p.tcb == nil {
		return fmt.Errorf("%s has no connection to send on", p.name)
	}
	i := p.tcb.Info()
	if k := p.tcb.Write(p.g.now, octets(i.SndNxt+tcp.Seq(i.Unsent), n)); k != n {
		return fmt.Errorf("%s in %s takes %d of %d octets to send", p.name, i.State, k, n)
	}
	return nil
}

// octets is the text that stands at a sequence number in every stream of a figure.
func octets(at tcp.Seq, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		k := uint32(at) + uint32(i)
		b[i] = byte(k ^ k>>8)
	}
	return b
}

// depart makes the peer send what the line shows.
func (p *peer) depart(s *step) (tcp.Segment, error) {
	d, side := s.seg, &s.side[s.from]
	p.touched = p.g.at
	if p.state() == tcp.Closed && d.flags == tcp.SYN && side.named && side.state == tcp.SynSent {
		if err := p.open(tcp.Closed); err != nil {
			return tcp.Segment{}, err
		}
	}
	if d.data != 0 && p.tcb != nil {
		i := p.tcb.Info()
		if seq := p.g.value(d.seq, i.SndNxt); seq == i.SndNxt && i.Unsent == 0 {
			n := d.data
			if n == anyData {
				n = usualData
			}
			if err := p.write(n); err != nil {
				return tcp.Segment{}, err
			}
		}
	}
	seg, ok := p.next()
	for i := 0; !ok && i < maxWaits; i++ {
		at, timed := p.deadline()
		if !timed {
			break
		}
		p.g.advance(max(at, p.g.now))
		seg, ok = p.next()
	}
	if !ok {
		return seg, fmt.Errorf("drawn: %s\n\tsent:  nothing, %s is in %s", d.text, p.name, p.state())
	}
	if !p.g.match(d, &seg) {
		return seg, fmt.Errorf("drawn: %s%s\n\tsent:  %s", d.text, p.g.bound(), seg)
	}
	p.sent = append(p.sent, seg)
	return seg, nil
}

// bound lists the names and their values, for a message.
func (g *game) bound() string {
	var list []string
	for n, v := range g.names {
		list = append(list, n+"="+v.String())
	}
	if list == nil {
		return ""
	}
	slices.Sort(list)
	return "  where " + strings.Join(list, ", ")
}

// next is the segment that the peer sends now. It keeps its own copy of the text.
func (p *peer) next() (tcp.Segment, bool) {
	var s tcp.Segment
	if len(p.out) > 0 {
		s, p.out = p.out[0], p.out[1:]
		return s, true
	}
	ok := false
	if p.tcb != nil {
		ok = p.tcb.Next(p.g.now, &s)
	} else if p.listener != nil {
		_, ok = p.listener.Next(p.g.now, &s)
	}
	if text := slices.Concat(s.Text...); len(text) > 0 {
		s.Text = [][]byte{text}
	} else {
		s.Text = nil
	}
	return s, ok
}

func (p *peer) deadline() (time.Duration, bool) {
	switch {
	case p.tcb != nil:
		return p.tcb.Deadline()
	case p.listener != nil:
		return p.listener.Deadline()
	}
	return 0, false
}

func (p *peer) expire() {
	if p.tcb != nil {
		p.tcb.Expire(p.g.now)
	} else if p.listener != nil {
		p.listener.Expire(p.g.now)
	}
}

// fetch takes the segment of a line, which this peer sent, out of the network.
func (p *peer) fetch(s *step) (tcp.Segment, error) {
	if s.side[p.side].has("duplicate") {
		return p.duplicate(s.seg), nil
	}
	for i, f := range p.flight {
		if p.g.match(s.seg, &f.seg) {
			p.flight = slices.Delete(p.flight, i, i+1)
			return f.seg, nil
		}
	}
	if len(p.sent) == 0 && p.tcb == nil {
		return p.duplicate(s.seg), nil // there was no connection in the figure: it must be older
	}
	msg := "drawn: " + s.seg.text + p.g.bound() + "\n\tin the network from " + p.name + ":"
	for _, f := range p.flight {
		msg += " " + f.seg.String()
	}
	return tcp.Segment{}, errors.New(msg)
}

// duplicate is an old segment: one that the peer sent once, else one of an earlier connection, without options.
func (p *peer) duplicate(d *drawn) tcp.Segment {
	for _, s := range p.sent {
		if p.g.match(d, &s) {
			return s
		}
	}
	s := tcp.Segment{Seq: p.g.value(d.seq, defaultISS(p.side)), Flags: d.flags, Window: window}
	if s.Flags.Has(tcp.ACK) {
		s.Ack = p.g.value(d.ack, defaultISS(1-p.side))
	}
	if n := d.data; n != 0 {
		if n == anyData {
			n = usualData
		}
		at := s.Seq
		if s.Flags.Has(tcp.SYN) {
			at++
		}
		s.Text = [][]byte{octets(at, n)}
	}
	return s
}

// arrive hands a segment to whoever it belongs to: the connection, else the listener, else nobody.
func (p *peer) arrive(s tcp.Segment) error {
	p.touched = p.g.at
	var from tcp.Seq // where the text begins that can be read afterwards: all before it was
	synchronized := p.tcb != nil && p.tcb.State() > tcp.SynSent
	if synchronized {
		from = p.tcb.Info().RcvNxt
	}
	switch {
	case p.tcb != nil && p.tcb.State() != tcp.Closed:
		p.tcb.Arrive(p.g.now, &s)
	case p.listener != nil:
		reply, t, _ := p.listener.Arrive(p.g.now, p.flow(), &s, &p.config)
		if reply.Flags != 0 {
			p.out = append(p.out, reply)
		}
		p.tcb = t
	default:
		if reply, ok := tcp.ResetFor(&s); ok {
			p.out = append(p.out, reply)
		}
	}
	if p.tcb != nil && !synchronized {
		from = p.tcb.Info().IRS + 1
	}
	return p.read(from)
}

// read is a RECEIVE of all that is there, and it must be what was sent.
func (p *peer) read(from tcp.Seq) error {
	if p.tcb == nil || p.tcb.Buffered() == 0 {
		return nil
	}
	b := make([]byte, p.tcb.Buffered())
	b = b[:p.tcb.Read(p.g.now, b)]
	if !slices.Equal(b, octets(from, len(b))) {
		return fmt.Errorf("%s reads other octets than were sent, in the %d from %s", p.name, len(b), from)
	}
	return nil
}

// check compares the state with the drawn one, and where a segment arrived, what parentheses say of its outcome.
func (p *peer) check(c *column, arrived bool) error {
	state := p.state()
	if c.named && state != c.state {
		return fmt.Errorf("drawn: %s in %s\n\tfound: %s", p.name, c.state, state)
	}
	if !arrived {
		return nil
	}
	if c.has("abort") && (p.tcb == nil || state != tcp.Closed || p.tcb.Err() == tcp.None) {
		return fmt.Errorf("drawn: %s aborts\n\tfound: %s", p.name, state)
	}
	for _, n := range c.notes {
		name, ok := strings.CutPrefix(strings.TrimRight(n, "!"), "return to ")
		if want, known := parseState(name); ok && (!known || state != want) {
			return fmt.Errorf("drawn: %s returns to %s\n\tfound: %s", p.name, strings.ToUpper(name), state)
		}
	}
	return nil
}

// undrawn looks, after the last line, for segments that the figure lost: in the network, and sent before its last line.
func (p *peer) undrawn() error {
	for _, f := range p.flight {
		return f.line.fail(errors.New("the segment never arrives; write (lost) beside it if it is lost"))
	}
	if p.touched == p.g.at {
		return nil
	}
	for s, ok := p.next(); ok; s, ok = p.next() {
		if s.Flags&(tcp.SYN|tcp.FIN|tcp.RST) != 0 || s.TextLen() > 0 {
			return p.g.figure.steps[p.touched].fail(fmt.Errorf("%s sent %s after it, which is not drawn", p.name, s))
		}
	}
	return nil
}
