package splice

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	chacha "math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// kinds are the connections that a proxy meets: each makes a peer and our end of its connection.
var kinds = map[string]func(t *testing.T) (peer, ours net.Conn){
	"stack":  overStacks,
	"kernel": overKernel,
	"tls":    overTLS,
}

// mixes names what is spliced with what.
var mixes = [][2]string{{"stack", "stack"}, {"kernel", "kernel"}, {"tls", "tls"}, {"stack", "kernel"}, {"tls", "stack"}, {"kernel", "tls"}}

// forMixes runs a test for each mix, with the peers of a Splice that runs, and its outcome.
func forMixes(t *testing.T, c Config, f func(t *testing.T, a, b net.Conn, end <-chan outcome)) {
	for _, m := range mixes {
		t.Run(m[0]+" and "+m[1], func(t *testing.T) {
			a, ourA := kinds[m[0]](t)
			b, ourB := kinds[m[1]](t)
			f(t, a, b, start(t.Context(), ourA, ourB, c))
		})
	}
}

type outcome struct {
	Result
	err error
}

func start(ctx context.Context, a, b net.Conn, c Config) <-chan outcome {
	end := make(chan outcome, 1)
	go func() {
		r, err := Splice(ctx, a, b, c)
		end <- outcome{r, err}
	}()
	return end
}

// wire is two hosts, and a connection from the first to the second.
func wire(t *testing.T, w link.PipeConfig, c stack.Config) (near, far net.Conn) {
	t.Helper()
	a, b := link.Pipe(w)
	client, server := stack.New(stack.Config{}), stack.New(c)
	t.Cleanup(func() { client.Close(); server.Close() })
	_, err1 := client.Attach(a, netip.MustParsePrefix("2001:db8:51::1/64"))
	_, err2 := server.Attach(b, netip.MustParsePrefix("2001:db8:51::2/64"))
	l, err3 := server.Listen("tcp", "[2001:db8:51::2]:7")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return connect(t, l, client.Dial)
}

func connect(t *testing.T, l net.Listener, dial func(network, addr string) (net.Conn, error)) (near, far net.Conn) {
	t.Helper()
	defer l.Close()
	near, err := dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

func overStacks(t *testing.T) (peer, ours net.Conn) {
	return wire(t, link.PipeConfig{}, stack.Config{})
}

func overKernel(t *testing.T) (peer, ours net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback: ", err)
	}
	return connect(t, l, net.Dial)
}

func overTLS(t *testing.T) (peer, ours net.Conn) {
	peer, ours = overKernel(t)
	c := tlsConfig(t)
	return tls.Server(peer, c), tls.Client(ours, c)
}

// tlsConfig is a server's, and that of a client that believes everybody.
func tlsConfig(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		Certificates:       []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}},
		InsecureSkipVerify: true,
	}
}

func closeWrite(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.(closeWriter).CloseWrite(); err != nil {
		t.Errorf("CloseWrite: %v", err)
	}
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Errorf("writing %q: %v", text, err)
	}
}

// hear reads just as much as is expected.
func hear(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(c, b); string(b) != want {
		t.Errorf("read %q, %v; want %q", b[:n], err, want)
	}
}

// hearEnd reads to the end.
func hearEnd(t *testing.T, c net.Conn, want string) {
	t.Helper()
	if b, err := io.ReadAll(c); string(b) != want || err != nil {
		t.Errorf("read %q, %v; want %q and its end", b, err, want)
	}
}

// hearReset reads to the end, which is to be a reset.
func hearReset(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the stream ended after %d octets with %v (nil is a FIN), want ECONNRESET", n, err)
	}
}

func (o outcome) check(t *testing.T, aToB, bToA int64, err error) {
	t.Helper()
	if o.Result != (Result{aToB, bToA}) || !errors.Is(o.err, err) {
		t.Errorf("Splice: %+v, %v; want %d and %d octets, %v", o.Result, o.err, aToB, bToA, err)
	}
}

func TestCarriesAllBothWays(t *testing.T) {
	text := make([]byte, 16<<20)
	chacha.NewChaCha8([32]byte{}).Read(text)
	want := sha256.Sum256(text)
	forMixes(t, Config{Idle: time.Hour}, func(t *testing.T, a, b net.Conn, end <-chan outcome) {
		var busy sync.WaitGroup
		for _, c := range []net.Conn{a, b} {
			busy.Go(func() {
				if _, err := io.Copy(c, bytes.NewReader(text)); err != nil {
					t.Error(err)
				}
				closeWrite(t, c)
			})
			busy.Go(func() {
				sum := sha256.New()
				n, err := io.Copy(sum, c)
				if got := [sha256.Size]byte(sum.Sum(nil)); got != want || err != nil {
					t.Errorf("%d octets arrived, %v; want the %d sent", n, err, len(text))
				}
			})
		}
		busy.Wait()
		(<-end).check(t, int64(len(text)), int64(len(text)), nil)
	})
}

// TestFINIsCarried: the direction that has ended, ends; the other goes on, even if nothing was said before.
func TestFINIsCarried(t *testing.T) {
	forMixes(t, Config{}, func(t *testing.T, a, b net.Conn, end <-chan outcome) {
		say(t, a, "question")
		closeWrite(t, a)
		hearEnd(t, b, "question")
		say(t, b, "answer")
		hear(t, a, "answer")
		say(t, b, " and more")
		closeWrite(t, b)
		hearEnd(t, a, " and more")
		(<-end).check(t, 8, 15, nil)
	})
	forMixes(t, Config{}, func(t *testing.T, a, b net.Conn, end <-chan outcome) {
		if c, ok := b.(*tls.Conn); ok { // or CloseWrite may not be called
			c.Handshake()
		}
		closeWrite(t, b)
		hearEnd(t, a, "")
		say(t, a, "unasked")
		a.Close()
		hearEnd(t, b, "unasked")
		(<-end).check(t, 7, 0, nil)
	})
}

// TestFINBeforeHandshake: TLS cannot end a stream that has not begun, so it begins first.
func TestFINBeforeHandshake(t *testing.T) {
	a, ourA := overStacks(t)
	b, ourB := overStacks(t)
	c := tlsConfig(t)
	asked := make(chan struct{})
	end := start(t.Context(), ourA, shaking{tls.Client(ourB, c), asked}, Config{})
	closeWrite(t, a)
	select {
	case <-asked:
	case o := <-end:
		t.Fatalf("Splice before the handshake: %v, want it to shake hands", o.err)
	}
	server := tls.Server(b, c)
	hearEnd(t, server, "")
	say(t, server, "answer")
	server.Close()
	hearEnd(t, a, "answer")
	(<-end).check(t, 0, 6, nil)
}

// shaking tells of the call of Handshake.
type shaking struct {
	*tls.Conn
	asked chan struct{}
}

func (c shaking) Handshake() error {
	close(c.asked)
	return c.Conn.Handshake()
}

// TestResetIsCarried from either side, from within tls.Conns too, and whether or not the other way has ended.
func TestResetIsCarried(t *testing.T) {
	abort := func(c net.Conn) {
		if s, ok := c.(*tls.Conn); ok {
			c = s.NetConn()
		}
		c.(interface{ SetLinger(int) error }).SetLinger(0)
		c.Close()
	}
	for _, ended := range []bool{false, true} {
		for _, turn := range []bool{false, true} {
			forMixes(t, Config{}, func(t *testing.T, a, b net.Conn, end <-chan outcome) {
				if turn {
					a, b = b, a
				}
				say(t, a, "a")
				hear(t, b, "a")
				say(t, b, "b")
				hear(t, a, "b")
				if ended {
					closeWrite(t, b)
					hearEnd(t, a, "")
				}
				abort(a)
				hearReset(t, b)
				(<-end).check(t, 1, 1, syscall.ECONNRESET)
			})
		}
	}
}

// TestResetUnderStream: a reset is told once, to the Write that is under way or to the Read beside it, which then does not
// tell the end of a stream.
func TestResetUnderStream(t *testing.T) {
	for _, kind := range []string{"stack", "kernel"} {
		t.Run(kind, func(t *testing.T) {
			for range 50 {
				a, ourA := kinds[kind](t)
				b, ourB := kinds[kind](t)
				end := start(t.Context(), ourA, ourB, Config{})
				told := make(chan error, 2)
				go func() {
					_, err := io.Copy(b, endless{})
					told <- err
				}()
				go func() {
					_, err := b.Read(make([]byte, 1))
					told <- err
				}()
				io.CopyN(io.Discard, a, 1<<18)
				a.(interface{ SetLinger(int) error }).SetLinger(0)
				a.Close()
				if o := <-end; o.err == nil {
					t.Error("Splice: nil, want an error")
				}
				if err1, err2 := <-told, <-told; !errors.Is(err1, syscall.ECONNRESET) && !errors.Is(err2, syscall.ECONNRESET) {
					t.Fatalf("the other peer's Read and Write: %v and %v; one wants ECONNRESET, the other nothing", err1, err2)
				}
			}
		})
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// TestWithoutCloseWrite: a peer that cannot be sent a FIN is sent it once it has ended too.
func TestWithoutCloseWrite(t *testing.T) {
	a, ourA := net.Pipe()
	b, ourB := overKernel(t)
	end := start(t.Context(), ourA, ourB, Config{})
	say(t, b, "question")
	closeWrite(t, b)
	hear(t, a, "question")
	say(t, a, "answer")
	hear(t, b, "answer")
	a.Close()
	hearEnd(t, b, "")
	(<-end).check(t, 6, 8, nil)
}

// TestCloseFromOutside: whoever else closes a connection, its peer's other is not told that the stream has ended.
func TestCloseFromOutside(t *testing.T) {
	for _, kind := range []string{"stack", "kernel", "tls"} {
		t.Run(kind, func(t *testing.T) {
			a, ourA := kinds[kind](t)
			b, ourB := kinds[kind](t)
			end := start(t.Context(), ourA, ourB, Config{Idle: time.Hour})
			say(t, a, "hello")
			hear(t, b, "hello")
			ourA.Close()
			hearReset(t, b)
			(<-end).check(t, 5, 0, net.ErrClosed)
		})
	}
}

func TestContext(t *testing.T) {
	why := errors.New("closing time")
	for _, m := range mixes {
		t.Run(m[0]+" and "+m[1], func(t *testing.T) {
			a, ourA := kinds[m[0]](t)
			b, ourB := kinds[m[1]](t)
			ctx, cancel := context.WithCancelCause(t.Context())
			end := start(ctx, ourA, ourB, Config{})
			say(t, a, "hello")
			hear(t, b, "hello")
			say(t, b, "hello")
			hear(t, a, "hello")
			cancel(why)
			hearReset(t, a)
			hearReset(t, b)
			(<-end).check(t, 5, 5, why)

			_, ourA = kinds[m[0]](t)
			_, ourB = kinds[m[1]](t)
			(<-start(ctx, ourA, ourB, Config{})).check(t, 0, 0, why)
			for _, c := range []net.Conn{ourA, ourB} {
				if _, err := c.Write([]byte("x")); err == nil {
					t.Error("Write after Splice: nil, want an error")
				}
			}
		})
	}
}
