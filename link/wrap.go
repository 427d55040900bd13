package link

import (
	"io"
	"sync"
	"sync/atomic"
)

// Wrap makes a device of anything that reads and writes one whole packet a call: a TUN file of another library, a
// connected UDP socket, a message channel of a VPN. rw's Write must be safe to call from several goroutines at once
// and while a Read is pending, as that of every net.Conn and os.File is, and its Close must end a pending Read.
//
// Of c, Name, MTU, Ethernet, Polled and Addr are taken as they are (MTU 0 means 65535). Checksum and GSO are switched off: a
// bare packet has no room to carry them. A received packet longer than the MTU allows is cut off, as read(2) would,
// and so fails its own length check above. Write waits as long as rw's does, since there is no asking it not to.
// An error of rw is returned as it is, unless the device is closed.
func Wrap(rw io.ReadWriteCloser, c Caps) Device {
	if c.MTU <= 0 {
		c.MTU = maxPacket
	}
	c.Checksum, c.GSO4, c.GSO6, c.GSOUDP = false, 0, 0, 0
	w := &wrapped{rw: rw, caps: c, size: c.MTU + maxFrameHeader}
	w.in = make([]byte, w.size)
	if w.more, _ = rw.(tryReader); w.more != nil {
		w.in = make([]byte, max(w.size, wrapArena))
	}
	w.queues[0] = w
	return w
}

// A tryReader has packets to give that are there already: tryRead reads one into b, and returns 0 where there is none.
// Read then returns several at once, each by a call of its own.
type tryReader interface{ tryRead(b []byte) int }

// wrapArena bounds what one Read takes from a tryReader, in octets: some forty packets of usual size, enough for
// acknowledgements to answer many at once.
const wrapArena = 64 << 10

// wrapped is both the device and its only queue.
type wrapped struct {
	rw     io.ReadWriteCloser
	caps   Caps
	queues [1]Queue
	size   int
	in     []byte    // the reader's
	more   tryReader // rw, if it is one
	out    sync.Pool // of *[]byte, where Head and Text are joined; one a call, so that writers do not wait for each other
	closed atomic.Bool
}

func (w *wrapped) Caps() Caps             { return w.caps }
func (w *wrapped) Queues() []Queue        { return w.queues[:] }
func (w *wrapped) Ready() <-chan struct{} { return nil }

func (w *wrapped) Close() error {
	if w.closed.Swap(true) {
		return nil
	}
	return w.rw.Close()
}

func (w *wrapped) Read(p []Packet) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for range maxEmptyReads {
		n, err := w.rw.Read(w.in[:w.size])
		switch {
		case n > 0:
			p[0] = Packet{Head: w.in[:n:n]}
			return 1 + w.readMore(p[1:], w.in[n:]), nil // an error that came along comes again
		case err != nil:
			return 0, w.error(err)
		}
	}
	return 0, w.error(io.ErrNoProgress)
}

// maxEmptyReads is how many reads of nothing, without an error, are taken for an error: as many as bufio.Reader allows.
const maxEmptyReads = 100

// readMore fills p with what is there already, as far as there is room for a packet of any size.
func (w *wrapped) readMore(p []Packet, in []byte) (k int) {
	for w.more != nil && k < len(p) && len(in) >= w.size {
		n := w.more.tryRead(in[:w.size])
		if n <= 0 {
			break
		}
		p[k] = Packet{Head: in[:n:n]}
		in = in[n:]
		k++
	}
	return k
}

func (w *wrapped) Write(p []Packet) (int, error) {
	for i := range p {
		if err := w.write(&p[i]); err != nil {
			return i, w.error(err)
		}
	}
	return len(p), nil
}

func (w *wrapped) write(p *Packet) error {
	b := p.Head
	var joined *[]byte
	if len(p.Text) > 0 {
		joined = w.join(p)
		b = *joined
	}
	n, err := w.rw.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if joined != nil {
		w.out.Put(joined)
	}
	return err
}

// join puts a packet into one piece, which is w.out's.
func (w *wrapped) join(p *Packet) *[]byte {
	s, ok := w.out.Get().(*[]byte)
	if !ok {
		s = new([]byte)
		*s = make([]byte, 0, w.size)
	}
	*s = append((*s)[:0], p.Head...)
	for _, t := range p.Text {
		*s = append(*s, t...)
	}
	return s
}

// error turns whatever rw says once it is closed into the one error that callers look for.
func (w *wrapped) error(err error) error {
	if w.closed.Load() {
		return errClosed
	}
	return err
}
