package main

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/stack"
	"github.com/seed87e66d9f/waybill/tcp"
)

// A recorder watches the first connection between two hosts from both ends, through Config.Trace, and draws it in the
// way of RFC 9293 §3.5.
type recorder struct {
	mu    sync.Mutex
	flow  [2]netip.AddrPort // the ends of the connection: client, server
	first [2]tcp.Seq        // their initial sequence numbers
	lines []line
	over  bool
	done  chan struct{} // closed when over
}

// The two sides of a figure.
const (
	left  = 0 // the client
	right = 1 // the server
)

// A line is a segment on its way from one side to the other, or a call of a user.
type line struct {
	from    int
	call    bool         // CLOSE, and nothing on its way
	segment tcp.Segment  // its Text cut off
	text    int          // octets of it
	state   [2]tcp.State // of both sides, after it departed and after it arrived
	arrived bool
}

func newRecorder() *recorder { return &recorder{done: make(chan struct{})} }

func (r *recorder) client(e *stack.TraceEvent) { r.trace(left, e) }
func (r *recorder) server(e *stack.TraceEvent) { r.trace(right, e) }

// trace takes down what happened on one side. It is called under the connection's lock, and quickly done.
func (r *recorder) trace(side int, e *stack.TraceEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	if side == left && !r.flow[left].IsValid() {
		r.flow = [2]netip.AddrPort{e.Local, e.Remote}
	}
	if e.Local != r.flow[side] || e.Remote != r.flow[1-side] {
		return
	}
	switch e.Kind {
	case stack.UserCall:
		if e.Before != tcp.Closed { // or it was OPEN
			r.lines = append(r.lines, line{from: side, call: true})
		}
	case stack.SegmentOut:
		r.depart(side, e)
	case stack.SegmentIn:
		r.arrive(side, e)
	}
	if e.After == tcp.Closed { // the server, for who closes first ends in TIME-WAIT; or both, by a reset
		r.over = true
		close(r.done)
	}
}

func (r *recorder) depart(side int, e *stack.TraceEvent) {
	l := line{from: side, segment: *e.Segment, text: e.Segment.TextLen()}
	l.segment.Text = nil // borrowed
	l.state[side] = e.After
	if l.segment.Flags.Has(tcp.SYN) {
		r.first[side] = l.segment.Seq
	}
	r.lines = append(r.lines, l)
}

// arrive finds the segment that came: the wire in memory loses none and keeps their order.
func (r *recorder) arrive(side int, e *stack.TraceEvent) {
	for i := range r.lines {
		if l := &r.lines[i]; !l.call && l.from != side && !l.arrived {
			l.arrived, l.state[side] = true, e.After
			return
		}
	}
}

// wait returns when the connection is closed on both sides, or after the time limit.
func (r *recorder) wait(limit time.Duration) {
	select {
	case <-r.done:
	case <-time.After(limit):
	}
}

// figure draws the open and the close of the connection; what passed in between is summed up in one line.
func (r *recorder) figure() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	opened, closing := r.phases()
	f := drawing{first: r.first}
	f.row("", "client", "server")
	f.states(tcp.Closed, tcp.Listen)
	f.draw(r.lines[:opened])
	var octets [2]int
	for _, l := range r.lines[opened:closing] {
		octets[l.from] += l.text
	}
	fmt.Fprintf(&f, "\n    ... %d segments: a request of %d octets -->, an answer of %d octets <-- ...\n\n",
		closing-opened, octets[left], octets[right])
	f.states(tcp.Established, tcp.Established)
	f.draw(r.lines[closing:])
	fmt.Fprintf(&f, "\n    Sequence numbers count from the first of each side: %d for the client, %d for the server.\n", r.first[left], r.first[right])
	return f.String()
}

// phases finds where the open ends, with both sides ESTABLISHED, and where the close begins, with a call or a FIN.
func (r *recorder) phases() (opened, closing int) {
	for opened < len(r.lines) && r.lines[opened].state != [2]tcp.State{tcp.Established, tcp.Established} {
		opened++
	}
	opened = min(opened+1, len(r.lines))
	closing = opened
	for closing < len(r.lines) && !r.lines[closing].call && !r.lines[closing].segment.Flags.Has(tcp.FIN) {
		closing++
	}
	return opened, closing
}

// A drawing is a figure in the making.
type drawing struct {
	strings.Builder
	first  [2]tcp.Seq
	number int
}

// row writes a line with something on either side. The columns are those of RFC 9293, figure 6.
func (f *drawing) row(number, client, server string) {
	fmt.Fprintln(f, strings.TrimRight(fmt.Sprintf("%4s  %-53s%s", number, client, server), " "))
}

func (f *drawing) next() string {
	f.number++
	return fmt.Sprintf("%d.", f.number)
}

func (f *drawing) states(client, server tcp.State) { f.row(f.next(), client.String(), server.String()) }

func (f *drawing) draw(lines []line) {
	for i := range lines {
		l := &lines[i]
		arrow, state := "-->", [2]string{l.state[left].String(), l.state[right].String()}
		if l.from == right {
			arrow = "<--"
		}
		if !l.arrived {
			state[1-l.from] = "(not yet)"
		}
		switch {
		case l.call && l.from == left:
			f.row("", "(Close)", "")
		case l.call:
			f.row("", "", "(Close)")
		default:
			f.row(f.next(), fmt.Sprintf("%-11s %s %-32s %[2]s", state[left], arrow, f.segment(l)), state[right])
		}
	}
}

// segment is a segment in the RFC's notation, its numbers counted from the first of its side.
func (f *drawing) segment(l *line) tcp.Segment {
	s := l.segment
	s.Seq -= f.first[l.from]
	s.Ack -= f.first[1-l.from]
	s.Text = [][]byte{make([]byte, l.text)}
	return s
}
