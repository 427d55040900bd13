package stack

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// memory is the account of all octets that sockets and fragments hold, and the pool that their chunks come from (tcp.Memory).
type memory struct {
	limit  int64
	used   atomic.Int64
	small  sync.Pool // of *tcp.Chunk; a sync.Pool of one stack, so no chunk leaves a synctest bubble
	large  sync.Pool
	starve struct {
		sync.Mutex
		conns []*TCPConn // wait for a chunk to come back
	}
	starving atomic.Bool
	alarm    alarm // guarded by starve
}

func (m *memory) init(s *Stack, limit int64) {
	m.limit = limit
	m.alarm = alarm{stack: s, fire: m.feed}
}

// Borrow lends a chunk of n octets, or nil where the account is exhausted.
func (m *memory) Borrow(n int) *tcp.Chunk {
	if !m.take(n) {
		return nil
	}
	pool := &m.small
	if n > tcp.SmallChunk {
		pool = &m.large
	}
	if c, ok := pool.Get().(*tcp.Chunk); ok {
		return c
	}
	return tcp.NewChunk(n)
}

// spare is how many octets writers may still take. A quarter of the account is left to what arrives: were it full of
// octets that wait to be acknowledged, no acknowledgement could come of a peer that is in the same state.
func (m *memory) spare() int {
	if n := m.limit/4*3 - m.used.Load(); n >= tcp.SmallChunk {
		return int(n)
	}
	return 0
}

// force lends a chunk even where the account is exhausted: without it, what arrived could not be read, and no memory
// would come back.
func (m *memory) force(n int) *tcp.Chunk {
	m.used.Add(int64(n))
	return tcp.NewChunk(n)
}

// take charges the account with n octets that are no chunk; false: it is exhausted.
func (m *memory) take(n int) bool {
	if m.used.Add(int64(n)) > m.limit {
		m.used.Add(int64(-n))
		return false
	}
	return true
}

// give is the reverse of take.
func (m *memory) give(n int) {
	m.used.Add(int64(-n))
	if m.starving.Load() {
		m.refill()
	}
}

// Return takes a chunk back, and wakes who waits for one.
func (m *memory) Return(c *tcp.Chunk) {
	m.used.Add(int64(-len(c.Bytes)))
	if len(c.Bytes) > tcp.SmallChunk {
		m.large.Put(c)
	} else {
		m.small.Put(c)
	}
	if m.starving.Load() {
		m.refill()
	}
}

// refill sees to it that who waits for a chunk looks again.
func (m *memory) refill() {
	if m.spare() > 0 {
		m.starve.Lock()
		m.alarm.set(m.alarm.stack.now())
		m.starve.Unlock()
	}
}

// wait notes that c, whose lock is held, got no chunk though its buffer has room.
func (m *memory) wait(c *TCPConn) {
	m.starve.Lock()
	m.starve.conns = append(m.starve.conns, c)
	m.starving.Store(true)
	if m.spare() > 0 { // one came back between the refusal and here
		m.alarm.set(m.alarm.stack.now())
	}
	m.starve.Unlock()
}

// feed wakes the connections that wait for a chunk. It runs on its own goroutine, as Return is called under locks.
func (m *memory) feed(time.Duration) {
	m.starve.Lock()
	m.alarm.fired()
	conns := m.starve.conns
	m.starve.conns = nil
	m.starving.Store(false)
	m.starve.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		c.wr.wake()
		c.mu.Unlock()
	}
}
