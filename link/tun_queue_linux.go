package link

import (
	"slices"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// tunFrame is the most that one read from the device yields: the virtio header and a super-segment. The kernel
	// makes none larger than 64 KB unless told to (GSO_LEGACY_MAX_SIZE of <linux/netdevice.h>, 65536).
	tunFrame = VirtioLen + maxFrameHeader + 65536
	// tunBuffers is how many buffers one Read of a queue fills: each holds one super-segment, or many small packets.
	// Acknowledgements answer several super-segments at once, and several connections' at that: with four of them, 4 buffers
	// carried 22 Gbit/s in the mean of six runs, 8 24, 16 26 and 32 28; with one connection, 8 and more carried alike.
	tunBuffers = 16
	// tunSmall is what counts as a small packet: one of ordinary Ethernet.
	tunSmall = 2048
	// maxPieces is how many pieces writev(2) takes (IOV_MAX of <limits.h>).
	maxPieces = 1024
)

// A tunQueue is one descriptor of a TUN device.
type tunQueue struct {
	tun  *tun
	conn syscall.RawConn

	// The reader's: receive runs under the poller, and talks to Read through these.
	receive func(fd uintptr) bool
	buffers [tunBuffers][]byte // a reader may keep one, and leave another: Packet.Buffer
	spill   []byte             // what of a packet a buffer has no room for
	long    []byte             // a packet that no buffer has room for
	pieces  [2]unix.Iovec
	into    []Packet
	n       int
	err     error

	senders sync.Pool // of *sender: one a Write, so that writers do not wait for each other
}

func newTUNQueue(t *tun, conn syscall.RawConn) *tunQueue {
	q := &tunQueue{tun: t, conn: conn, spill: make([]byte, tunFrame)}
	for k := range q.buffers {
		q.buffers[k] = make([]byte, bufferLen)
	}
	q.receive = q.read // made once: a method value is an allocation
	return q
}

// Ready is nil: a TUN device takes what it is given. A write waits for memory only under a send buffer limit, which
// is off unless TUNSETSNDBUF sets it; what then is refused counts as NoRoom, and the kernel's own queues, when they
// are full, drop without a word, as a router does.
func (q *tunQueue) Ready() <-chan struct{} { return nil }

// Read fills p, one read(2) for each packet.
func (q *tunQueue) Read(p []Packet) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	q.into, q.n, q.err = p, 0, nil
	if err := q.conn.Read(q.receive); err != nil {
		return 0, q.tun.error("read", err)
	}
	q.into = nil
	if q.n == 0 {
		return 0, q.tun.error("read", q.err)
	}
	return q.n, nil
}

// read reads packets until there are no more. It returns false if there are none, for the poller to wait.
//
// Small packets share a buffer. A large one is the last in its buffer, and mostly the only one: then its bytes stand where
// a reader may keep them.
func (q *tunQueue) read(fd uintptr) bool {
	k, at := 0, 0 // the buffer, and how much of it is taken
	for q.n < len(q.into) && k < len(q.buffers) {
		n, errno := q.readv(fd, q.buffers[k][at:])
		switch {
		case errno == unix.EAGAIN:
			return q.n > 0
		case errno != 0:
			q.err = errno // comes again at the next Read, if there are packets to return first
			return true
		case n == 0:
			q.err = unix.EBADFD // no packet is empty: the interface is gone
			return true
		}
		p := &q.into[q.n]
		*p = Packet{}
		b := q.buffers[k][at:]
		if n > len(b) {
			if k++; k == len(q.buffers) || n > bufferLen {
				b, k = q.join(&q.long, b, n), len(q.buffers)
			} else {
				b, at = q.join(&q.buffers[k], b, n), 0
			}
		}
		head := q.tun.header
		if n < head || head > 0 && p.Offload.Decode(b[:n]) != nil || !p.Offload.fits(n-head) {
			q.tun.invalid.Add(1)
			continue
		}
		p.Head = b[head:n:n]
		if p.Offload.GSO != None {
			// The kernel says how much of the packet lay in one piece: often the headers, but some payload too where it only
			// forwards (virtio_net_hdr_from_skb in <linux/virtio_net.h>: "hdr->hdr_len = … skb_headlen(skb)").
			p.Offload.HeaderLen = uint16(p.Offload.headers(p.Head))
		}
		if k < len(q.buffers) {
			p.Buffer, p.At = &q.buffers[k], at+head
		}
		q.n++
		if at += n; n > tunSmall || at > bufferLen/2 {
			k, at = k+1, 0
		}
	}
	return true
}

// readv reads one packet into b, and what b has no room for into spill.
func (q *tunQueue) readv(fd uintptr, b []byte) (int, unix.Errno) {
	q.pieces = [2]unix.Iovec{{Base: &b[0]}, {Base: &q.spill[0]}}
	q.pieces[0].SetLen(len(b))
	q.pieces[1].SetLen(len(q.spill))
	for {
		n, _, errno := unix.Syscall(unix.SYS_READV, fd, uintptr(unsafe.Pointer(&q.pieces[0])), 2)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// join puts a packet of n bytes, which begins with b and goes on in spill, into one piece at the start of *to.
func (q *tunQueue) join(to *[]byte, b []byte, n int) []byte {
	if len(*to) < n {
		*to = make([]byte, tunFrame)
	}
	copy((*to)[copy(*to, b):], q.spill[:n-len(b)])
	return *to
}

// Write sends each packet with one writev(2).
func (q *tunQueue) Write(p []Packet) (int, error) {
	s, ok := q.senders.Get().(*sender)
	if !ok {
		s = &sender{tun: q.tun}
		s.run = s.send
	}
	s.packets, s.n, s.err = p, 0, nil
	// Control, not Write: that would let one writer at a time into the kernel.
	err := q.conn.Control(s.run)
	n, sent := s.n, s.err
	s.packets = nil
	clear(s.pieces[:cap(s.pieces)]) // no view of the caller's bytes outlives the call
	q.senders.Put(s)
	if err == nil {
		err = sent
	}
	return n, q.tun.error("write", err)
}

// A sender is the scratch of one Write.
type sender struct {
	tun     *tun
	run     func(fd uintptr)
	packets []Packet
	n       int
	err     error
	header  [VirtioLen]byte
	pieces  []unix.Iovec
}

func (s *sender) send(fd uintptr) {
	caps := s.tun.live.Load()
	for ; s.n < len(s.packets); s.n++ {
		p := &s.packets[s.n]
		if caps.tooLong(p) {
			s.tun.tooLong.Add(1)
			continue
		}
		s.gather(p)
		switch errno := writev(fd, s.pieces); errno {
		case 0:
		case unix.EIO: // the interface is down, drivers/net/tun.c: "if (!(tun->dev->flags & IFF_UP))"
			s.tun.down.Add(1)
		case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
			s.tun.noRoom.Add(1)
		default:
			s.err = errno
			return
		}
	}
}

// gather lists the pieces of p for writev.
func (s *sender) gather(p *Packet) {
	s.pieces = s.pieces[:0]
	if s.tun.header > 0 {
		p.Offload.Encode(s.header[:])
		s.piece(s.header[:])
	}
	s.piece(p.Head)
	if len(p.Text) > maxPieces-2 {
		s.piece(slices.Concat(p.Text...))
		return
	}
	for _, t := range p.Text {
		s.piece(t)
	}
}

func (s *sender) piece(b []byte) {
	if len(b) == 0 {
		return
	}
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	s.pieces = append(s.pieces, v)
}

// writev is writev(2), once more if a signal comes between. unix.Writev would list the pieces anew.
func writev(fd uintptr, pieces []unix.Iovec) unix.Errno {
	for {
		_, _, errno := unix.Syscall(unix.SYS_WRITEV, fd,
			uintptr(unsafe.Pointer(unsafe.SliceData(pieces))), uintptr(len(pieces)))
		if errno != unix.EINTR {
			return errno
		}
	}
}
