package tcptest

import (
	"bytes"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// actor is the real end of a script, with what a stack would keep around it: a listener, the connection, and the record
// that stands for it in TIME-WAIT.
type actor struct {
	now      time.Duration
	config   tcp.Config
	listener *tcp.Listener
	tcb      *tcp.TCB // the connection that is there, or was there last
	record   *tcp.TimeWaitRecord
	replies  []tcp.Segment // of the listener, the record, or nobody
	accepted bool          // the listener has made a connection
}

// scriptFlow is the one connection that the listener of a script knows.
var scriptFlow = tcp.Flow{LocalPort: 1, RemotePort: 2}

func (a *actor) state() tcp.State {
	switch {
	case a.record != nil:
		return tcp.TimeWait
	case a.tcb != nil && a.tcb.State() != tcp.Closed:
		return a.tcb.State()
	case a.listener != nil && a.listener.Len() > 0:
		return tcp.SynReceived
	case a.listener != nil && !a.accepted:
		return tcp.Listen
	}
	return tcp.Closed
}

// arrive hands a segment to whom it belongs: the connection, TIME-WAIT, the listener, or nobody.
func (a *actor) arrive(seg *tcp.Segment) tcp.Event {
	switch {
	case a.record != nil:
		return a.arriveWaiting(seg)
	case a.tcb != nil && a.tcb.State() != tcp.Closed:
		return a.tcb.Arrive(a.now, seg)
	case a.listener != nil:
		return a.made(a.listener.Arrive(a.now, &scriptFlow, seg, &a.config))
	}
	if r, ok := tcp.ResetFor(seg); ok {
		a.replies = append(a.replies, r)
	}
	return tcp.Event(tcp.DropClosed) << 16
}

func (a *actor) arriveWaiting(seg *tcp.Segment) tcp.Event {
	reply, verdict := a.record.Arrive(a.now, seg)
	if reply.Flags != 0 {
		a.replies = append(a.replies, reply)
	}
	floor := a.record.MinISS()
	switch verdict {
	case tcp.Gone:
		a.record = nil
	case tcp.Reopen:
		a.record = nil
		if a.listener != nil {
			return a.made(a.listener.Reopen(a.now, &scriptFlow, seg, &a.config, floor))
		}
		return a.arrive(seg)
	}
	return 0
}

// made takes what a listener answers.
func (a *actor) made(reply tcp.Segment, t *tcp.TCB, ev tcp.Event) tcp.Event {
	if reply.Flags != 0 {
		a.replies = append(a.replies, reply)
	}
	if t != nil {
		a.tcb, a.accepted = t, true
	}
	return ev
}

func (a *actor) deadline() (at time.Duration, ok bool) {
	soonest := func(d time.Duration, is bool) {
		if is && (!ok || d < at) {
			at, ok = d, true
		}
	}
	if a.tcb != nil {
		soonest(a.tcb.Deadline())
	}
	if a.listener != nil {
		soonest(a.listener.Deadline())
	}
	if a.record != nil {
		soonest(a.record.Deadline(), true)
	}
	return at, ok
}

func (a *actor) expire() (ev tcp.Event) {
	if a.record != nil && a.record.Deadline() <= a.now {
		a.record = nil
	}
	if a.tcb != nil {
		ev = a.tcb.Expire(a.now)
	}
	if a.listener != nil {
		a.listener.Expire(a.now)
	}
	return ev
}

// next is the next segment that is to be sent, with text that nobody else owns.
func (a *actor) next() (seg tcp.Segment, ok bool) {
	if len(a.replies) > 0 {
		seg, a.replies = a.replies[0], a.replies[1:]
		return seg, true
	}
	if a.listener != nil {
		if _, ok = a.listener.Next(a.now, &seg); ok {
			return seg, true
		}
	}
	if a.tcb == nil || a.record != nil {
		return seg, false
	}
	if ok = a.tcb.Next(a.now, &seg); ok {
		seg.Text = [][]byte{bytes.Join(seg.Text, nil)}
		return seg, true
	}
	if r, waiting := a.tcb.TimeWaitRecord(a.now); waiting {
		a.record, a.tcb = &r, nil
	}
	return seg, false
}
