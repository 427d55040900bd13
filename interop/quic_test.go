package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/seed87e66d9f/waybill/stack"
)

// What quic-go asks of a connection beyond net.PacketConn, and what a *stack.UDPConn answers:
//
//	SetReadBuffer, SetWriteBuffer  7 MB each: granted, and believed, as there is no SyscallConn to look behind it.
//	SyscallConn                    There is no socket of a kernel, so quic-go sets no options on it: it marks and reads
//	                               no ECN, leaves no segmentation to the device, and does not probe for a longer path
//	                               MTU, but stays at 1280 octets, with one call for each datagram.
//	ReadMsgUDP, with packet info   Only with SyscallConn. Without it a server that listens at all addresses answers from
//	                               the one that the route gives, so one with several of a family binds to each.
//	LocalAddr, ReadFrom            *net.UDPAddr, as the kernel's.

// quicSize is how many octets each transfer has: 20 MB, more than quic-go's largest window, 15 MB.
const quicSize = 20 << 20

// Each direction has its server on one of the two hosts, and its client on the other.
func TestQUICRealClientQuicGo(t *testing.T)  { overQUIC(t, true, quicEcho) }
func TestQUICRealServerQuicGo(t *testing.T)  { overQUIC(t, false, quicEcho) }
func TestHTTP3RealClientQuicGo(t *testing.T) { overQUIC(t, true, http3Blobs) }
func TestHTTP3RealServerQuicGo(t *testing.T) { overQUIC(t, false, http3Blobs) }

// overQUIC runs a test over a pair of sockets, the server's and the client's, of which one is waybill's.
func overQUIC(t *testing.T, serverIsOurs bool, run func(t *testing.T, server, client net.PacketConn, id *identity)) {
	s := enter(t)
	if s == nil {
		return
	}
	id := newIdentity(t)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			ours, theirs := "443", "0"
			if !serverIsOurs {
				ours, theirs = theirs, ours
			}
			here, err := s.ListenPacket("udp", net.JoinHostPort(f.ours, ours))
			if err != nil {
				t.Fatal(err)
			}
			defer here.Close()
			there, err := net.ListenPacket("udp", net.JoinHostPort(f.theirs, theirs))
			if err != nil {
				t.Fatal(err)
			}
			defer there.Close()
			if serverIsOurs {
				run(t, here, there, &id)
			} else {
				run(t, there, here, &id)
			}
			lost(t, s)
		})
	}
}

// lost fails the test where waybill found something wrong with a datagram. That one found no room is nothing wrong: QUIC
// sends its octets again.
func lost(t *testing.T, s *stack.Stack) {
	t.Helper()
	for _, d := range []stack.Drop{stack.BadUDP, stack.BadUDPChecksum, stack.UDPMemory} {
		if n := s.Stats().Drops[d.String()]; n != 0 {
			t.Errorf("%d packets were dropped: %v", n, d)
		}
	}
	if n := s.Stats().Drops[stack.UDPFull.String()]; n != 0 {
		t.Logf("%d datagrams found the socket full", n)
	}
}

// quicEcho sends a stream to a server that sends it back while it comes, and closes it after its end.
func quicEcho(t *testing.T, server, client net.PacketConn, id *identity) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	listener, err := quic.Listen(server, &tls.Config{Certificates: []tls.Certificate{id.Certificate}, NextProtos: []string{"echo"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	echoed := make(chan error, 1)
	go func() {
		c, err := listener.Accept(ctx)
		if err != nil {
			echoed <- err
			return
		}
		stream, err := c.AcceptStream(ctx)
		if err != nil {
			echoed <- err
			return
		}
		n, err := io.Copy(stream, stream)
		if err == nil && n != quicSize {
			err = io.ErrUnexpectedEOF
		}
		echoed <- errors.Join(err, stream.Close())
	}()

	c, err := quic.Dial(ctx, client, server.LocalAddr(), &tls.Config{RootCAs: id.pool, NextProtos: []string{"echo"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseWithError(0, "")
	stream, err := c.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sent, sum := octets(quicSize, 81)
	written := make(chan error, 1)
	go func() {
		_, err := stream.Write(sent)
		written <- errors.Join(err, stream.Close())
	}()
	hash := sha256.New()
	n, err := io.Copy(hash, stream)
	if got := hex.EncodeToString(hash.Sum(nil)); err != nil || got != sum {
		t.Errorf("%d octets came back, %v; SHA-256 %s, want %d and %s", n, err, got, quicSize, sum)
	}
	if err := errors.Join(<-written, <-echoed); err != nil {
		t.Errorf("the stream's ends: %v", err)
	}
}

// http3Blobs gets and posts over HTTP/3.
func http3Blobs(t *testing.T, server, client net.PacketConn, id *identity) {
	body, sum := octets(quicSize, 82)
	mux := site()
	mux.HandleFunc("GET /long", func(w http.ResponseWriter, r *http.Request) { w.Write(body) })
	h3 := &http3.Server{Handler: mux, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{id.Certificate}})}
	ended := make(chan error, 1)
	go func() { ended <- h3.Serve(server) }()
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := h3.Shutdown(ctx); err != nil {
			t.Errorf("http3.Server.Shutdown: %v", err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("http3.Server.Serve: %v", err)
		}
	}()

	endpoint := &quic.Transport{Conn: client}
	defer endpoint.Close()
	transport := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: id.pool}}
	transport.Dial = func(ctx context.Context, addr string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
		return endpoint.DialEarly(ctx, server.LocalAddr(), tc, qc)
	}
	defer transport.Close()
	url := "https://" + server.LocalAddr().String()
	answer, got, _ := do(t, transport, request(t, "GET", url+"/long", nil), http.StatusOK)
	if digest(got) != sum || answer.Proto != "HTTP/3.0" {
		t.Errorf("GET over %s: %d octets, which are not those sent", answer.Proto, len(got))
	}
	_, got, _ = do(t, transport, request(t, "POST", url+"/sum", bytes.NewReader(body)), http.StatusOK)
	if want := sum + " HTTP/3.0 []"; string(got) != want {
		t.Errorf("POST: %q, want %q", got, want)
	}
	r := request(t, "GET", url+"/blob", nil)
	r.Header.Set("Range", "bytes=1000000-2999999")
	if _, got, _ = do(t, transport, r, http.StatusPartialContent); !bytes.Equal(got, blob[1_000_000:3_000_000]) {
		t.Errorf("range: %d octets, which are not the blob's", len(got))
	}
}
