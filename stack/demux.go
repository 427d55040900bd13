package stack

import (
	"hash/maphash"
	"iter"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/internal/wheel"
	"github.com/seed87e66d9f/waybill/tcp"
)

// numShards is how many parts the table of connections has, so that queues on several cores seldom meet on a lock.
const numShards = 16

// shard is a part of the table of connections, with the timers of its connections and the memory of those in TIME-WAIT.
type shard struct {
	mu    sync.Mutex
	stack *Stack
	conns map[tcp.Flow]*TCPConn
	waits map[tcp.Flow]tcp.TimeWaitRecord
	wheel wheel.Wheel[*TCPConn]
	sweep time.Duration // when waits are looked through for records that have expired; 0: there are none
	alarm alarm
	due   []*TCPConn // scratch of tick
}

// sweepEvery is the least time between two looks through a shard's TIME-WAIT records, which are also judged one by one
// when something arrives for them.
const sweepEvery = 4 * time.Second

// maxTimeWaits bounds the records of one shard, as peers could else fill the memory of a host that closes first: all
// together Linux's tcp_max_tw_buckets. Beyond them a connection is CLOSED at once, which is Linux's answer as well.
const maxTimeWaits = 262144 / numShards

func (h *shard) init(s *Stack) {
	h.stack = s
	h.conns = map[tcp.Flow]*TCPConn{}
	h.waits = map[tcp.Flow]tcp.TimeWaitRecord{}
	h.alarm = alarm{stack: s, fire: h.tick}
}

// hash mixes a flow under the stack's key, so that nobody outside can choose flows that meet in one shard.
func (s *Stack) hash(f *tcp.Flow) uint64 { return maphash.Comparable(s.secret.seed, *f) }

func (s *Stack) shard(f *tcp.Flow) *shard { return &s.shards[s.hash(f)%numShards] }

// lookup finds the connection of a flow. The shard is unlocked again: the caller locks the connection, and sees by gone
// whether it still stands in the table.
func (s *Stack) lookup(f *tcp.Flow) *TCPConn {
	h := s.shard(f)
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conns[*f]
}

// insert enters c in the table. It reports false where its flow is taken, also by a connection in TIME-WAIT, unless
// reuse allows that.
func (s *Stack) insert(now time.Duration, c *TCPConn, reuse func(w *tcp.TimeWaitRecord) bool) bool {
	h := s.shard(&c.flow)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns[c.flow] != nil || s.closed.Load() {
		return false
	}
	if w, ok := h.waits[c.flow]; ok {
		if now < w.Deadline() && !reuse(&w) {
			return false
		}
		delete(h.waits, c.flow)
	}
	h.conns[c.flow] = c
	return true
}

// arm sees to it that c.expire runs when something of c is due. c.mu is held.
func (c *TCPConn) arm(now time.Duration) {
	at := c.deadline(now)
	if c.gone || at == 0 || c.armed != 0 && c.armed <= at {
		return
	}
	c.armed = at
	h := c.stack.shard(&c.flow)
	h.mu.Lock()
	h.wheel.Arm(&c.timer, at)
	if next, ok := h.wheel.Next(); ok {
		h.alarm.set(next)
	}
	h.mu.Unlock()
}

// remove takes c out of the table, and leaves a record in its place where it was in TIME-WAIT. c.mu is held.
func (c *TCPConn) remove(now time.Duration) {
	w, waits := c.tcb.TimeWaitRecord(now)
	h := c.stack.shard(&c.flow)
	h.mu.Lock()
	h.wheel.Stop(&c.timer)
	if h.conns[c.flow] == c {
		delete(h.conns, c.flow)
		if waits && len(h.waits) < maxTimeWaits && !c.stack.closed.Load() {
			h.waits[c.flow] = w
			if h.sweep == 0 {
				h.sweep = now + sweepEvery
				h.alarm.set(h.sweep)
			}
		}
	}
	h.mu.Unlock()
	c.stack.fast.settle(now, c)
	c.gone = true
}

// tick runs what is due in the shard.
func (h *shard) tick(now time.Duration) {
	h.mu.Lock()
	if !h.alarm.fired() {
		h.mu.Unlock()
		return
	}
	due := h.due
	h.due = nil // another tick may run before this one is through
	h.wheel.Advance(now, func(c *TCPConn) { due = append(due, c) })
	if h.sweep != 0 && now >= h.sweep {
		h.forget(now)
	}
	if next, ok := h.wheel.Next(); ok {
		h.alarm.set(next)
	}
	if h.sweep != 0 {
		h.alarm.set(h.sweep)
	}
	h.mu.Unlock()
	for _, c := range due {
		c.expire(now)
	}
	if cap(due) <= batch {
		clear(due)
		h.mu.Lock()
		h.due = due[:0]
		h.mu.Unlock()
	}
}

// forget removes the TIME-WAIT records that have expired.
func (h *shard) forget(now time.Duration) {
	for f, w := range h.waits {
		if now >= w.Deadline() {
			delete(h.waits, f)
		}
	}
	h.sweep = 0
	if len(h.waits) > 0 {
		h.sweep = now + sweepEvery
	} else {
		h.waits = map[tcp.Flow]tcp.TimeWaitRecord{} // a map keeps the room it once needed
	}
}

// close resets every connection, and stops the timers.
func (h *shard) close() {
	now := h.stack.now()
	h.mu.Lock()
	h.alarm.stop()
	conns := make([]*TCPConn, 0, len(h.conns))
	for _, c := range h.conns {
		conns = append(conns, c)
	}
	h.mu.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		c.kill(now)
		c.mu.Unlock()
	}
}

// abort resets the connection for a reason of ours.
func (c *TCPConn) abort(now time.Duration, why syscall.Errno) {
	if c.tcb.State() == tcp.Closed {
		return
	}
	c.errno = why
	c.tcb.Abort()
	c.ended()
	c.output(now)
}

// kill ends the connection with its stack: a reset leaves if it can, and nothing remains.
func (c *TCPConn) kill(now time.Duration) {
	c.released = true // before the lock is let go of in output: a Read must not take the end for the peer's FIN
	if c.tcb != nil && !c.gone {
		c.tcb.Abort()
		c.output(now)
	}
	c.rd.wake()
	c.wr.wake()
}

// each lists the connections, a shard at a time; none of them is locked.
func (s *Stack) each() iter.Seq[*TCPConn] {
	return func(yield func(*TCPConn) bool) {
		for i := range s.shards {
			h := &s.shards[i]
			h.mu.Lock()
			conns := make([]*TCPConn, 0, len(h.conns))
			for _, c := range h.conns {
				conns = append(conns, c)
			}
			h.mu.Unlock()
			for _, c := range conns {
				if !yield(c) {
					return
				}
			}
		}
	}
}

// fromFlow is an address out of a flow, where IPv4 stands as ::ffff:a.b.c.d.
func fromFlow(a [16]byte) netip.Addr { return netip.AddrFrom16(a).Unmap() }

// zoned is an address out of a flow, with its zone where it is link-local.
func (s *Stack) zoned(addr [16]byte, port uint16, zone uint32) netip.AddrPort {
	a := fromFlow(addr)
	if zone != 0 && a.Is6() && a.IsLinkLocalUnicast() {
		a = a.WithZone(s.zoneName(zone))
	}
	return netip.AddrPortFrom(a, port)
}

// zone is the number that a flow between the two addresses carries: the interface's where either is link-local, since
// such an address says nothing without its link.
func (i *Interface) zone(a, b netip.Addr) uint32 {
	if !(a.Is6() && a.IsLinkLocalUnicast()) && !(b.Is6() && b.IsLinkLocalUnicast()) {
		return 0
	}
	if i.loopback { // from ourselves: the link that the address belongs to
		for _, o := range i.stack.view.Load().ifaces {
			if o.has(a) || o.has(b) {
				return o.index
			}
		}
	}
	return i.index
}
