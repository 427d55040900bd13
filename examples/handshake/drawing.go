package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
	"github.com/seed87e66d9f/waybill/tcp"
)

// A drawing writes what happens as it happens: a segment that departs with "..." on the far side, one that arrives with
// "..." on the side that it came from, as the RFC's figures do.
type drawing struct {
	mu    sync.Mutex
	w     io.Writer
	start time.Time
	first map[netip.AddrPort]tcp.Seq // each side's first sequence number: numbers are drawn relative to it
}

func (d *drawing) client(e *stack.TraceEvent) { d.event(e, true) }
func (d *drawing) server(e *stack.TraceEvent) { d.event(e, false) }

// event draws what happened on one side. It is called under the connection's lock.
func (d *drawing) event(e *stack.TraceEvent, client bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch e.Kind {
	case stack.UserCall:
		call := "(Close)"
		if e.Before == tcp.Closed {
			call = "(Open)"
		}
		d.side(client, call, "", "")
	case stack.SegmentOut:
		if e.Segment.Flags.Has(tcp.SYN) {
			d.first[e.Local] = e.Segment.Seq
		}
		note := ""
		if c := e.Segment.Cause; c == tcp.CauseRTO || c == tcp.CauseFast || c == tcp.CauseTLP {
			note = "again: " + c.String()
		}
		d.side(client, e.After.String(), d.arrow(client)+" "+d.segment(e.Segment, e.Local, e.Remote), note)
	case stack.SegmentIn:
		note := ""
		if e.Drop != tcp.DropNone {
			note = "dropped: " + e.Drop.String()
		}
		d.side(client, e.After.String(), d.arrow(!client)+" "+d.segment(e.Segment, e.Remote, e.Local), note)
	}
}

// lost draws a segment that the wire loses.
func (d *drawing) lost(from, to netip.AddrPort, s *tcp.Segment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.row(d.now(), "", "    "+d.segment(s, from, to), "(lost)")
}

func (d *drawing) arrow(fromClient bool) string {
	if fromClient {
		return "-->"
	}
	return "<--"
}

// segment is a segment in the RFC's notation, numbers counted from the first of each side.
func (d *drawing) segment(s *tcp.Segment, from, to netip.AddrPort) string {
	r := tcp.Segment{Seq: s.Seq - d.first[from], Ack: s.Ack - d.first[to], Flags: s.Flags, Text: s.Text}
	return r.String()
}

// side writes what one side has come to.
func (d *drawing) side(client bool, state, middle, note string) {
	far := "..."
	if middle == "" {
		far = ""
	}
	if note != "" {
		note = " (" + note + ")"
	}
	if client {
		d.row(d.now(), state, middle, far+note)
	} else {
		d.row(d.now(), far, middle, state+note)
	}
}

func (d *drawing) now() string { return fmt.Sprintf("%6.3f s", time.Since(d.start).Seconds()) }

func (d *drawing) row(at, left, middle, right string) {
	fmt.Fprintln(d.w, strings.TrimRight(fmt.Sprintf("%9s  %-22s %-38s %s", at, left, middle, right), " "))
}

// lossyWire loses the segments that a story asks for.
type lossyWire struct {
	link.Device
	lose func(*tcp.Segment, int) bool
	lost func(from, to netip.AddrPort, s *tcp.Segment)
	mu   sync.Mutex
	seen map[tcp.Flags]int
}

func (w *lossyWire) Queues() []link.Queue { return []link.Queue{lossyQueue{w.Device.Queues()[0], w}} }

type lossyQueue struct {
	link.Queue
	wire *lossyWire
}

// Write takes one packet at a time; a lost one counts as sent.
func (q lossyQueue) Write(p []link.Packet) (int, error) {
	for i := range p {
		if q.wire.loses(&p[i]) {
			continue
		}
		if n, err := q.Queue.Write(p[i : i+1]); n == 0 {
			return i, err
		}
	}
	return len(p), nil
}

func (w *lossyWire) loses(p *link.Packet) bool {
	var h ipv4.Header
	var s tcp.Segment
	n, err := h.DecodeQuoted(p.Head) // the text may follow in pieces
	if w.lose == nil || err != nil || h.Protocol != ipv4.ProtoTCP {
		return false
	}
	ports, err := s.Decode(p.Head[n:])
	if err != nil {
		return false
	}
	w.mu.Lock()
	w.seen[s.Flags]++
	lost := w.lose(&s, w.seen[s.Flags])
	w.mu.Unlock()
	if lost {
		w.lost(netip.AddrPortFrom(h.Src, ports.Src), netip.AddrPortFrom(h.Dst, ports.Dst), &s)
	}
	return lost
}
