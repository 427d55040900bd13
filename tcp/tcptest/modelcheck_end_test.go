package tcptest

import (
	"bytes"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// This file is what the users of TestModelCheck do, and what must hold.

// write is SEND, by copying or by handing a chunk over.
func (e *modelEnd) write() {
	m := e.m
	n := min(e.limit-e.written, 1+m.r.IntN([...]int{10, 2000, 40_000}[m.r.IntN(3)]))
	if n <= 0 || e.closed {
		return
	}
	if m.r.IntN(4) == 0 {
		if c := e.Borrow([...]int{tcp.SmallChunk, tcp.LargeChunk}[m.r.IntN(2)]); c != nil {
			n = copy(c.Bytes, text(e.k, e.written, n))
			if e.Give(m.now, c, n) {
				e.written += n
			} else {
				e.Return(c)
				n = 0
			}
		}
	} else {
		n = e.Write(m.now, text(e.k, e.written, n))
		e.written += n
	}
	m.note("%d: writes %d", e.k, n)
	e.moved("Write", false)
	e.flush()
}

// receive is RECEIVE, by copying or by taking a chunk.
func (e *modelEnd) receive() {
	m := e.m
	var got []byte
	if m.r.IntN(2) == 0 {
		b := m.read[:1+m.r.IntN([...]int{10, 2000, 40_000}[m.r.IntN(3)])]
		got = b[:e.Read(m.now, b)]
		e.took(got)
	} else if c, b := e.Take(m.now); c != nil {
		e.took(b)
		e.Return(c)
	}
	e.moved("Read", false)
	e.flush()
}

// took compares what was read to what the peer has written.
func (e *modelEnd) took(b []byte) {
	peer := e.m.ends[1-e.k]
	e.m.note("%d: reads %d", e.k, len(b))
	switch {
	case e.read+len(b) > peer.written:
		e.m.fail("end %d reads %d octets, and only %d were written", e.k, e.read+len(b), peer.written)
	case !bytes.Equal(b, text(peer.k, e.read, len(b))):
		e.m.fail("end %d reads something else than what was written, in [%d, %d)", e.k, e.read, e.read+len(b))
	}
	e.read += len(b)
}

func (e *modelEnd) close() {
	if e.state == tcp.SynSent && !e.m.rough {
		return // it would end there
	}
	e.m.note("%d: Close", e.k)
	e.closed = true
	e.Close(e.m.now)
	e.moved("Close", false)
	e.flush()
}

// set changes a setting. None of them may cost an octet.
func (e *modelEnd) set() {
	m, r := e.m, e.m.r
	switch r.IntN(5) {
	case 0:
		e.SetNoDelay(r.IntN(2) == 0)
	case 1:
		e.SetBuffers(m.now, r.IntN(100_000), r.IntN(100_000))
		m.note("%d: SetBuffers", e.k)
	case 2:
		if !e.impatient {
			e.SetKeepAlive(m.now, tcp.KeepAlive{Idle: time.Duration(r.IntN(3)) * time.Second, Interval: time.Second, Count: 100_000})
		}
	case 3:
		mtu := 100 + r.IntN(3000)
		e.SetMTU(m.now, mtu, r.IntN(2)*60_000)
		m.note("%d: SetMTU %d", e.k, mtu)
	default:
		i := e.Info()
		mtu := 100 + r.IntN(3000)
		e.Notify(m.now, i.SndUna+tcp.Seq(r.IntN(3000)), tcp.Notice{Reason: tcp.TooBig, MTU: mtu})
		m.note("%d: Notify, too big for %d", e.k, mtu)
	}
	e.moved("a setting", false)
	e.flush()
}

// rough is what ends connections early.
func (e *modelEnd) rough() {
	m, r := e.m, e.m.r
	n := r.IntN(12)
	m.note("%d: rough %d", e.k, n)
	switch {
	case n == 0:
		e.aborted = true
		e.Abort()
	case n < 3:
		e.deaf = true
		e.CloseRead(m.now)
	case n < 5:
		e.released, e.closed = true, true
		e.Release(m.now)
	case n < 8:
		e.notified = true
		i := e.Info()
		reasons := [...]tcp.Reason{tcp.Refused, tcp.HostUnreachable, tcp.NetUnreachable, tcp.NoProtocol, tcp.Prohibited}
		e.Notify(m.now, i.SndUna-10+tcp.Seq(r.IntN(100)), tcp.Notice{Reason: reasons[r.IntN(len(reasons))]})
	case n < 9:
		e.impatient = true
		e.SetUserTimeout(m.now, time.Duration(1+r.IntN(5000))*time.Millisecond)
	case n < 10:
		e.impatient = true
		e.SetKeepAlive(m.now, tcp.KeepAlive{Idle: time.Second, Interval: time.Second, Count: 2})
	}
	e.moved("a user's call", false)
	e.flush()
}

// moved holds the state of e against Figure 5 after a call.
func (e *modelEnd) moved(call string, arrival bool) {
	m, from, to := e.m, e.state, e.State()
	if from == to {
		return
	}
	e.state = to
	m.note("%d: %v becomes %v", e.k, from, to)
	if m.seen != nil {
		m.seen[[2]tcp.State{from, to}]++
	}
	byUser := call == "Close" || call == "a user's call"
	switch {
	case to == tcp.Closed:
		e.checkClosed(call, from)
		return
	case !leads(from, to, arrival):
		m.fail("end %d: %v becomes %v in %s, which Figure 5 has not", e.k, from, to, call)
	case call == "Next" && (from != tcp.CloseWait || to != tcp.LastAck),
		byUser && to != tcp.FinWait1,
		call == "Write", call == "Read", call == "Expire", call == "a setting":
		m.fail("end %d: %v becomes %v in %s", e.k, from, to, call)
	}
	switch to {
	case tcp.FinWait1, tcp.FinWait2, tcp.Closing, tcp.LastAck, tcp.TimeWait:
		if !e.closed {
			m.fail("end %d is in %v, and its user has not called CLOSE", e.k, to)
		}
	}
	switch to {
	case tcp.CloseWait, tcp.Closing, tcp.LastAck, tcp.TimeWait:
		if !m.ends[1-e.k].finSent {
			m.fail("end %d is in %v, and its peer has sent no FIN", e.k, to)
		}
	}
}

// checkClosed holds the reason why e became CLOSED against what happened to it.
func (e *modelEnd) checkClosed(call string, from tcp.State) {
	ok := e.notified && (from < tcp.Established || e.impatient && call == "Expire") // a reason that ICMP gave
	switch e.Err() {
	case tcp.None:
		ok = false
		switch from {
		case tcp.LastAck:
			ok = call == "Arrive"
		case tcp.TimeWait:
			ok = call == "Expire" || e.reset
		case tcp.Closing:
			ok = e.reset
		case tcp.FinWait2, tcp.FinWait1:
			ok = e.released && call == "Expire"
		}
	case tcp.Refused:
		ok = ok || e.reset
	case tcp.Reset:
		ok = e.reset
	case tcp.Aborted:
		ok = e.aborted || e.released || e.closed && from == tcp.SynSent
	case tcp.TimedOut:
		// RFC 6429 §4: one that its user has let go of may end where the peer's window stays closed.
		ok = call == "Expire" && (e.impatient || e.released && e.Info().SndWnd == 0)
	}
	if !ok {
		e.m.fail("end %d: %v becomes CLOSED in %s by %q, and nothing of that kind happened", e.k, from, call, e.Err())
	}
}

// checkSent holds a segment that leaves against what may be sent.
func (e *modelEnd) checkSent(s *tcp.Segment) {
	m, peer := e.m, e.m.ends[1-e.k]
	if s.Flags.Has(tcp.RST) {
		if !m.rough {
			m.fail("end %d sends a reset: %v", e.k, s)
		}
		return
	}
	if s.Flags.Has(tcp.SYN) {
		if s.Seq != e.iss || s.TextLen() > 0 {
			m.fail("end %d sends a SYN at %v with %d octets", e.k, s.Seq, s.TextLen())
		}
		return
	}
	e.checkText(s)
	end := s.Seq + tcp.Seq(s.TextLen())
	if s.Flags.Has(tcp.FIN) {
		e.finSent = true
		if !e.closed || end != e.iss+1+tcp.Seq(e.written) {
			m.fail("end %d sends a FIN at %v: the user closed, %t, behind octet %d", e.k, end, e.closed, e.written)
		}
	}
	if s.TextLen() > 0 && peer.hasEdge && peer.edge.Less(end) {
		m.fail("end %d sends up to %v, and the window ends at %v", e.k, end, peer.edge)
	}
	scale := e.Info().RcvScale
	if edge := s.Ack + tcp.Seq(s.Window)<<scale; e.hasEdge && edge.Less(e.edge) {
		// RFC 9293 §3.8.6 (SHLD-14)
		m.fail("the window of end %d shrinks from %v to %v", e.k, e.edge, edge)
	} else {
		e.edge, e.hasEdge = edge, true
	}
}

// checkText compares the text of a segment to what the user has written.
func (e *modelEnd) checkText(s *tcp.Segment) {
	at := s.Seq
	for _, b := range s.Text {
		i := int(int32(at - e.iss - 1))
		if i < 0 || i+len(b) > e.written || !bytes.Equal(b, text(e.k, i, len(b))) {
			e.m.fail("end %d sends octets [%d, %d) of %d, and they are not what was written", e.k, i, i+len(b), e.written)
			return
		}
		at += tcp.Seq(len(b))
	}
}

// check is what holds of both ends after each step.
func (m *model) check() {
	var infos [2]tcp.Info
	for k, e := range m.ends {
		if infos[k] = e.info(); e.TCB == nil || e.state == tcp.Closed {
			continue
		}
		i := &infos[k]
		owes := i.SndUna != i.SndNxt
		switch e.state {
		case tcp.SynSent, tcp.SynReceived, tcp.TimeWait:
			owes = true
		}
		if _, ok := e.Deadline(); owes && !ok {
			m.fail("end %d in %v owes something, and no timer runs: %+v", k, e.state, *i)
		}
		if n := i.SndUna.From(i.ISS + 1); n > e.written+1 {
			m.fail("end %d: %d octets are acknowledged of %d written", k, n, e.written)
		}
	}
	for k, e := range m.ends {
		a, b := &infos[k], &infos[1-k]
		if a.State < tcp.Established || b.State < tcp.Established {
			continue
		}
		if b.RcvNxt.Less(a.SndUna) {
			m.fail("%v is acknowledged to end %d, and its peer has got no more than up to %v", a.SndUna, e.k, b.RcvNxt)
		}
		if a.SndNxt.Less(b.RcvNxt) {
			m.fail("the peer of end %d has got up to %v, and no more than up to %v was sent", e.k, b.RcvNxt, a.SndNxt)
		}
	}
}

// finish is a step of two users who want to end, on a perfect channel. It is true at the end.
func (m *model) finish() bool {
	m.steps++
	done := true
	for _, e := range m.ends {
		if e.TCB == nil {
			continue
		}
		e.flush()
		if !e.released && !e.aborted {
			for n := -1; n != e.read && m.err == nil; {
				n = e.read
				e.receive()
			}
			if e.written < e.limit && !e.closed {
				e.write()
			}
			if e.state >= tcp.SynReceived && !e.closed && (e.written == e.limit || m.rough) {
				e.close()
			}
		}
		done = done && e.state == tcp.Closed && e.Buffered() == 0
	}
	m.check()
	switch {
	case done && len(m.wire) == 0:
		return true
	case len(m.wire) > 0:
		m.arrive(0, true)
	case !m.time():
		m.abandon()
	}
	return false
}

// abandon is for a connection whose peer is gone without its knowledge: nothing would ever tell it, so its user lets go.
func (m *model) abandon() {
	for k, e := range m.ends {
		peer := m.ends[1-k]
		if e.TCB != nil && e.state == tcp.FinWait2 && !e.released && (peer.TCB == nil || peer.state == tcp.Closed) && m.rough {
			m.note("%d: Release", k)
			e.released = true
			e.Release(m.now)
			e.moved("a user's call", false)
			e.flush()
			return
		}
	}
	m.fail("nothing more happens: %+v and %+v", m.ends[0].info(), m.ends[1].info())
}

// checkEnd is what holds in the end.
func (m *model) checkEnd() {
	for k, e := range m.ends {
		if e.TCB == nil {
			if !m.rough {
				m.fail("end %d was never opened", k)
			}
			continue
		}
		e.flush()
		if e.lent != 0 {
			m.fail("end %d keeps %d chunks", k, e.lent)
		}
		if m.rough {
			continue
		}
		if e.Err() != tcp.None {
			m.fail("end %d ended by %v", k, e.Err())
		}
		if peer := m.ends[1-k]; e.read != peer.written {
			m.fail("end %d has read %d octets of %d", k, e.read, peer.written)
		}
	}
}
