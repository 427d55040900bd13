package link

import (
	"io"
	"syscall"

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
	r := &waterConn{waterFile: f, conn: conn}
	r.read = r.readOnce // made once: a method value is an allocation
	return r
}

type waterConn struct {
	waterFile
	conn syscall.RawConn
	read func(fd uintptr) bool
	b    []byte // of the call of tryRead that is under way; one goroutine reads
	n    int
}

func (r *waterConn) tryRead(b []byte) int {
	r.b, r.n = b, 0
	if r.conn.Read(r.read) != nil { // closed meanwhile, which the next Read will say
		r.n = 0
	}
	r.b = nil
	return r.n
}

func (r *waterConn) readOnce(fd uintptr) bool {
	r.n, _ = unix.Read(int(fd), r.b)
	return true // also where there is nothing: then n is -1
}
