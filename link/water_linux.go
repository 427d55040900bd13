package link

import (
	"io"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// waterReader makes a tryReader of water's interface: on Linux its file is an os.File, whose descriptor does not block.
func waterReader(f waterFile) io.ReadWriteCloser {
	file, ok := f.ReadWriteCloser.(syscall.Conn)
	if !ok {
		return f
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return f
	}
	r := &waterConn{waterFile: f, conn: conn, guard: newGuard()}
	r.read = r.readOnce // made once: a method value is an allocation
	return r
}

type waterConn struct {
	waterFile
	conn  syscall.RawConn
	guard *guard
	read  func(fd uintptr) bool
	b     []byte // of the call that is under way; one goroutine reads
	wait  bool   // for a packet, if there is none
	n     int
	errno unix.Errno

	writers sync.Pool // of *waterWrite: one a call
}

func (r *waterConn) Read(b []byte) (int, error) {
	r.guard.reads()
	switch err := r.call(b, true); {
	case err != nil:
		return 0, err
	case r.errno != 0:
		return 0, os.NewSyscallError("read", r.errno)
	case r.n == 0:
		return 0, io.EOF
	}
	return r.n, nil
}

func (r *waterConn) tryRead(b []byte) int {
	if r.call(b, false) != nil || r.errno != 0 { // which the next Read will say
		return 0
	}
	return r.n
}

func (r *waterConn) call(b []byte, wait bool) error {
	r.b, r.wait = b, wait
	err := r.conn.Read(r.read)
	r.b = nil
	return err
}

// readOnce runs under the poller, and returns false for it to wait.
func (r *waterConn) readOnce(fd uintptr) bool {
	r.n, r.errno = r.guard.syscall(unix.SYS_READ, fd, unsafe.Pointer(unsafe.SliceData(r.b)), len(r.b))
	return r.errno != unix.EAGAIN || !r.wait
}

func (r *waterConn) Write(b []byte) (int, error) {
	w, ok := r.writers.Get().(*waterWrite)
	if !ok {
		w = &waterWrite{guard: r.guard}
		w.run = w.write
	}
	w.b = b
	err := r.conn.Control(w.run)
	n, errno := w.n, w.errno
	w.b = nil
	r.writers.Put(w)
	if err != nil || errno != 0 {
		return r.waterFile.Write(b) // for it to wait, or to say what it says
	}
	return n, nil
}

// A waterWrite is the scratch of one Write.
type waterWrite struct {
	guard *guard
	run   func(fd uintptr)
	b     []byte
	n     int
	errno unix.Errno
}

func (w *waterWrite) write(fd uintptr) {
	w.n, w.errno = w.guard.syscall(unix.SYS_WRITE, fd, unsafe.Pointer(unsafe.SliceData(w.b)), len(w.b))
}
