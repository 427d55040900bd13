package tcp

import "time"

// Config is what a connection is made with. One Config is shared by many connections and never changes once used.
// The zero value of every field but MTU works.
type Config struct {
	// MTU is the largest segment, header included, that the path carries in one packet:
	// the path's MTU less the IP header (MMS_S and MMS_R of RFC 9293 §3.7.1). 0 means 65535.
	MTU int
	// MaxText is the largest super-segment's text in octets, where the device cuts segments itself; 0: one packet's.
	MaxText int
	// DefaultMSS is assumed of a peer that names none: 536 for IPv4, 1220 for IPv6 (RFC 9293 §3.7.1). 0 means 536.
	DefaultMSS uint16
	// ReadBuffer and WriteBuffer bound the octets that wait in either direction. A connection begins with no more than
	// 128 KB, and comes to the bound as far as its path and its reader are fast. 0 means DefaultBuffer.
	ReadBuffer, WriteBuffer int
	// Memory lends the chunks that hold those octets. Nil means the heap, without a bound.
	Memory Memory
	// Congestion makes the congestion control of a connection, from the effective MSS: NewCubic, NewReno or NewBBR.
	// Nil means NewCubic.
	Congestion func(mss int) Congestion

	// MinRTO is the shortest retransmission timeout. 0 means 200 ms, as Linux (RFC 6298 §2.4 says 1 s).
	MinRTO time.Duration
	// MSL is half of the time spent in TIME-WAIT. 0 means 30 s, as Linux (RFC 9293 §3.4.2 says 2 min).
	MSL time.Duration
	// Nagle turns RFC 9293 §3.7.4's algorithm on, which holds back short segments; SetNoDelay changes it later.
	Nagle bool
	// UserTimeout is how long sent octets may stay unacknowledged (R2 of RFC 9293 §3.8.3). 0 means 924.6 s, which is
	// what 15 retransmissions from 200 ms come to on Linux.
	UserTimeout time.Duration
	// SYNTimeout is how long an active OPEN tries. 0 means 180 s (RFC 9293 §3.8.3, MUST-23: at least 3 minutes).
	SYNTimeout time.Duration
	// ECN says when Explicit Congestion Notification is used. The zero value is Linux's: where the peer asks for it.
	ECN ECN
	// NoTimestamps, NoScale and NoSACK leave the option out of our SYN, and unused.
	NoTimestamps, NoScale, NoSACK bool
}

// DefaultBuffer bounds either direction of a connection in octets where Config says nothing: enough for 1 Gbit/s over
// 32 ms, and as much as Linux lets a send buffer grow to (tcp_wmem). Memory is taken only for octets that are there.
const DefaultBuffer = 4 << 20

// KeepAlive says when an idle connection is probed (RFC 9293 §3.8.4). The zero value never probes (MUST-25).
type KeepAlive struct {
	Idle     time.Duration // silence before the first probe; 0: no keep-alive
	Interval time.Duration // between probes
	Count    int           // unanswered probes before the connection is given up
}

// DefaultKeepAlive is what a keep-alive that names no times means: two hours (RFC 9293 §3.8.4, MUST-28), then nine
// probes 75 s apart, as Linux.
var DefaultKeepAlive = KeepAlive{Idle: 2 * time.Hour, Interval: 75 * time.Second, Count: 9}

// The sizes of chunks. A small one holds the usual request or answer, a large one a super-segment.
const (
	SmallChunk = 2 << 10
	LargeChunk = 64 << 10
)

// Chunk is a piece of memory on loan from Memory, part of a pipe or free.
type Chunk struct {
	Bytes []byte // SmallChunk or LargeChunk octets
	next  *Chunk
	start Seq // sequence number of Bytes[off]
	off   int // octets of Bytes in front of the text: the headers that it came with
	fill  int // octets from off on that belong to the pipe
}

// NewChunk makes a chunk of n octets. Memory's implementations use it.
func NewChunk(n int) *Chunk { return &Chunk{Bytes: make([]byte, n)} }

// Memory lends chunks and keeps account of them. It may be called under a connection's lock and calls nothing back.
type Memory interface {
	// Borrow lends a chunk of SmallChunk or LargeChunk octets, or nil where the account is exhausted.
	Borrow(n int) *Chunk
	// Return takes a chunk back.
	Return(c *Chunk)
}
