package interop

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"github.com/seed87e66d9f/waybill/stack"
)

func TestHTTPRealClientCurl(t *testing.T) {
	s := enter(t, "curl")
	if s == nil {
		return
	}
	serve(t, listen(t, s, "80"), site(), nil)
	upload := file(t, "upload", blob)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			url := func(path string) string { return at("http", f.ours, "80", path) }
			curl := func(args ...string) string {
				t.Helper()
				return tool(t, append([]string{"curl", "-gsS", "--fail"}, args...)...)
			}
			sum := func(what string, args ...string) {
				t.Helper()
				if got := digest([]byte(curl(args...))); got != blobSum {
					t.Errorf("%s: SHA-256 %s, want %s", what, got, blobSum)
				}
			}
			sum("with a length", url("/blob"))
			sum("in chunks", url("/chunked"))
			sum("HTTP/1.0", "--http1.0", url("/blob"))
			sum("HTTP/2 without TLS", "--http2-prior-knowledge", url("/chunked"))

			// A range by itself, and the rest of a file of which the beginning is there.
			if got := curl("-r", "1000000-2999999", url("/blob")); digest([]byte(got)) != digest(blob[1_000_000:3_000_000]) {
				t.Errorf("range: %d octets, which are not the blob's", len(got))
			}
			part := file(t, "part", blob[:3_000_000])
			curl("-C", "-", "-o", part, url("/blob"))
			if whole, err := os.ReadFile(part); err != nil || digest(whole) != blobSum {
				t.Errorf("resumed download: %v, %d octets that are not the blob", err, len(whole))
			}

			for _, c := range []struct {
				name, want string
				args       []string
			}{
				{"upload with a length", "HTTP/1.1 []", []string{"-H", "Expect:"}},
				{"upload in chunks", "HTTP/1.1 [chunked]", []string{"-H", "Transfer-Encoding: chunked"}},
				{"upload over HTTP/2", "HTTP/2.0 []", []string{"--http2-prior-knowledge"}},
			} {
				got := curl(append(c.args, "--data-binary", "@"+upload, url("/sum"))...)
				if want := blobSum + " " + c.want; got != want {
					t.Errorf("%s: %q, want %q", c.name, got, want)
				}
			}

			// The body waits for the server's word, one way or the other.
			expect := []string{"curl", "-gsSv", "-H", "Expect: 100-continue", "--expect100-timeout", "60", "--data-binary", "@" + upload}
			out, said, err := try(t, nil, append(expect, url("/sum"))...)
			if err != nil || !strings.HasPrefix(out, blobSum) || !strings.Contains(said, "< HTTP/1.1 100 Continue") {
				t.Errorf("Expect: 100-continue: %q, %v\n%s", out, err, said)
			}
			out, said, err = try(t, nil, append(expect, "-w", "%{http_code} %{size_upload}", "-o", os.DevNull, url("/refused"))...)
			if err != nil || out != "413 0" || strings.Contains(said, "100 Continue") {
				t.Errorf("Expect: 100-continue, refused: status and octets sent %q, %v; want 413 0\n%s", out, err, said)
			}

			null := os.DevNull
			if got := curl("-w", "%{num_connects} ", "-o", null, url("/blob"), "-o", null, url("/chunked"), "-o", null, url("/small")); got != "1 0 0 " {
				t.Errorf("keep-alive: connections made for each of three requests: %q, want 1 0 0", got)
			}
		})
	}
}

func TestHTTPRealClientAb(t *testing.T) {
	s := enter(t, "ab")
	if s == nil {
		return
	}
	serve(t, listen(t, s, "80"), site(), nil)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			for _, keep := range []bool{false, true} {
				command := []string{"ab", "-q", "-n", "3000", "-c", "50"}
				reused := "no" // ab leaves the line out
				if keep {
					command, reused = append(command, "-k"), "3000"
				}
				out := tool(t, append(command, at("http", f.ours, "80", "/small"))...)
				for line, want := range map[string]string{"Complete requests": "3000", "Failed requests": "0", "Keep-Alive requests": reused} {
					got := "no"
					if _, after, ok := strings.Cut(out, line+":"); ok {
						got = strings.Fields(after)[0]
					}
					if got != want {
						t.Errorf("%v: %s: %s, want %s\n%s", command, line, got, want, out)
					}
				}
			}
		})
	}
}

func TestHTTPRealClientWrk(t *testing.T) {
	s := enter(t, "wrk")
	if s == nil {
		return
	}
	serve(t, listen(t, s, "80"), site(), nil)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			out := tool(t, "wrk", "-t", "1", "-c", "50", "-d", "2s", at("http", f.ours, "80", "/small"))
			// wrk counts errors on a line of their own, which is left out where there are none.
			if strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") || !strings.Contains(out, "requests in") || strings.Contains(out, " 0 requests in") {
				t.Error(out)
			}
		})
	}
}

func TestHTTPRealServerNginx(t *testing.T) {
	s := enter(t, "nginx")
	if s == nil {
		return
	}
	// Behind nginx, a websocket server on the kernel's sockets.
	behind, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go http.Serve(behind, site())
	t.Cleanup(func() { behind.Close() })
	nginx(t, `
		gzip_types application/octet-stream;
		server {
			LISTEN 80;
			dav_methods PUT;
			location /chunked/ { gzip on; alias www/; }
			location /echo {
				proxy_pass http://`+behind.Addr().String()+`;
				proxy_http_version 1.1;
				proxy_set_header Upgrade $http_upgrade;
				proxy_set_header Connection "upgrade";
			}
			location /refused { client_max_body_size 1k; dav_methods PUT; }
		}
		server {
			LISTEN 81 http2;
		}`, "81")
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			transport := &http.Transport{DialContext: s.DialContext}
			defer transport.CloseIdleConnections()
			url := func(path string) string { return at("http", f.theirs, "80", path) }
			fetchFromNginx(t, transport, url)
			uploadToNginx(t, transport, f.name, url)
			t.Run("h2c", func(t *testing.T) { manyStreams(t, s, at("http", f.theirs, "81", "/blob.bin")) })
			t.Run("websocket", func(t *testing.T) { dialEcho(t, &http.Client{Transport: transport}, url("/echo")) })
		})
	}
}

// do makes a request and reads the answer, whose status is to be as wanted. It tells whether the connection was used before.
func do(t *testing.T, rt http.RoundTripper, r *http.Request, status int) (answer *http.Response, body []byte, reused bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r = r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }}))
	answer, err := rt.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %v: %v", r.Method, r.URL, err)
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != status {
		t.Fatalf("%s %v: %s, want %d; %d octets read, %v", r.Method, r.URL, answer.Status, status, len(body), err)
	}
	return answer, body, reused
}

// request is http.NewRequest for URLs that are known to be good.
func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fetchFromNginx gets the blob with a length, in chunks and in a range, over one connection.
func fetchFromNginx(t *testing.T, rt http.RoundTripper, url func(string) string) {
	t.Helper()
	_, body, _ := do(t, rt, request(t, "GET", url("/blob.bin"), nil), http.StatusOK)
	if digest(body) != blobSum {
		t.Errorf("with a length: %d octets, which are not the blob", len(body))
	}
	// nginx compresses as it goes, so that it does not know the length.
	answer, body, reused := do(t, rt, request(t, "GET", url("/chunked/blob.bin"), nil), http.StatusOK)
	if !answer.Uncompressed || len(answer.TransferEncoding) != 1 || digest(body) != blobSum {
		t.Errorf("in chunks: %d octets, Transfer-Encoding %v, compressed %v; want the blob, chunked, compressed", len(body), answer.TransferEncoding, answer.Uncompressed)
	}
	r := request(t, "GET", url("/blob.bin"), nil)
	r.Header.Set("Range", "bytes=1000000-2999999")
	_, body, again := do(t, rt, r, http.StatusPartialContent)
	if digest(body) != digest(blob[1_000_000:3_000_000]) {
		t.Errorf("range: %d octets, which are not the blob's", len(body))
	}
	if !reused || !again {
		t.Errorf("keep-alive: the second and the third request reuse the connection: %v, %v", reused, again)
	}
}

// uploadToNginx puts the blob with a length and in chunks, and asks before it sends.
func uploadToNginx(t *testing.T, transport *http.Transport, name string, url func(string) string) {
	t.Helper()
	for kind, body := range map[string]io.Reader{"length": bytes.NewReader(blob), "chunks": io.MultiReader(bytes.NewReader(blob))} {
		path := url("/" + name + kind)
		var continued bool
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			continued = continued || code == http.StatusContinue
			return nil
		}}
		r := request(t, "PUT", path, body)
		r.Header.Set("Expect", "100-continue")
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
		patient := transport.Clone()
		patient.ExpectContinueTimeout = patience
		defer patient.CloseIdleConnections()
		answer, err := patient.RoundTrip(r)
		if err != nil {
			t.Fatalf("PUT by %s: %v", kind, err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusCreated || !continued {
			t.Errorf("PUT by %s: %s, 100 Continue %v", kind, answer.Status, continued)
		}
		if _, back, _ := do(t, transport, request(t, "GET", path, nil), http.StatusOK); digest(back) != blobSum {
			t.Errorf("PUT by %s: %d octets came back, which are not the blob", kind, len(back))
		}
		// A server that does not want the body says so before it was sent.
		sent := &counted{Reader: bytes.NewReader(blob)}
		r = request(t, "PUT", url("/refused/x"), sent)
		r.Header.Set("Expect", "100-continue")
		r.ContentLength = int64(len(blob))
		if answer, err = patient.RoundTrip(r); err != nil {
			t.Fatalf("PUT that is refused: %v", err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusRequestEntityTooLarge || sent.n != 0 {
			t.Errorf("PUT that is refused: %s, %d octets were sent; want 413 and none", answer.Status, sent.n)
		}
	}
}

type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += n
	return n, err
}

// manyStreams fetches the blob eight times at once, over one connection of HTTP/2 without TLS.
func manyStreams(t *testing.T, s *stack.Stack, url string) {
	var dials sync.Map
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := s.DialContext(ctx, network, addr)
		if err == nil {
			dials.Store(c.LocalAddr().String(), true)
		}
		return c, err
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	do(t, transport, request(t, "HEAD", url, nil), http.StatusOK) // opens the connection
	sums := make(chan error, 8)
	for range cap(sums) {
		go func() {
			answer, err := (&http.Client{Transport: transport}).Get(url)
			if err != nil {
				sums <- err
				return
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err == nil && (digest(body) != blobSum || answer.ProtoMajor != 2) {
				err = fmt.Errorf("%s: %d octets, which are not the blob over HTTP/2", answer.Proto, len(body))
			}
			sums <- err
		}()
	}
	for range cap(sums) {
		if err := <-sums; err != nil {
			t.Error(err)
		}
	}
	n := 0
	dials.Range(func(_, _ any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// dialEcho upgrades to a websocket, and has text and a megabyte sent back.
func dialEcho(t *testing.T, client *http.Client, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(int64(len(blob)))
	for _, want := range [][]byte{[]byte("waybill"), blob[:1<<20], nil} {
		if err := c.Write(ctx, websocket.MessageBinary, want); err != nil {
			t.Fatal(err)
		}
		kind, got, err := c.Read(ctx)
		if err != nil || kind != websocket.MessageBinary || !bytes.Equal(got, want) {
			t.Fatalf("a message of %d octets came back as %v with %d, %v", len(want), kind, len(got), err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("closing handshake: %v", err)
	}
}
