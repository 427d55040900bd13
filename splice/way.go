package splice

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// largeBuffer is what a stream is read with. Measured over loopback and over two stacks with 64 KB super-segments, it is
	// twice as fast as io.Copy's 32 KB, which cut those in two; 128 KB are no faster.
	largeBuffer = 64 << 10
	// smallBuffer is what one reads with who may have to wait long: a packet of an Ethernet fits, and a line of a terminal.
	smallBuffer = 2 << 10
)

// buffers hold what is read of streams, for as long as it comes in large pieces.
var buffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// A side is one of the two connections.
type side struct {
	net.Conn
	turn   chan struct{} // holds a value while somebody writes, or looks at broken
	broken error         // why a Write failed
	eof    atomic.Bool   // its FIN was read
	shut   atomic.Bool   // the other's FIN was carried to it, if it can be told
}

// A way is one of the two directions. It writes all that it reads, in the order of reading, and nobody else reads from or
// writes to its connections in its direction.
type way struct {
	from, to *side
	splice   *splice
	octets   int64 // that to has taken
	small    [smallBuffer]byte
	large    *[largeBuffer]byte // nil while the stream is slow or silent
}

// run carries octets until the end of the stream, and then that.
//
// It is a loop of Read and Write. To use a connection's ReadFrom or WriteTo, as io.Copy does, was measured to be no faster
// with a buffer of this size, neither between two *stack.TCPConn nor between two *net.TCPConn, where it is splice(2); and
// it would hide what was carried when, and that a Write is under way, which end has to know.
func (w *way) run() error {
	defer w.fit(0)
	buffer := w.small[:]
	for {
		n, err := w.from.Read(buffer)
		if n > 0 {
			w.splice.progress()
			if err := w.write(buffer[:n]); err != nil {
				w.drop(buffer)
				return err
			}
		}
		if err == io.EOF {
			return w.end()
		}
		if err != nil {
			return err
		}
		buffer = w.fit(n)
	}
}

// fit is the buffer to read with next, after n octets came at once.
func (w *way) fit(n int) []byte {
	switch {
	case n < smallBuffer && w.large != nil:
		buffers.Put(w.large)
		w.large = nil
	case n >= smallBuffer && w.large == nil:
		w.large = buffers.Get().(*[largeBuffer]byte)
	}
	if w.large != nil {
		return w.large[:]
	}
	return w.small[:]
}

func (w *way) write(b []byte) error {
	w.to.turn <- struct{}{}
	defer func() { <-w.to.turn }()
	n, err := w.to.Write(b)
	w.octets += int64(n)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.to.broken = err
		return err
	}
	w.splice.progress()
	return nil
}

// settle is how long a Write that a reset has ended may take to return. It has been woken already.
const settle = time.Second

// end carries the end of the stream.
//
// A system tells of a reset once: if it told the Write of the other way, our Read finds nothing left and takes that for a
// FIN. So we ask that Write first. If it takes longer, it waits for room, and the connection is alive.
func (w *way) end() error {
	timer := time.NewTimer(settle)
	defer timer.Stop()
	select {
	case w.from.turn <- struct{}{}:
		err := w.from.broken
		<-w.from.turn
		if err != nil {
			return err
		}
	case <-timer.C:
	}
	w.from.eof.Store(true)
	if err := w.to.closeWrite(); err != nil {
		return err
	}
	w.to.shut.Store(true)
	w.splice.progress()
	return nil
}

// closeWriter is what *net.TCPConn, *stack.TCPConn, *net.UnixConn and *tls.Conn are.
type closeWriter interface{ CloseWrite() error }

// closeWrite sends a FIN, if the connection can.
func (s *side) closeWrite() error {
	c, ok := s.Conn.(closeWriter)
	if !ok {
		return nil
	}
	if h, ok := s.Conn.(interface{ Handshake() error }); ok { // a tls.Conn cannot before
		if err := h.Handshake(); err != nil {
			return err
		}
	}
	return c.CloseWrite()
}

// linger is how long one who has been told of the other's end may take to read what came before it: nginx's
// lingering_timeout, for the same purpose.
const linger = 5 * time.Second

// drop is for when to does not take anything any more. If it had ended its stream before, from may still have to read some
// of that, and a reset would take it away; and so would closing a connection that has something to be read.
func (w *way) drop(buffer []byte) {
	_, told := w.from.Conn.(closeWriter)
	if !told || !w.from.shut.Load() || w.from.SetReadDeadline(time.Now().Add(linger)) != nil {
		return
	}
	for {
		_, err := w.from.Read(buffer)
		if err == io.EOF {
			w.from.eof.Store(true)
		}
		if err != nil {
			return
		}
	}
}

// end closes the connection: with a reset, unless both ways have ended in good order as far as it is concerned. It may
// be called more than once.
func (s *side) end() {
	if !s.eof.Load() || !s.shut.Load() {
		reset(s.Conn)
	}
	s.Close()
}

// reset closes the connection that has SetLinger, be it c or one inside it, so that its peer gets a reset.
func reset(c net.Conn) {
	for c != nil {
		if l, ok := c.(interface{ SetLinger(int) error }); ok {
			l.SetLinger(0)
			c.Close()
			return
		}
		outer, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return
		}
		c = outer.NetConn()
	}
}
