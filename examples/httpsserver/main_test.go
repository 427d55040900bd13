package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
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

// get fetches a page, and does not follow a redirection.
func get(t *testing.T, transport http.RoundTripper, url string) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

// TestOverStacks has the other host in memory ask, in both families, with each version of TLS and of HTTP.
func TestOverStacks(t *testing.T) {
	flags := flag.NewFlagSet("", flag.PanicOnError)
	network := host.Register(flags)
	flags.Parse(nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := network.Run(ctx, func(ctx context.Context, h *host.Host) error {
		certificate, err := newCertificate(h.Addrs())
		if err != nil {
			return err
		}
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		listens := make(chan struct{})
		go func() { ended <- serve(ctx, h, certificate, "8443", func() error { close(listens); return nil }) }()
		<-listens
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(encode(certificate))
		for _, name := range []string{"198.51.100.2", "[2001:db8:51::2]"} {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
					transport := &http.Transport{DialContext: h.Client.DialContext, Protocols: new(http.Protocols)}
					transport.TLSClientConfig = &tls.Config{RootCAs: pool, MaxVersion: version}
					transport.Protocols.SetHTTP1(proto == "HTTP/1.1")
					transport.Protocols.SetHTTP2(proto == "HTTP/2.0")
					_, body := get(t, transport, "https://"+name+"/there?q=1")
					if want := proto + ", " + tls.VersionName(version); !strings.HasPrefix(body, want) || !strings.Contains(body, "GET /there?q=1 from ") {
						t.Errorf("https://%s/: %q, want %s and the request", name, body, want)
					}
					transport.CloseIdleConnections()
				}
			}
			transport := &http.Transport{DialContext: h.Client.DialContext}
			answer, _ := get(t, transport, "http://"+name+"/there?q=1")
			if to, want := answer.Header.Get("Location"), "https://"+name+"/there?q=1"; answer.StatusCode != http.StatusPermanentRedirect || to != want {
				t.Errorf("http://%s/: %s to %q, want 308 to %q", name, answer.Status, to, want)
			}
			transport.CloseIdleConnections()
		}
		cancel()
		return <-ended
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRedirect(t *testing.T) {
	for _, c := range []struct{ host, want string }{
		{"198.51.100.2", "https://198.51.100.2/a?b"},
		{"[2001:db8:51::2]", "https://[2001:db8:51::2]/a?b"},
		{"localhost:8080", "https://localhost:8443/a?b"},
		{"[::1]:8080", "https://[::1]:8443/a?b"},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("POST", "/a?b", nil)
		r.Host = c.host
		redirect("8443").ServeHTTP(w, r)
		if got := w.Header().Get("Location"); got != c.want || w.Code != http.StatusPermanentRedirect {
			t.Errorf("Host: %s: %d to %q, want 308 to %q", c.host, w.Code, got, c.want)
		}
	}
}

// TestHints: what we say one could try names the port only where it is not the scheme's own.
func TestHints(t *testing.T) {
	for at, want := range map[string]string{
		"127.0.0.1:8443":        "curl -k https://127.0.0.1:8443/",
		"198.51.100.2:443":      "curl -k https://198.51.100.2/",
		"[2001:db8:51::2]:443":  "curl -k -g 'https://[2001:db8:51::2]/'",
		"[2001:db8:51::2]:8443": "curl -k -g 'https://[2001:db8:51::2]:8443/'",
	} {
		if got := trySecure(netip.MustParseAddrPort(at)); got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
}

// TestProgram runs the program as a user does, and asks by the ports of this machine.
func TestProgram(t *testing.T) {
	dir := t.TempDir()
	program, ca := filepath.Join(dir, "httpsserver.exe"), filepath.Join(dir, "ca.pem")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := exec.Command(program, "-listen", "127.0.0.1:0", "-http", "127.0.0.1:0", "-ca", ca)
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
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	if _, body := get(t, transport, "https://"+words[2]+"/"); !strings.HasPrefix(body, "HTTP/2.0, TLS 1.3, ") {
		t.Errorf("https://%s/: %q, want HTTP/2.0 over TLS 1.3", words[2], body)
	}
	if answer, _ := get(t, transport, "http://"+words[3]+"/"); answer.StatusCode != http.StatusPermanentRedirect {
		t.Errorf("http://%s/: %s, want 308", words[3], answer.Status)
	}
	transport.CloseIdleConnections()
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
