package stack

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed87e66d9f/waybill/link"
)

// full is what waits for room in an interface's device: connections, each with a segment that is built, writers of
// datagrams, and a few small packets that belong to nobody, such as a listener's SYN-ACKs.
type full struct {
	sync.Mutex
	conns   []*TCPConn
	waiting atomic.Int32  // connections in conns, or having their turn: others line up behind them
	packets []link.Packet // copies
	octets  int           // in packets
	udp     sync.Cond     // writers of datagrams wait here
	kick    chan struct{} // a value: look at conns, whether the device speaks or not
	turns   uint64        // how often there was room, or something else to look at
}

const (
	// maxKept bounds the octets of packets that belong to nobody: some thousand SYN-ACKs.
	maxKept = 64 << 10
	// turn is how many segments a connection sends when the device has room again, before the next one's turn comes.
	turn = 16
)

// waitForRoom lists the connection with those that go on when the device has room. The device may have got room, or the
// line may have ended, before we were on the list, so who stands there alone asks once more.
func (c *TCPConn) waitForRoom(p *packet) bool {
	i := p.ifc
	if i.list(c) > 1 {
		i.stack.stats.parked.Add(1)
		return false
	}
	c.mu.Unlock()
	n, err := i.queues[p.q].Write(p.out[:])
	c.mu.Lock()
	if n == 0 && errors.Is(err, link.ErrFull) {
		i.stack.stats.parked.Add(1)
		return false
	}
	i.written(p, n, err)
	c.parked = nil
	i.stack.free(p)
	select { // there is room, so the device will not speak, and others may stand behind us by now
	case i.full.kick <- struct{}{}:
	default:
	}
	return true
}

// list enters c, whose lock is held, and returns how many wait. Who tries again meanwhile is listed already, and is not to
// fill the list.
func (i *Interface) list(c *TCPConn) int32 {
	if c.listed == i {
		return i.full.waiting.Load()
	}
	c.listed = i
	i.full.Lock()
	defer i.full.Unlock()
	i.full.conns = append(i.full.conns, c)
	return i.full.waiting.Add(1)
}

// keep lets a copy of p wait for room.
func (i *Interface) keep(p *link.Packet) {
	b := make([]byte, 0, p.Len())
	b = append(b, p.Head...)
	for _, t := range p.Text {
		b = append(b, t...)
	}
	i.full.Lock()
	fits := i.full.octets+len(b) <= maxKept
	if fits {
		i.full.octets += len(b)
		i.full.packets = append(i.full.packets, link.Packet{Head: b, Offload: p.Offload})
	}
	i.full.Unlock()
	if !fits {
		i.stack.stats.drop(DeviceFull)
		return
	}
	i.flush() // there may be room by now
}

// flush writes the packets that were kept, as far as there is room, and reports whether all are gone.
func (i *Interface) flush() bool {
	i.full.Lock()
	packets := i.full.packets
	i.full.packets = nil
	i.full.Unlock()
	for k := range packets {
		p := i.stack.newPacket()
		p.out[0] = packets[k]
		n, err := i.queues[0].Write(p.out[:])
		if n == 0 && errors.Is(err, link.ErrFull) {
			i.stack.free(p)
			i.full.Lock()
			i.full.packets = append(packets[k:], i.full.packets...)
			i.full.Unlock()
			return false
		}
		i.written(p, n, err)
		i.stack.free(p)
		i.full.Lock()
		i.full.octets -= len(packets[k].Head)
		i.full.Unlock()
	}
	return true
}

// unpark lets go on who waits for room, a few segments each in turn, until there is none left or nobody waits.
func (i *Interface) unpark() {
	if !i.flush() {
		return
	}
	i.wakeFull()
	for {
		i.full.Lock()
		conns := i.full.conns
		i.full.conns = nil
		i.full.Unlock()
		if len(conns) == 0 || !i.turns(i.stack.now(), conns) {
			return
		}
	}
}

// turns gives a turn to each of the connections, and reports whether there was room for all.
func (i *Interface) turns(now time.Duration, conns []*TCPConn) bool {
	for k, c := range conns {
		c.mu.Lock()
		if c.listed == i {
			c.listed = nil
		}
		c.served = true
		n := c.outputSome(now, turn)
		c.served = false
		noRoom := n < turn && c.listed == i
		if n == turn {
			i.list(c)
		}
		c.mu.Unlock()
		i.full.waiting.Add(-1)
		if noRoom { // who has not had a turn is first the next time: the others, and c if nothing of it left
			i.full.Lock()
			rest := conns[k+1 : len(conns) : len(conns)]
			if at := slices.Index(i.full.conns, c); n == 0 && at >= 0 {
				i.full.conns = slices.Delete(i.full.conns, at, at+1)
				rest = conns[k:len(conns):len(conns)]
			}
			i.full.conns = append(rest, i.full.conns...)
			i.full.Unlock()
			return false
		}
	}
	return true
}

// wakeFull wakes the writers of datagrams that wait for room in a device, so that they see what has changed.
func (s *Stack) wakeFull() {
	for _, i := range s.view.Load().ifaces {
		i.wakeFull()
	}
}

func (i *Interface) wakeFull() {
	i.full.Lock()
	i.full.turns++
	i.full.udp.Broadcast()
	i.full.Unlock()
}
