package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/examples/internal/host"
)

// patience is how long a test waits for something that comes at once, on a machine that is busy with others.
const patience = 60 * time.Second

// overStacks has test talk to the proxies from the other host in memory.
func overStacks(t *testing.T, backends []string, test func(h *host.Host)) {
	t.Helper()
	flags := flag.NewFlagSet("", flag.PanicOnError)
	network := host.Register(flags)
	flags.Parse(nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := network.Run(ctx, func(ctx context.Context, h *host.Host) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		ended, listens := make(chan error, 1), make(chan struct{})
		go func() { ended <- serve(ctx, h, backends, func() error { close(listens); return nil }) }()
		select {
		case <-listens:
		case err := <-ended:
			return err
		}
		test(h)
		cancel()
		return <-ended
	})
	if err != nil {
		t.Error(err)
	}
}

// echoed answers with what it was sent, while it is being sent, or with its name.
func echoed(name string) http.Handler {
	return fullDuplex(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, _ := io.Copy(w, r.Body); n == 0 && r.Method == http.MethodGet {
			fmt.Fprintf(w, "%s %s %s", name, r.Proto, r.Header.Get("X-Forwarded-For"))
		}
	}))
}

// fetch is what a client is answered, or why it is not.
func fetch(c *http.Client, method, url, body string) string {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	answer, err := c.Do(r)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Sprint(answer.Status, err)
	}
	return string(got)
}

func TestForward(t *testing.T) {
	plain, secure := httptest.NewServer(echoed("plain")), httptest.NewTLSServer(echoed("secure"))
	defer plain.Close()
	defer secure.Close()
	text := strings.Repeat("parcel", 500_000)
	overStacks(t, nil, func(h *host.Host) {
		for _, at := range []string{"198.51.100.2:3128", "[2001:db8:51::2]:3128"} {
			transport := secure.Client().Transport.(*http.Transport).Clone()
			transport.DialContext, transport.Proxy = h.Client.DialContext, http.ProxyURL(&url.URL{Scheme: "http", Host: at})
			client := &http.Client{Transport: transport, Timeout: patience}
			for _, c := range []struct{ method, url, body, want string }{
				{"GET", plain.URL, "", "plain HTTP/1.1 "},
				{"POST", plain.URL, text, text},
				{"GET", secure.URL, "", "secure HTTP/1.1 "},
				{"POST", secure.URL, text, text},
				{"GET", "https://198.51.100.2:81", "", `Get "https://198.51.100.2:81": Bad Gateway`},
			} {
				if got := fetch(client, c.method, c.url, c.body); got != c.want {
					t.Errorf("%s %s by %s: %.200q, want %.200q", c.method, c.url, at, got, c.want)
				}
			}
			transport.Proxy = nil
			if got := fetch(client, "GET", "http://"+at, ""); !strings.HasPrefix(got, "400 ") {
				t.Errorf("as a server: %.200q, want 400", got)
			}
			transport.CloseIdleConnections()
		}
	})
}

// TestForwardEarlyOctets: what a client sends behind CONNECT without waiting is not lost, and neither is a half-close.
func TestForwardEarlyOctets(t *testing.T) {
	there := httptest.NewServer(echoed("there"))
	defer there.Close()
	name := strings.TrimPrefix(there.URL, "http://")
	overStacks(t, nil, func(h *host.Host) {
		conn, err := h.Client.Dial("tcp", "198.51.100.2:3128")
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\nGET / HTTP/1.1\r\nHost: there\r\nConnection: close\r\n\r\n", name)
		conn.(interface{ CloseWrite() error }).CloseWrite()
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK") || !strings.HasSuffix(string(answer), "there HTTP/1.1 ") {
			t.Errorf("%q, %v", answer, err)
		}
	})
}

func TestReverse(t *testing.T) {
	var backends []*httptest.Server
	var addrs []string
	for i := range 3 {
		s := httptest.NewServer(echoed(fmt.Sprint("backend ", i)))
		defer s.Close()
		backends = append(backends, s)
		addrs = append(addrs, strings.TrimPrefix(s.URL, "http://"))
	}
	overStacks(t, addrs, func(h *host.Host) {
		client := &http.Client{Transport: &http.Transport{DialContext: h.Client.DialContext}, Timeout: patience}
		count := func(n int) map[string]int {
			got := map[string]int{}
			for i := range n {
				for at, from := range map[string]string{"http://198.51.100.2": "198.51.100.1", "http://[2001:db8:51::2]": "2001:db8:51::1"} {
					answer, ok := strings.CutSuffix(fetch(client, "GET", at, ""), " HTTP/1.1 "+from)
					if got[answer]++; !ok {
						t.Errorf("request %d: %q, want a backend's name and, behind it, the client's address", i, answer)
					}
				}
			}
			return got
		}
		if got := count(30); got["backend 0"] != 20 || got["backend 1"] != 20 || got["backend 2"] != 20 {
			t.Errorf("60 requests: %v, want 20 for each", got)
		}
		backends[1].Close()
		// The first request that finds it out goes to another.
		if got := count(30); got["backend 0"]+got["backend 2"] != 60 || got["backend 0"] < 29 || got["backend 2"] < 29 {
			t.Errorf("60 requests to the two that live: %v", got)
		}
		text := strings.Repeat("parcel", 500_000)
		if got := fetch(client, "POST", "http://198.51.100.2", text); got != text {
			t.Errorf("POST: %.200q, want what was sent", got)
		}
		backends[0].Close()
		backends[2].Close()
		if got := fetch(client, "GET", "http://198.51.100.2", ""); !strings.HasPrefix(got, "502 ") {
			t.Errorf("without a backend: %q, want 502", got)
		}
		client.CloseIdleConnections()
	})
}

// TestBackendRecovers: who was ill is asked again, and by the check alone.
func TestBackendRecovers(t *testing.T) {
	s := httptest.NewServer(echoed("it"))
	defer s.Close()
	b := &balancer{transport: &http.Transport{}}
	to := &backend{addr: strings.TrimPrefix(s.URL, "http://")}
	to.ill.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go b.check(ctx, to)
	for to.ill.Load() && ctx.Err() == nil {
		runtime.Gosched()
	}
	if ctx.Err() != nil {
		t.Error("a backend that answers stays ill")
	}
}

// TestProgram runs the program as a user does, and asks by the ports of this machine.
func TestProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "proxy.exe")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := exec.Command(program, "-reverse", "127.0.0.1:0", "-forward", "127.0.0.1:0")
	var complaints bytes.Buffer
	c.Stderr = &complaints
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(patience, func() { c.Process.Kill() }).Stop()
	defer func() { c.Process.Kill() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	words := strings.Fields(strings.ReplaceAll(line, ",", ""))
	if err != nil || len(words) < 4 || words[0] != "serving" {
		t.Fatalf("it says %q, %v\n%s", line, err, &complaints)
	}
	transport := &http.Transport{}
	client := &http.Client{Transport: transport, Timeout: patience}
	got := map[string]bool{}
	for range 3 {
		got[fetch(client, "GET", "http://"+words[2], "")] = true
	}
	if !got["this is 198.51.100.1:8001\n"] || !got["this is 198.51.100.1:8002\n"] || !got["this is 198.51.100.1:8003\n"] {
		t.Errorf("three requests: %v, want an answer of each backend", got)
	}
	transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: words[3]})
	if got := fetch(client, "GET", "http://198.51.100.2/", ""); !strings.HasPrefix(got, "this is 198.51.100.1:800") {
		t.Errorf("by the forward proxy to the reverse one: %q", got)
	}
	client.CloseIdleConnections()
	if runtime.GOOS == "windows" {
		return // no signals there
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil || complaints.Len() > 0 {
		t.Errorf("ended with %v, want exit status 0\n%s", err, &complaints)
	}
}
