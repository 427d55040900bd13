// Package link is what packets travel over: a TUN or TAP device of the kernel, a tunnel of the importer's own, or a
// wire in memory, and what joins them. It knows Ethernet at most, and no protocol above: only a [Segmenter] looks
// further, at the headers that a card with offloads looks at.
//
// A [Device] has one or more [Queue]s. Packets are read from a queue by one goroutine, written by any, and their
// bytes are always on loan: what Read fills belongs to the queue until the next Read, what Write takes belongs to the
// caller again when Write returns. Four ways to come by a device:
//
//   - [OpenTUN] opens TUN and TAP on Linux with everything that makes them fast: super-segments of 64 KB, checksums
//     left to the kernel, several queues;
//   - [OpenWater] opens TUN and TAP wherever github.com/songgao/water does, one packet a call;
//   - [Wrap] turns anything that reads and writes whole packets into a device;
//   - [Pipe] is a wire between two devices, perfect or with the faults one asks for.
//
// A [Switch] or a [Hub] joins any of them that are Ethernet to one network, and hands out devices for stacks to attach to.
package link

import (
	"errors"
	"fmt"
	"net"

	"github.com/seed87e66d9f/waybill/ethernet"
)

// A Device is a network interface as its driver sees it: IP packets go in and out, or Ethernet frames where
// Caps().Ethernet says so. All methods may be called by several goroutines at once.
//
// A device that counts what it could not carry has a method Stats() [Stats] besides, and one whose Caps change while it is
// open a method Changed() <-chan struct{}: see [Changed].
type Device interface {
	// Caps says what the device is and can do. While the device is open only MTU, Down and Flaps change.
	Caps() Caps
	// Queues lists the queues, at least one; the caller reads each of them from a goroutine of its own.
	// A packet may be written to any.
	Queues() []Queue
	// Close ends every pending and later Read and Write with an error that is [net.ErrClosed], and frees what the
	// device holds. Closing again does nothing and returns nil.
	Close() error
}

// A Queue is one way in and out of a device: one file descriptor of a multi-queue TUN, one end of a pipe.
type Queue interface {
	// Read waits for at least one packet, then fills p with as many as are ready, and says how many those are.
	// One goroutine reads at a time. The bytes it fills in belong to the queue and hold until the next Read; the
	// reader may change them in place. A received packet is whole in Head, and Text is nil.
	// The error is net.ErrClosed after Close, else what the device said: io.EOF if there will be no more, and after any
	// other the reader may try again, in a while.
	Read(p []Packet) (n int, err error)
	// Write sends packets in order and says how many it has taken. Any goroutine may call it at any time; it does
	// not wait for room, and the bytes are the caller's again when it returns. With n < len(p) the error is
	// [ErrFull] (p[n] and what follows may be written again after Ready), net.ErrClosed, or what the device said
	// about p[n]. A packet that the wire loses, or that is larger than the device can carry, counts as taken:
	// that is no more of an error than a packet lost further on.
	Write(p []Packet) (n int, err error)
	// Ready delivers a value once there is room again after a Write returned ErrFull; now and then also without
	// need, so write again and see. It is always the same channel; nil means that the queue never fills.
	Ready() <-chan struct{}
}

// A Packet is one IP packet, or one Ethernet frame on a device that has Ethernet; or a super-segment that stands for
// several packets of one flow, where Offload.GSO says so.
type Packet struct {
	Head    []byte   // received: the whole packet; sent: the headers, or the whole packet
	Text    [][]byte // sent: the payload that follows Head, in any number of pieces; received: nil
	Offload Offload  // what is left for the device to do, or what it has done
	// Buffer, of a received packet, is where the queue keeps the memory of Head, which begins At bytes from its start. A
	// reader who wants to keep the bytes puts another slice of the same length there: the queue fills that one next, and
	// this is the reader's. It is nil where the memory is not to be had.
	Buffer *[]byte
	At     int
	// Comment is for a Capture, which writes it beside the packet; other devices pass it over. The sender sets it, and
	// the reader of a received packet may, until it reads again: why the packet was dropped, say.
	Comment string
}

// Len returns the length of the packet in bytes, Head and Text together.
func (p *Packet) Len() int {
	n := len(p.Head)
	for _, t := range p.Text {
		n += len(t)
	}
	return n
}

// Offload is the part of the work on a packet that sender and device share. It carries what struct virtio_net_hdr
// carries (Virtual I/O Device specification 1.2, §5.1.6), as plain fields; the zero value asks for nothing and
// vouches for nothing. Start and Offset count from the start of the packet, on an Ethernet device from the start of the frame.
type Offload struct {
	// Partial says that the transport checksum is to be completed: its field holds the ones'-complement sum of the
	// pseudo-header alone, not inverted. Sent only to a device whose Caps say Checksum.
	Partial bool
	// Valid says of a received packet that the device vouches for its transport checksum. A received packet with
	// Partial always has Valid too: it came from this same machine, and its checksum never was computed.
	Valid bool
	// ECN says of a TCP super-segment that its CWR flag is set, and belongs on the first packet only.
	ECN bool

	Start     uint16 // with Partial: the checksum covers all from here to the end
	Offset    uint16 // with Partial: the checksum field is this many bytes after Start
	GSO       GSO    // what the super-segment is, None for a single packet
	Size      uint16 // with GSO: payload bytes of each packet but the last
	HeaderLen uint16 // with GSO: bytes of all headers together, repeated in front of each packet
}

// GSO is the kind of a super-segment (generic segmentation offload): what the device cuts it into, or what it was
// put together from.
type GSO uint8

// The kinds of super-segment.
const (
	None GSO = iota // a single packet
	TCP4            // TCP over IPv4
	TCP6            // TCP over IPv6
	UDP             // UDP datagrams of equal size, the last may be shorter, over IPv4 or IPv6
)

// String returns the constant's name.
func (g GSO) String() string {
	switch g {
	case None:
		return "none"
	case TCP4:
		return "TCP4"
	case TCP6:
		return "TCP6"
	case UDP:
		return "UDP"
	}
	return fmt.Sprintf("GSO(%d)", uint8(g))
}

// Caps says what a device is and can do.
type Caps struct {
	Name     string // the interface's name, for people; may be empty
	MTU      int    // the largest IP packet, in bytes; an Ethernet header comes on top
	Ethernet bool   // packets are Ethernet frames, without frame check sequence
	Checksum bool   // the device completes Partial checksums, and vouches for received ones
	// Polled says that a Read which waits does so in the runtime's network poller, as that of an os.File does. The stack
	// then has who reads its sockets wait there too, so that one thread can go from the packet to its reader.
	Polled bool
	// The largest super-segment the device takes, in bytes of IP packet: TCP over IPv4, TCP over IPv6, and UDP.
	// Zero: none.
	GSO4, GSO6, GSOUDP int
	// Addr is our station's own address on an Ethernet device; zero leaves the choice to the stack.
	Addr ethernet.Addr
	// Down says that the link is known to be down, or without a carrier: what is written is lost.
	Down bool
	// Flaps is how often the link has gone down since the device was opened: who looks only now and then sees by it that
	// the link was down meanwhile.
	Flaps uint32
}

// Changed is d's channel that delivers a value when Caps are to be read again, because MTU, Down or Flaps have changed,
// and that is closed with the device. It is nil where d has no method Changed() <-chan struct{}: its Caps do not change.
// A device that wraps another and is to pass this on has a method Changed that returns Changed of the other.
func Changed(d Device) <-chan struct{} {
	if c, ok := d.(interface{ Changed() <-chan struct{} }); ok {
		return c.Changed()
	}
	return nil
}

// tooLong judges a packet by the packets that it would become: one for the MTU, and all of them together for the
// largest super-segment. An Ethernet header counts as one with a VLAN tag, whether it has one or not.
func (c *Caps) tooLong(p *Packet) bool {
	n, frame, limit := p.Len(), 0, 0
	if c.Ethernet {
		frame = maxFrameHeader
	}
	switch p.Offload.GSO {
	case None:
		return n > c.MTU+frame
	case TCP4:
		limit = c.GSO4
	case TCP6:
		limit = c.GSO6
	case UDP:
		limit = c.GSOUDP
	}
	return limit == 0 || n > limit+frame || min(n, p.Offload.headers(p.Head)+int(p.Offload.Size)) > c.MTU+frame
}

// Stats counts the packets that a device has not carried as they were. A device leaves zero what it cannot tell.
type Stats struct {
	TooLong    uint64 // written, larger than the MTU or the largest super-segment: dropped
	Down       uint64 // written while the interface was down or the other end closed: dropped
	NoRoom     uint64 // written when the kernel had no memory for it: dropped
	Invalid    uint64 // received with an Offload that cannot be: dropped
	Lost       uint64 // lost by the wire, as asked
	Duplicated uint64 // delivered twice by the wire, as asked
	Reordered  uint64 // held back by the wire, as asked
}

// ErrFull says that a Write found no room for all of its packets. What was not taken may be written again when the
// queue is Ready.
var ErrFull = errors.New("link: queue is full")

// bufferLen is the length of the memory that a reader may keep (Packet.Buffer): 64 KB, the chunk of those who do.
const bufferLen = 64 << 10

// errClosed is what Read and Write return once the device is closed.
var errClosed = fmt.Errorf("link: %w", net.ErrClosed)

const (
	// maxPacket is the largest IP packet: Total Length has 16 bits (RFC 791 §3.1). An IPv6 packet could be 40
	// bytes longer (RFC 8200 §3), but no kernel sends one that is, jumbograms apart.
	maxPacket = 65535
	// maxFrameHeader is an Ethernet header with one 802.1Q tag: the most that stands before an IP packet here.
	maxFrameHeader = 14 + 4
)
