//go:build linux

package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/link"
)

// The table of this file runs every case against the kernel's sockets and against ours; the columns must be equal. It
// stands behind linux since that is the kernel whose errors package stack promises.

// sockets are package net's functions over the kernel, or over two hosts of ours.
type sockets struct {
	fam          string // "4" or "6"
	host         string // the server's address
	dial         func(ctx context.Context, network, address string) (net.Conn, error)
	dialFrom     func(network string, local, remote netip.AddrPort) (net.Conn, error)
	listen       func(network, address string) (net.Listener, error)
	listenPacket func(network, address string) (net.PacketConn, error)
	silent       func(t *testing.T) string // an address that never answers a SYN
	refused      func(c net.Conn)          // waits until an ICMP error has come
	notes        strings.Builder
}

// kernel is the column of package net, on the loopback interface.
func kernel(t *testing.T, fam string) *sockets {
	s := &sockets{fam: fam, host: "127.0.0.1"}
	if fam == "6" {
		s.host = "::1"
	}
	var d net.Dialer
	s.dial, s.listen, s.listenPacket = d.DialContext, net.Listen, net.ListenPacket
	s.dialFrom = func(network string, local, remote netip.AddrPort) (net.Conn, error) {
		d := net.Dialer{LocalAddr: netAddr(network, local)}
		return d.Dial(network, remote.String())
	}
	s.refused = func(net.Conn) {} // on the loopback interface it comes before send(2) returns
	s.silent = silentKernel
	if fam == "6" {
		s.silent = func(t *testing.T) string { return silentKernel6(t) }
	}
	l, err := s.listen("tcp", s.at(0))
	if err != nil {
		t.Skipf("the kernel has no loopback interface for IPv%s: %v", fam, err)
	}
	l.Close()
	return s
}

// silentKernel is a listener whose queue of one is full: Linux drops further SYNs.
func silentKernel(t *testing.T) string {
	return fullListener(t, syscall.AF_INET, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
}

func silentKernel6(t *testing.T) string {
	return fullListener(t, syscall.AF_INET6, &syscall.SockaddrInet6{Addr: netip.IPv6Loopback().As16()})
}

func fullListener(t *testing.T, domain int, at syscall.Sockaddr) string {
	fd, err := syscall.Socket(domain, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, at), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	var address string
	switch name := name.(type) {
	case *syscall.SockaddrInet4:
		address = netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port)).String()
	case *syscall.SockaddrInet6:
		address = netip.AddrPortFrom(netip.AddrFrom16(name.Addr), uint16(name.Port)).String()
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return address
}

// ours is the column of package stack: two hosts on a wire.
func ours(t *testing.T, fam string) *sockets {
	client, server := pair(t, link.PipeConfig{}, Config{})
	s := &sockets{fam: fam, host: server4.Addr().String(), dial: client.DialContext, listen: server.Listen, listenPacket: server.ListenPacket}
	nobody := "198.51.100.99:80"
	if fam == "6" {
		s.host, nobody = server6.Addr().String(), "[2001:db8:51::99]:80"
	}
	s.silent = func(*testing.T) string { return nobody }
	s.refused = func(c net.Conn) {
		u := c.(*UDPConn)
		for told := false; !told; runtime.Gosched() {
			u.mu.Lock()
			told = u.errno != 0
			u.mu.Unlock()
		}
	}
	s.dialFrom = func(network string, local, remote netip.AddrPort) (net.Conn, error) {
		if strings.HasPrefix(network, "udp") {
			return client.DialUDP(network, local, remote)
		}
		c, err := client.DialTCP(context.Background(), network, local, remote)
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	return s
}

// at is the server's address with a port.
func (s *sockets) at(port uint16) string { return net.JoinHostPort(s.host, fmt.Sprint(port)) }

// other is an address of the other family.
func (s *sockets) other() string {
	if s.fam == "4" {
		return "[2001:db8::1]:80"
	}
	return "198.51.100.2:80"
}

// free is an address of the server where nobody listens.
func (s *sockets) free(t *testing.T, network string) string {
	t.Helper()
	if strings.HasPrefix(network, "udp") {
		p, err := s.listenPacket(network, s.at(0))
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
		return p.LocalAddr().String()
	}
	l := s.listener(t, s.at(0))
	l.Close()
	return l.Addr().String()
}

func (s *sockets) listener(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := s.listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func (s *sockets) packets(t *testing.T, address string) net.PacketConn {
	t.Helper()
	p, err := s.listenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// stream is what net.TCPConn and TCPConn have in common, as far as the table needs it.
type stream interface {
	net.Conn
	io.ReaderFrom
	io.WriterTo
	CloseRead() error
	CloseWrite() error
	SetLinger(int) error
	SetNoDelay(bool) error
	SetReadBuffer(int) error
}

// connect is a connection, seen from both ends.
func (s *sockets) connect(t *testing.T, network string) (c, peer stream) {
	t.Helper()
	l, err := s.listen(network, s.at(0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := s.dial(context.Background(), network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(stream), b.(stream)
}

// connectUDP is a connected socket, and the one that it is connected to.
func (s *sockets) connectUDP(t *testing.T) (net.Conn, net.PacketConn) {
	t.Helper()
	p := s.packets(t, s.at(0))
	return s.dialed(t, "udp", p.LocalAddr().String()), p
}

func (s *sockets) dialed(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := s.dial(context.Background(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// note writes down what a call returned.
func (s *sockets) note(what string, n int, err error) {
	fmt.Fprintf(&s.notes, "%s: n=%d %s\n", what, n, tell(err))
}

// sentinels are the errors that programs compare with.
var sentinels = []struct {
	name string
	err  error
}{
	{"ECONNREFUSED", syscall.ECONNREFUSED}, {"ECONNRESET", syscall.ECONNRESET}, {"ETIMEDOUT", syscall.ETIMEDOUT},
	{"EHOSTUNREACH", syscall.EHOSTUNREACH}, {"ENETUNREACH", syscall.ENETUNREACH}, {"EADDRINUSE", syscall.EADDRINUSE},
	{"EADDRNOTAVAIL", syscall.EADDRNOTAVAIL}, {"EMSGSIZE", syscall.EMSGSIZE}, {"EPIPE", syscall.EPIPE},
	{"ENOTCONN", syscall.ENOTCONN}, {"EINVAL", syscall.EINVAL}, {"EDESTADDRREQ", syscall.EDESTADDRREQ},
	{"net.ErrClosed", net.ErrClosed}, {"net.ErrWriteToConnected", net.ErrWriteToConnected},
	{"os.ErrDeadlineExceeded", os.ErrDeadlineExceeded}, {"context.Canceled", context.Canceled},
	{"context.DeadlineExceeded", context.DeadlineExceeded}, {"io.EOF", io.EOF}, {"errReader", errReader},
}

var errReader = errors.New("the other side of a copy failed")

// tell is an error as a program sees it: its type, what it compares equal to, and whether it is a timeout.
func tell(err error) string {
	if err == nil {
		return "nil"
	}
	var b strings.Builder
	if op, ok := err.(*net.OpError); ok {
		fmt.Fprintf(&b, "*net.OpError{%s %s source %T addr %T} is", op.Op, op.Net, op.Source, op.Addr)
	} else {
		fmt.Fprintf(&b, "%T is", err)
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			b.WriteString(" " + s.name)
		}
	}
	var ne net.Error
	if errors.As(err, &ne) {
		fmt.Fprintf(&b, ", timeout %v", ne.Timeout())
	}
	var addr *net.AddrError
	var dns *net.DNSError
	var unknown net.UnknownNetworkError
	fmt.Fprintf(&b, ", %v %v %v", errors.As(err, &addr), errors.As(err, &dns), errors.As(err, &unknown))
	return b.String()
}

// soon is a deadline that comes while a call waits for it.
func soon() time.Time { return time.Now().Add(5 * time.Millisecond) }

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// writeUntil writes until it fails: until the peer's answer has arrived.
func writeUntil(c net.Conn) (int, error) {
	for {
		if n, err := c.Write([]byte("x")); err != nil {
			return n, err
		}
	}
}

func TestErrors(t *testing.T) {
	for _, fam := range []string{"4", "6"} {
		for _, group := range [][]errorCase{dialErrors, listenErrors, streamErrors, endErrors, udpErrors} {
			for _, c := range group {
				t.Run("IPv"+fam+"/"+c.name, func(t *testing.T) {
					k, o := kernel(t, fam), ours(t, fam)
					c.run(t, k)
					c.run(t, o)
					compare(t, k.notes.String(), o.notes.String())
				})
			}
		}
	}
}

// compare reports the lines in which the columns differ.
func compare(t *testing.T, want, got string) {
	t.Helper()
	k, o := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(k), len(o)) {
		if i >= len(k) || i >= len(o) || k[i] != o[i] {
			t.Errorf("kernel %s\n  ours %s", k[min(i, len(k)-1)], o[min(i, len(o)-1)])
		}
	}
}

type errorCase struct {
	name string
	run  func(t *testing.T, s *sockets)
}

var dialErrors = []errorCase{
	{"dial refused", func(t *testing.T, s *sockets) {
		_, err := s.dial(t.Context(), "tcp", s.free(t, "tcp"))
		s.note("dial", 0, err)
		_, err = s.dial(t.Context(), "tcp"+s.fam, s.free(t, "tcp"))
		s.note("dial with the family", 0, err)
	}},
	{"dial with a context that has ended", func(t *testing.T, s *sockets) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.dial(ctx, "tcp", s.free(t, "tcp"))
		s.note("cancelled", 0, err)
		ctx, cancel = context.WithDeadline(t.Context(), past)
		defer cancel()
		_, err = s.dial(ctx, "tcp", s.free(t, "tcp"))
		s.note("expired", 0, err)
		_, err = s.dial(ctx, "udp", s.free(t, "udp"))
		s.note("expired, UDP", 0, err)
	}},
	{"dial cancelled", func(t *testing.T, s *sockets) {
		ctx, cancel := context.WithCancel(t.Context())
		stop := time.AfterFunc(5*time.Millisecond, cancel)
		defer stop.Stop()
		_, err := s.dial(ctx, "tcp", s.silent(t))
		s.note("dial", 0, err)
	}},
	{"dial what cannot be a peer", func(t *testing.T, s *sockets) {
		group := "255.255.255.255:80"
		if s.fam == "6" {
			group = "[ff02::1]:80"
		}
		_, err := s.dial(t.Context(), "tcp", group)
		s.note("a group", 0, err)
		_, err = s.dial(t.Context(), "tcp"+s.fam, s.other())
		s.note("the other family", 0, err)
		_, err = s.dial(t.Context(), "tcp7", s.at(1))
		s.note("unknown network", 0, err)
		_, err = s.dial(t.Context(), "tcp", "198.51.100.2")
		s.note("no port", 0, err)
		_, err = s.dial(t.Context(), "tcp", "198.51.100.2:70000")
		s.note("bad port", 0, err)
	}},
	{"dial from an address that is not ours", func(t *testing.T, s *sockets) {
		local, remote := netip.MustParseAddrPort("203.0.113.77:0"), netip.MustParseAddrPort(s.free(t, "tcp"))
		if s.fam == "6" {
			local = netip.MustParseAddrPort("[2001:db8:77::77]:0")
		}
		_, err := s.dialFrom("tcp", local, remote)
		s.note("TCP", 0, err)
		_, err = s.dialFrom("udp", local, remote)
		s.note("UDP", 0, err)
	}},
	{"dial from a port in use", func(t *testing.T, s *sockets) {
		l := s.listener(t, s.at(0))
		c := s.dialed(t, "tcp", l.Addr().String())
		_, err := s.dialFrom("tcp", netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(l.Addr().String()))
		var op *net.OpError
		s.note(fmt.Sprint("in use ", errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL), errors.As(err, &op)), 0, nil)
	}},
}

var listenErrors = []errorCase{
	{"listen in use", func(t *testing.T, s *sockets) {
		l := s.listener(t, s.at(0))
		_, err := s.listen("tcp", l.Addr().String())
		s.note("the same", 0, err)
		_, err = s.listen("tcp", fmt.Sprint(":", l.Addr().(*net.TCPAddr).Port))
		s.note("all addresses", 0, err)
		p := s.packets(t, s.at(0))
		_, err = s.listenPacket("udp", p.LocalAddr().String())
		s.note("UDP", 0, err)
		_, err = s.listenPacket("udp"+s.fam, p.LocalAddr().String())
		s.note("UDP with the family", 0, err)
	}},
	{"listen on what is not ours", func(t *testing.T, s *sockets) {
		foreign := "203.0.113.77:0"
		if s.fam == "6" {
			foreign = "[2001:db8:77::77]:0"
		}
		_, err := s.listen("tcp", foreign)
		s.note("TCP", 0, err)
		_, err = s.listenPacket("udp", foreign)
		s.note("UDP", 0, err)
		_, err = s.listen("tcp"+s.fam, s.other())
		s.note("the other family", 0, err)
		_, err = s.listen("udp", s.at(0))
		s.note("a network of datagrams", 0, err)
		_, err = s.listenPacket("tcp", s.at(0))
		s.note("a network of streams", 0, err)
	}},
	{"listen on port 0", func(t *testing.T, s *sockets) {
		l := s.listener(t, s.at(0))
		s.note(fmt.Sprint("a port ", l.Addr().(*net.TCPAddr).Port != 0), 0, nil)
	}},
	{"accept", func(t *testing.T, s *sockets) {
		l := s.listener(t, s.at(0)).(interface {
			net.Listener
			SetDeadline(time.Time) error
		})
		s.note("set", 0, l.SetDeadline(past))
		_, err := l.Accept()
		s.note("past deadline", 0, err)
		l.SetDeadline(soon())
		_, err = l.Accept()
		s.note("deadline", 0, err)
		l.SetDeadline(time.Time{})
		done := make(chan error)
		go func() {
			_, err := l.Accept()
			done <- err
		}()
		s.note("close", 0, l.Close())
		s.note("pending", 0, <-done)
		_, err = l.Accept()
		s.note("closed", 0, err)
		s.note("close again", 0, l.Close())
		// Package net forgets to wrap this one; ours is a *net.OpError as everywhere else.
		s.note(fmt.Sprint("set closed ", errors.Is(l.SetDeadline(past), net.ErrClosed)), 0, nil)
	}},
}

var streamErrors = []errorCase{
	{"own Close", func(t *testing.T, s *sockets) {
		for _, network := range []string{"tcp", "tcp" + s.fam} {
			c, peer := s.connect(t, network)
			for _, c := range []stream{c, peer} {
				s.note("close", 0, c.Close())
				s.every(c)
				s.note("close again", 0, c.Close())
			}
		}
	}},
	{"own Close while a Read and a Write wait", func(t *testing.T, s *sockets) {
		c, _ := s.connect(t, "tcp")
		read, write := make(chan func()), make(chan func())
		go func() {
			n, err := c.Read(make([]byte, 1))
			read <- func() { s.note("read", n, err) }
		}()
		go func() {
			var err error
			for err == nil {
				_, err = c.Write(make([]byte, 1<<16))
			}
			write <- func() { s.note("write", 0, err) }
		}()
		c.Close()
		(<-read)()
		(<-write)()
	}},
	{"own CloseWrite", func(t *testing.T, s *sockets) {
		c, peer := s.connect(t, "tcp")
		s.note("closeWrite", 0, c.CloseWrite())
		s.note("again", 0, c.CloseWrite())
		n, err := c.Write([]byte("x"))
		s.note("write", n, err)
		n, err = c.Write(nil)
		s.note("write nothing", n, err)
		n, err = peer.Read(make([]byte, 1))
		s.note("peer reads", n, err)
		n, err = peer.Write([]byte("abc"))
		s.note("peer writes", n, err)
		n, err = io.ReadFull(c, make([]byte, 3))
		s.note("read", n, err)
		s.note("closeRead", 0, c.CloseRead())
		n, err = c.Read(make([]byte, 1))
		s.note("read", n, err)
	}},
	{"own CloseRead", func(t *testing.T, s *sockets) {
		c, peer := s.connect(t, "tcp")
		s.note("closeRead", 0, c.CloseRead())
		n, err := c.Read(make([]byte, 1))
		s.note("read", n, err)
		n, err = c.Write([]byte("x"))
		s.note("write", n, err)
		n, err = peer.Read(make([]byte, 8))
		s.note("peer reads", n, err)
		s.note("again", 0, c.CloseRead())
		s.note("close", 0, c.Close())
	}},
	{"deadlines", func(t *testing.T, s *sockets) {
		c, _ := s.connect(t, "tcp")
		c.SetDeadline(past)
		s.every(c)
		n, err := c.Write(nil)
		s.note("write nothing", n, err)
		c.SetDeadline(time.Time{})
		c.SetReadDeadline(soon())
		n, err = c.Read(make([]byte, 1))
		s.note("read", n, err)
		n, err = c.Read(make([]byte, 1))
		s.note("read again", n, err)
		c.SetWriteDeadline(soon())
		for err = nil; err == nil; {
			_, err = c.Write(make([]byte, 1<<16))
		}
		s.note("write", 0, err)
		c.SetDeadline(past)
		s.note("closeWrite", 0, c.CloseWrite())
		s.note("close", 0, c.Close())
	}},
	{"a copy whose other side fails", func(t *testing.T, s *sockets) {
		c, peer := s.connect(t, "tcp")
		n, err := c.ReadFrom(io.MultiReader(strings.NewReader("abc"), failing{}))
		s.note("readFrom", int(n), err)
		n, err = peer.WriteTo(failing{})
		s.note("writeTo", int(n), err)
		n, err = c.ReadFrom(strings.NewReader(""))
		s.note("readFrom nothing", int(n), err)
		c.CloseWrite()
		n, err = peer.WriteTo(&bytes.Buffer{})
		s.note("writeTo until the end", int(n), err)
		n, err = c.ReadFrom(strings.NewReader("abc"))
		s.note("readFrom after CloseWrite", int(n), err)
	}},
}

// failing is a reader and a writer that fails.
type failing struct{}

func (failing) Read([]byte) (int, error)  { return 0, errReader }
func (failing) Write([]byte) (int, error) { return 0, errReader }

// every notes what every call on c says.
func (s *sockets) every(c stream) {
	n, err := c.Read(make([]byte, 1))
	s.note("read", n, err)
	n, err = c.Read(nil)
	s.note("read nothing", n, err)
	n, err = c.Write([]byte("x"))
	s.note("write", n, err)
	m, err := c.ReadFrom(strings.NewReader("abc"))
	s.note("readFrom", int(m), err)
	m, err = c.WriteTo(io.Discard)
	s.note("writeTo", int(m), err)
	if err == nil || errors.Is(err, net.ErrClosed) {
		s.note("closeRead", 0, c.CloseRead())
		s.note("closeWrite", 0, c.CloseWrite())
		s.note("setDeadline", 0, c.SetDeadline(past))
		s.note("setReadDeadline", 0, c.SetReadDeadline(past))
		s.note("setWriteDeadline", 0, c.SetWriteDeadline(past))
		s.note("setLinger", 0, c.SetLinger(0))
		s.note("setNoDelay", 0, c.SetNoDelay(true))
		s.note("setReadBuffer", 0, c.SetReadBuffer(1<<16))
	}
}

var endErrors = []errorCase{
	{"peer FIN", func(t *testing.T, s *sockets) {
		c, peer := s.connect(t, "tcp")
		peer.Close()
		n, err := c.Read(make([]byte, 1))
		s.note("read", n, err)
		n, err = c.Read(make([]byte, 1))
		s.note("read again", n, err)
		n, err = c.Write([]byte("x"))
		s.note("write", n, err)
		n, err = writeUntil(c)
		s.note("write again", n, err)
		n, err = c.Read(make([]byte, 1))
		s.note("read at last", n, err)
	}},
	{"peer FIN behind unread text, then RST", func(t *testing.T, s *sockets) {
		c, peer := s.connect(t, "tcp")
		peer.Write([]byte("abc"))
		peer.Close()
		n, err := writeUntil(c)
		s.note("write", n, err)
		s.reads(c, "the text", "the end", "again")
	}},
	{"peer CloseWrite, then RST", func(t *testing.T, s *sockets) {
		c, peer := s.connect(t, "tcp")
		peer.SetLinger(0)
		peer.CloseWrite()
		s.reads(c, "the end")
		peer.Close()
		n, err := writeUntil(c)
		s.note("write", n, err)
		s.reads(c, "again")
	}},
	{"peer FIN, then both closed", func(t *testing.T, s *sockets) {
		c, peer := s.connect(t, "tcp")
		c.CloseWrite()
		peer.Read(make([]byte, 1))
		peer.Close()
		n, err := c.Read(make([]byte, 1))
		s.note("read", n, err)
		s.note("closeWrite", 0, c.CloseWrite())
		s.note("closeRead", 0, c.CloseRead())
		n, err = c.Write([]byte("x"))
		s.note("write", n, err)
		n, err = c.Read(make([]byte, 1))
		s.note("read again", n, err)
	}},
	{"peer RST, read first", func(t *testing.T, s *sockets) {
		c, peer := s.connect(t, "tcp")
		peer.SetLinger(0)
		peer.Close()
		s.reads(c, "first", "again")
		n, err := c.Write([]byte("x"))
		s.note("write", n, err)
		s.note("closeWrite", 0, c.CloseWrite())
		s.note("closeRead", 0, c.CloseRead())
		s.note("setDeadline", 0, c.SetDeadline(time.Time{}))
		s.note("close", 0, c.Close())
	}},
	{"peer RST, write first", func(t *testing.T, s *sockets) {
		c, peer := s.connect(t, "tcp")
		peer.SetLinger(0)
		peer.Close()
		n, err := writeUntil(c)
		s.note("write", n, err)
		n, err = c.Write([]byte("x"))
		s.note("write again", n, err)
		s.reads(c, "read")
	}},
	{"peer RST behind text", func(t *testing.T, s *sockets) {
		c, peer := s.connect(t, "tcp")
		peer.Write([]byte("abc"))
		s.reads(c, "the text")
		peer.SetLinger(0)
		peer.Close()
		s.reads(c, "first", "again")
	}},
	{"peer closes with unread text", func(t *testing.T, s *sockets) {
		c, peer := s.connect(t, "tcp")
		c.Write([]byte("abc"))
		peer.Read(make([]byte, 1))
		peer.Close()
		s.reads(c, "first", "again")
	}},
	{"peer RST, copied", func(t *testing.T, s *sockets) {
		c, peer := s.connect(t, "tcp")
		peer.SetLinger(0)
		peer.Close()
		n, err := c.WriteTo(io.Discard)
		s.note("writeTo", int(n), err)
		n, err = c.ReadFrom(strings.NewReader("abc"))
		s.note("readFrom", int(n), err)
	}},
}

// reads notes reads of up to eight octets.
func (s *sockets) reads(c net.Conn, names ...string) {
	for _, name := range names {
		n, err := c.Read(make([]byte, 8))
		s.note("read "+name, n, err)
	}
}

var udpErrors = []errorCase{
	{"UDP to a closed port", func(t *testing.T, s *sockets) {
		c := s.dialed(t, "udp", s.free(t, "udp"))
		n, err := c.Write([]byte("x"))
		s.note("write", n, err)
		s.reads(c, "refused")
		c.SetReadDeadline(soon())
		s.reads(c, "told once")
		c.Write([]byte("x"))
		s.refused(c)
		n, err = c.Write([]byte("x"))
		s.note("write refused", n, err)
		p := c.(net.PacketConn)
		c.SetReadDeadline(time.Time{})
		c.Write([]byte("x"))
		n, _, err = p.ReadFrom(make([]byte, 1))
		s.note("readFrom", n, err)
	}},
	{"UDP sizes", func(t *testing.T, s *sockets) {
		c, p := s.connectUDP(t)
		n, err := c.Write(make([]byte, 1<<16))
		s.note("too long", n, err)
		n, err = p.WriteTo(make([]byte, 1<<16), c.LocalAddr())
		s.note("too long", n, err)
		n, err = c.Write(nil)
		s.note("empty", n, err)
		n, _, err = p.ReadFrom(make([]byte, 8))
		s.note("read empty", n, err)
		c.Write([]byte("abc"))
		n, _, err = p.ReadFrom(make([]byte, 2))
		s.note("cut", n, err)
		n, err = c.Read(nil)
		s.note("read nothing", n, err)
	}},
	{"UDP deadlines", func(t *testing.T, s *sockets) {
		c, p := s.connectUDP(t)
		for _, at := range []time.Time{past, soon()} {
			c.SetReadDeadline(at)
			s.reads(c, "connected")
			p.SetReadDeadline(at)
			n, _, err := p.ReadFrom(make([]byte, 1))
			s.note("readFrom", n, err)
		}
		c.SetWriteDeadline(past)
		n, err := c.Write([]byte("x"))
		s.note("write", n, err)
		p.SetWriteDeadline(past)
		n, err = p.WriteTo([]byte("x"), c.LocalAddr())
		s.note("writeTo", n, err)
		c.SetDeadline(time.Time{})
		n, err = c.Write([]byte("x"))
		s.note("write again", n, err)
	}},
	{"UDP addresses", func(t *testing.T, s *sockets) {
		c, p := s.connectUDP(t)
		to := p.LocalAddr().(*net.UDPAddr)
		n, err := c.(net.PacketConn).WriteTo([]byte("x"), to)
		s.note("connected", n, err)
		n, err = p.WriteTo([]byte("x"), &net.TCPAddr{IP: to.IP, Port: to.Port})
		s.note("wrong type", n, err)
		n, err = p.WriteTo([]byte("x"), nil)
		s.note("no address", n, err)
		n, err = p.WriteTo([]byte("x"), (*net.UDPAddr)(nil))
		s.note("nil address", n, err)
		n, err = p.WriteTo([]byte("x"), &net.UDPAddr{IP: to.IP})
		s.note("port 0", n, err)
		n, err = p.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s.other())))
		if s.fam == "4" { // an IPv6 socket of the kernel maps the address, and then has no route; ours says what is wrong
			s.note("the other family", n, err)
		}
		n, err = p.(io.Writer).Write([]byte("x"))
		s.note("not connected", n, err)
		q := s.packets(t, "0.0.0.0:0")
		n, err = q.WriteTo([]byte("x"), q.LocalAddr())
		s.note("to the unspecified address", n, err)
	}},
	{"UDP Close", func(t *testing.T, s *sockets) {
		c, p := s.connectUDP(t)
		done := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			done <- err
		}()
		s.note("close", 0, c.Close())
		s.note("pending", 0, <-done)
		s.reads(c, "closed")
		n, err := c.Write([]byte("x"))
		s.note("write", n, err)
		s.note("close again", 0, c.Close())
		s.note("set", 0, c.SetDeadline(past))
		s.note("set", 0, c.(interface{ SetReadBuffer(int) error }).SetReadBuffer(1))
		to := p.LocalAddr()
		p.Close()
		n, _, err = p.ReadFrom(make([]byte, 1))
		s.note("readFrom", n, err)
		n, err = p.WriteTo([]byte("x"), to)
		s.note("writeTo", n, err)
	}},
}
