package bell

import (
	"encoding/binary"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// line is an eventfd(2). It is never read: the poller asks for edges, and each write is one.
type line struct {
	file *os.File
	conn syscall.RawConn
	fd   int
	look func(fd uintptr) bool
}

func (l *line) open(rung func() bool) error {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return err
	}
	l.fd, l.file = fd, os.NewFile(uintptr(fd), "eventfd")
	l.look = func(uintptr) bool { return rung() }
	l.conn, err = l.file.SyscallConn()
	return err
}

var one = binary.NativeEndian.AppendUint64(nil, 1)

// ring fails only after 2⁶⁴ rings.
func (l *line) ring() { unix.Write(l.fd, one) }

// wait fails only after close, which is called when nobody waits.
func (l *line) wait() { l.conn.Read(l.look) }

func (l *line) close() { l.file.Close() }
