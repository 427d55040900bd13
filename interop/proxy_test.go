package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/things-go/go-socks5"
	"golang.org/x/net/proxy"

	"github.com/seed87e66d9f/waybill/splice"
	"github.com/seed87e66d9f/waybill/stack"
)

// parcel is what goes through the proxies, both ways.
var parcel, parcelSum = octets(4<<20, 77)

// serveOrigin serves the parcel at GET, and at POST the digest of what is sent, until the test ends.
func serveOrigin(t *testing.T, l net.Listener) {
	t.Helper()
	s := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			io.WriteString(w, digest(body))
			return
		}
		w.Write(parcel)
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

// kernelListen listens at an address of the kernel's until the test ends.
func kernelListen(t *testing.T, host, port string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// forwardProxy is an HTTP proxy which connects over s (RFC 9110 §9.3.6).
func forwardProxy(s *stack.Stack) http.Handler {
	plain := &httputil.ReverseProxy{
		Rewrite:   func(*httputil.ProxyRequest) {},
		Transport: &http.Transport{DialContext: s.DialContext},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			plain.ServeHTTP(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience) // the request's ends with a client's half-close
		defer cancel()
		out, err := s.DialContext(ctx, "tcp", r.Host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		in, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			out.Close()
			return
		}
		early, _ := buffered.Reader.Peek(buffered.Reader.Buffered()) // what came with the request
		if _, err = io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n"); err == nil {
			_, err = out.Write(early)
		}
		if err != nil {
			in.Close()
			out.Close()
			return
		}
		splice.Splice(context.Background(), in, out, splice.Config{Idle: patience})
	})
}

// resolverOf looks names up for the SOCKS proxy, which else asks the resolver of the machine.
type resolverOf struct{ *stack.Stack }

func (r resolverOf) Resolve(ctx context.Context, name string) (context.Context, net.IP, error) {
	ips, err := r.Resolver().LookupIP(ctx, "ip", name)
	if err != nil {
		return ctx, nil, err
	}
	return ctx, ips[0], nil
}

// TestForwardProxyRealClient: curl reaches origins, known by name to dnsmasq alone, through an HTTP proxy on net/http and
// splice, and through a SOCKS proxy on things-go/go-socks5.
func TestForwardProxyRealClient(t *testing.T) {
	s := enterAs(t, stack.Config{DNS: []netip.AddrPort{netip.MustParseAddrPort(families[0].theirs + ":53")}}, "curl", "dnsmasq")
	if s == nil {
		return
	}
	startDNSMasq(t, "--host-record=ipv4.example,"+families[0].theirs, "--host-record=ipv6.example,"+families[1].theirs)
	id := newIdentity(t)
	server := &http.Server{Handler: forwardProxy(s), ErrorLog: log.New(io.Discard, "", 0)}
	go server.Serve(listen(t, s, "3128"))
	socks := socks5.NewServer(socks5.WithDial(s.DialContext), socks5.WithResolver(resolverOf{s}))
	go socks.Serve(listen(t, s, "1080"))
	sent := filepath.Join(t.TempDir(), "parcel")
	if err := os.WriteFile(sent, parcel, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			serveOrigin(t, kernelListen(t, f.theirs, "80"))
			serveOrigin(t, tls.NewListener(kernelListen(t, f.theirs, "443"), &tls.Config{Certificates: []tls.Certificate{id.Certificate}}))
			name := strings.ToLower(f.name) + ".example"
			for _, by := range [][]string{
				{"--proxy", "http://" + net.JoinHostPort(f.ours, "3128")},
				{"--proxytunnel", "--proxy", "http://" + net.JoinHostPort(f.ours, "3128")},
				{"--socks5-hostname", net.JoinHostPort(f.ours, "1080")},
			} {
				curl := append([]string{"curl", "-sS", "--fail", "--noproxy", "", "--max-time", "60", "--cacert", id.certFile}, by...)
				for _, to := range []string{"http://" + name, "https://" + name} {
					if got := digest([]byte(tool(t, append(curl, to)...))); got != parcelSum {
						t.Errorf("%s %s: other octets than the origin's", by, to)
					}
					if got := tool(t, append(curl, "--data-binary", "@"+sent, to)...); got != parcelSum {
						t.Errorf("%s %s: other octets came than were sent: %.100q", by, to, got)
					}
				}
				// Nobody listens there: the proxy says so at once.
				if _, stderr, err := try(t, nil, append(curl, "https://"+name+":444")...); err == nil || strings.Contains(stderr, "timed out") {
					t.Errorf("%s to a closed port: %v, %q", by, err, stderr)
				}
			}
		})
	}
	server.Close()
}

// TestForwardProxyRealServer: a client on waybill reaches servers on waybill through tinyproxy and microsocks.
func TestForwardProxyRealServer(t *testing.T) {
	s := enter(t, "tinyproxy", "microsocks")
	if s == nil {
		return
	}
	id := newIdentity(t)
	serveOrigin(t, listen(t, s, "80"))
	serveOrigin(t, tls.NewListener(listen(t, s, "443"), &tls.Config{Certificates: []tls.Certificate{id.Certificate}}))
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			conf := filepath.Join(t.TempDir(), "tinyproxy.conf")
			if err := os.WriteFile(conf, fmt.Appendf(nil, "Port 3128\nListen %s\nTimeout 60\nConnectPort 443\nLogLevel Warning\n", f.theirs), 0o644); err != nil {
				t.Fatal(err)
			}
			http1, socks := net.JoinHostPort(f.theirs, "3128"), net.JoinHostPort(f.theirs, "1080")
			daemon(t, "tinyproxy", "-d", "-c", conf)
			daemon(t, "microsocks", "-i", f.theirs, "-p", "1080")
			awaitPort(t, http1)
			awaitPort(t, socks)
			dialer, err := proxy.SOCKS5("tcp", socks, nil, s)
			if err != nil {
				t.Fatal(err)
			}
			for name, transport := range map[string]*http.Transport{
				"tinyproxy":  {Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: http1}), DialContext: s.DialContext},
				"microsocks": {DialContext: dialer.(proxy.ContextDialer).DialContext},
				"socks5 URL": {Proxy: http.ProxyURL(&url.URL{Scheme: "socks5", Host: socks}), DialContext: s.DialContext},
			} {
				transport.TLSClientConfig = &tls.Config{RootCAs: id.pool}
				client := &http.Client{Transport: transport, Timeout: patience}
				for _, scheme := range []string{"http", "https"} {
					there := (&url.URL{Scheme: scheme, Host: net.JoinHostPort(f.ours, map[string]string{"http": "80", "https": "443"}[scheme])}).String()
					if sum, err := fetch(client, there); err != nil || sum != parcelSum {
						t.Errorf("%s by %s: %v, or other octets", there, name, err)
					}
					answer, err := client.Post(there, "", strings.NewReader(string(parcel)))
					if err != nil {
						t.Errorf("%s by %s: %v", there, name, err)
						continue
					}
					got, err := io.ReadAll(answer.Body)
					answer.Body.Close()
					if string(got) != parcelSum {
						t.Errorf("%s by %s: other octets came than were sent: %v, %.100q", there, name, err, got)
					}
				}
				transport.CloseIdleConnections()
			}
		})
	}
}

// fetch is the digest of what a client is answered with status 200.
func fetch(c *http.Client, from string) (sum string, err error) {
	answer, err := c.Get(from)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return "", errors.New(answer.Status)
	}
	body, err := io.ReadAll(answer.Body)
	return digest(body), err
}

// A balancer sends each request to the next backend of those that are well.
type balancer struct {
	http.RoundTripper
	backends []*backend
	next     atomic.Uint32
}

type backend struct {
	host string
	well atomic.Bool
}

func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	for range b.backends {
		if to := b.backends[int(b.next.Add(1))%len(b.backends)]; to.well.Load() {
			r.URL.Scheme, r.URL.Host = "http", to.host
			return b.RoundTripper.RoundTrip(r)
		}
	}
	return nil, errors.New("no backend is well")
}

// healthy is how many backends are well.
func (b *balancer) healthy() (n int) {
	for _, to := range b.backends {
		if to.well.Load() {
			n++
		}
	}
	return n
}

// check asks every backend whether it is well, until ctx ends.
func (b *balancer) check(ctx context.Context, every time.Duration) {
	client := http.Client{Transport: b.RoundTripper}
	for tick := time.NewTicker(every); ; {
		for _, to := range b.backends {
			asked, cancel := context.WithTimeout(ctx, patience)
			r, err := http.NewRequestWithContext(asked, http.MethodHead, "http://"+to.host+"/health", nil)
			if err == nil {
				var answer *http.Response
				if answer, err = client.Do(r); err == nil {
					answer.Body.Close()
				}
			}
			cancel()
			to.well.Store(err == nil && ctx.Err() == nil)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return
		}
	}
}

// startNginx starts an nginx of one process with a server block.
func startNginx(t *testing.T, config string) (kill func()) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr warn; events { worker_connections 512; }
http { access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi; client_max_body_size 100m; %[2]s }`, dir, config)
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o644), os.WriteFile(filepath.Join(dir, "parcel"), parcel, 0o644)); err != nil {
		t.Fatal(err)
	}
	c := daemon(t, "nginx", "-e", "stderr", "-p", dir, "-c", path)
	return func() { c.Process.Kill() }
}

// TestReverseProxyRealClient: curl asks a httputil.ReverseProxy on waybill, which asks three nginx of the kernel's, of
// which one dies.
func TestReverseProxyRealClient(t *testing.T) {
	s := enter(t, "curl", "nginx")
	if s == nil {
		return
	}
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			b := &balancer{RoundTripper: &http.Transport{DialContext: s.DialContext, MaxIdleConnsPerHost: 8}}
			var kill []func()
			for i := range 3 {
				at := net.JoinHostPort(f.theirs, fmt.Sprint(8000+i))
				kill = append(kill, startNginx(t, fmt.Sprintf(`server { listen %s; location = / { return 200 "backend %d\n"; }
					location = /health { return 200; } location = /parcel { root .; } }`, at, i)))
				b.backends = append(b.backends, &backend{host: at})
				awaitPort(t, at)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go b.check(ctx, 10*time.Millisecond)
			awaitBackends(t, b, 3)
			var w watch
			server := &http.Server{Handler: w.over(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: b,
				ErrorLog: log.New(io.Discard, "", 0)}), ErrorLog: log.New(io.Discard, "", 0)}
			go server.Serve(listen(t, s, "80"))
			defer server.Close()

			site := "http://" + net.JoinHostPort(f.ours, "80")
			if got := digest([]byte(tool(t, "curl", "-sS", "--fail", "--globoff", site+"/parcel"))); got != parcelSum {
				t.Error("other octets than the backend's")
			}
			if got := ask300(t, site); len(got) != 3 || got["backend 0"] != 100 || got["backend 1"] != 100 || got["backend 2"] != 100 {
				t.Errorf("300 requests to three backends: %v, want 100 each", got)
			}
			// One dies while curl goes on asking. What it asks before that is noticed may fail, and nothing later.
			running := make(chan string, 1)
			go func() {
				out, _, _ := try(t, nil, "curl", "-sS", "--max-time", "60", numbered(site, 3000))
				running <- out
			}()
			w.await(t, w.answered.Load()+500)
			kill[1]()
			awaitBackends(t, b, 2)
			w.noticed.Store(true)
			if out := <-running; strings.Count(out, "backend") < 1500 {
				t.Errorf("of 3000 requests %d were answered by a backend", strings.Count(out, "backend"))
			}
			if got := ask300(t, site); got["backend 0"] != 150 || got["backend 2"] != 150 {
				t.Errorf("300 requests to the two that live: %v, want 150 each", got)
			}
			if w.late.Load() != 0 {
				t.Errorf("after the health check %d requests failed of %d", w.late.Load(), w.after.Load())
			}
		})
	}
}

// awaitBackends waits until the health check has found n backends well.
func awaitBackends(t *testing.T, b *balancer, n int) {
	t.Helper()
	for end := time.Now().Add(patience); b.healthy() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d backends are well, want %d", b.healthy(), n)
		}
	}
}

// A watch sees what a server answers.
type watch struct {
	answered, after, late atomic.Int32
	noticed               atomic.Bool // from then on no request is to fail, of those that begin later: after counts them, late those that do
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (s *statusWriter) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

func (w *watch) over(h http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		noticed := w.noticed.Load()
		sw := &statusWriter{rw, http.StatusOK}
		h.ServeHTTP(sw, r)
		w.answered.Add(1)
		if noticed {
			w.after.Add(1)
			if sw.status != http.StatusOK {
				w.late.Add(1)
			}
		}
	})
}

// await waits until n requests have been answered.
func (w *watch) await(t *testing.T, n int32) {
	t.Helper()
	for end := time.Now().Add(patience); w.answered.Load() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d requests answered, want %d", w.answered.Load(), n)
		}
	}
}

// numbered is a URL that curl asks for n times, over one connection.
func numbered(site string, n int) string {
	return strings.NewReplacer("[", `\[`, "]", `\]`).Replace(site) + fmt.Sprintf("/?[1-%d]", n)
}

// ask300 lets curl ask for a page 300 times, over three connections, and counts what it says. No request may fail.
func ask300(t *testing.T, site string) map[string]int {
	t.Helper()
	count := map[string]int{}
	for range 3 {
		out := tool(t, "curl", "-sS", "--fail", "--max-time", "60", numbered(site, 100))
		for line := range strings.Lines(out) {
			count[strings.TrimSpace(line)]++
		}
	}
	return count
}

// TestReverseProxyRealServer: nginx, which listens on the kernel's addresses, asks three backends on waybill, of which one dies.
func TestReverseProxyRealServer(t *testing.T) {
	s := enter(t, "curl", "nginx")
	if s == nil {
		return
	}
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			upstream := "upstream waybill { keepalive 8; "
			var backends []*http.Server
			var w watch
			for i := range 3 {
				port := fmt.Sprint(8000 + i)
				upstream += "server " + net.JoinHostPort(f.ours, port) + "; "
				mux := http.NewServeMux()
				mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "backend", i) })
				mux.HandleFunc("GET /parcel", func(w http.ResponseWriter, r *http.Request) { w.Write(parcel) })
				mux.HandleFunc("POST /sum", func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					io.WriteString(w, digest(body))
				})
				server := &http.Server{Handler: w.over(mux), ErrorLog: log.New(io.Discard, "", 0)}
				go server.Serve(listen(t, s, port))
				defer server.Close()
				backends = append(backends, server)
			}
			at := net.JoinHostPort(f.theirs, "80")
			startNginx(t, upstream+`} server { listen `+at+`; location / { proxy_pass http://waybill; proxy_http_version 1.1; proxy_set_header Connection ""; } }`)
			awaitPort(t, at)
			site := "http://" + at
			if got := digest([]byte(tool(t, "curl", "-sS", "--fail", "--globoff", site+"/parcel"))); got != parcelSum {
				t.Error("other octets than the backend's")
			}
			sent := filepath.Join(t.TempDir(), "parcel")
			if err := os.WriteFile(sent, parcel, 0o644); err != nil {
				t.Fatal(err)
			}
			if got := tool(t, "curl", "-sS", "--fail", "--globoff", "--data-binary", "@"+sent, site+"/sum"); got != parcelSum {
				t.Errorf("other octets came than were sent: %.100q", got)
			}
			if got := ask300(t, site); got["backend 0"] != 100 || got["backend 1"] != 100 || got["backend 2"] != 100 {
				t.Errorf("300 requests to three backends: %v, want 100 each", got)
			}
			// One dies while curl goes on asking: nginx asks another.
			running := make(chan string, 1)
			go func() {
				out, stderr, err := try(t, nil, "curl", "-sS", "--fail", "--max-time", "60", numbered(site, 2000))
				running <- fmt.Sprint(strings.Count(out, "backend"), stderr, err)
			}()
			w.await(t, w.answered.Load()+500)
			backends[1].Close()
			if got := <-running; got != "2000<nil>" {
				t.Errorf("2000 requests while a backend dies: %s", got)
			}
			if got := ask300(t, site); got["backend 0"]+got["backend 2"] != 300 {
				t.Errorf("300 requests to the two that live: %v, and no other", got)
			}
		})
	}
}
