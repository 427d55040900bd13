package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// blob is what the HTTP tests carry in both directions: longer than any buffer on the way.
var blob, blobSum = octets(8<<20, 80)

// site is what the tests ask an HTTP server for, with net/http and whichever listener, protocol and stack below.
func site() *http.ServeMux {
	mux := http.NewServeMux()
	// The blob with its length, whole or in ranges.
	mux.HandleFunc("GET /blob", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "blob.bin", time.Unix(1e9, 0), bytes.NewReader(blob))
	})
	// The blob in chunks, each on its way before the next is made.
	mux.HandleFunc("GET /chunked", func(w http.ResponseWriter, r *http.Request) {
		for part := blob; len(part) > 0; {
			n := min(len(part), 100_000)
			w.Write(part[:n])
			http.NewResponseController(w).Flush()
			part = part[n:]
		}
	})
	// What came: the digest, how it was framed, and over which protocol.
	mux.HandleFunc("POST /sum", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s %s %v", digest(body), r.Proto, r.TransferEncoding)
	})
	mux.HandleFunc("POST /refused", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "too long", http.StatusRequestEntityTooLarge) // without reading it
	})
	mux.HandleFunc("GET /small", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto+"\n") })
	mux.HandleFunc("GET /resumed", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s resumed: %v\n", tls.VersionName(r.TLS.Version), r.TLS.DidResume)
	})
	mux.HandleFunc("/echo", echo)
	return mux
}

// echo sends back each message of a websocket, as what it came: text or binary.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // answered
	}
	defer c.CloseNow()
	c.SetReadLimit(int64(len(blob)))
	for {
		kind, message, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if err := c.Write(r.Context(), kind, message); err != nil {
			return
		}
	}
}

// serve serves over HTTP/1.1 and HTTP/2, with TLS where c is set, until the test ends. A request that is still under way
// then fails the test, for the client has ended.
func serve(t *testing.T, l net.Listener, handler http.Handler, c *tls.Config) {
	t.Helper()
	var said lockedBuffer
	server := &http.Server{Handler: handler, TLSConfig: c, Protocols: new(http.Protocols), ErrorLog: log.New(&said, "", 0)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan error, 1)
	go func() {
		if c != nil {
			ended <- server.ServeTLS(l, "", "")
		} else {
			ended <- server.Serve(l)
		}
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("http.Server.Shutdown: %v", err)
			server.Close()
		}
		if err := <-ended; err != http.ErrServerClosed {
			t.Errorf("http.Server.Serve: %v", err)
		}
		if t.Failed() {
			t.Logf("http.Server: %s", said.String())
		}
	})
}

// at is a URL at a host, whose address is of either family.
func at(scheme, addr, port, path string) string {
	return scheme + "://" + net.JoinHostPort(addr, port) + path
}

// file writes a file of the test's own, and returns its path.
func file(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// nginx serves the kernel's addresses, by the server blocks given, until the test ends, and returns the directory of
// its files, which holds blob.bin. The words LISTEN n in them stand for both addresses with port n.
func nginx(t *testing.T, servers, await string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"www", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "www", "blob.bin"), blob, 0o644); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(servers) {
		f := strings.Fields(strings.TrimRight(line, ";\n"))
		if len(f) > 1 && f[0] == "LISTEN" {
			for _, family := range families {
				fmt.Fprintf(&b, "listen %s %s;\n", net.JoinHostPort(family.theirs, f[1]), strings.Join(f[2:], " "))
			}
			continue
		}
		b.WriteString(line)
	}
	// The worker is root, as it is in a user namespace, which has nobody else.
	config := fmt.Sprintf(`daemon off;
user root root;
worker_processes 1;
pid %[1]s/tmp/pid;
error_log stderr warn;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path %[1]s/tmp/body;
	proxy_temp_path %[1]s/tmp/proxy;
	fastcgi_temp_path %[1]s/tmp/fastcgi;
	uwsgi_temp_path %[1]s/tmp/uwsgi;
	scgi_temp_path %[1]s/tmp/scgi;
	client_max_body_size 200m;
	default_type application/octet-stream;
	root %[1]s/www;
	%[2]s
}
`, dir, b.String())
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	daemon(t, "nginx", "-e", "stderr", "-p", dir, "-c", path)
	for _, f := range families {
		awaitPort(t, net.JoinHostPort(f.theirs, await))
	}
	return dir
}
