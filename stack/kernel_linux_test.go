package stack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/link"
)

// The devices that the kernel can be reached over.
func TestKernelTAP(t *testing.T) {
	testKernel(t, link.OpenTUN, link.TUNConfig{Name: "wb0", TAP: true})
}
func TestKernelTUN(t *testing.T) { testKernel(t, link.OpenTUN, link.TUNConfig{Name: "wb0"}) }
func TestKernelTAPWater(t *testing.T) {
	testKernel(t, link.OpenWater, link.TUNConfig{Name: "wb0", TAP: true})
}

// testKernel has HTTP served by a stack to a client on the kernel's sockets, and the other way round, over both
// families: 100 MB down and up, of which both sides compare the sha256, and 5000 requests over 50 connections.
func testKernel(t *testing.T, open func(link.TUNConfig) (link.Device, error), c link.TUNConfig) {
	if !netns.Enter(t, 2*time.Minute) {
		return
	}
	d, err := open(c)
	if err != nil {
		t.Fatal(err)
	}
	s := host(t, d, Config{}, server4, server6)
	if err := link.ConfigureHost("wb0", []netip.Prefix{client4, client6}, 0); err != nil {
		t.Fatal(err)
	}
	kernel := new(net.Dialer)
	for _, x := range []struct {
		name   string
		listen func(network, address string) (net.Listener, error)
		server netip.Prefix
		dial   dialFunc
	}{
		{"kernel to waybill, IPv4", s.Listen, server4, kernel.DialContext},
		{"kernel to waybill, IPv6", s.Listen, server6, kernel.DialContext},
		{"waybill to kernel, IPv4", net.Listen, client4, s.DialContext},
		{"waybill to kernel, IPv6", net.Listen, client6, s.DialContext},
	} {
		t.Run(x.name, func(t *testing.T) {
			l, err := x.listen("tcp", netip.AddrPortFrom(x.server.Addr(), 0).String())
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: testSite()}
			go server.Serve(l)
			defer server.Close()
			transfers(t, "http://"+l.Addr().String(), x.dial)
			requests(t, "http://"+l.Addr().String(), x.dial)
			if t.Failed() {
				t.Logf("%+v", s.Stats())
			}
		})
	}
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// How much is transferred in either direction, and how many requests there are: as it was promised, or a part of it
// where the race detector makes everything slower.
var transferLen, requestCount = kernelLoad()

func kernelLoad() (octets, requests int64) {
	if underRace {
		return 10_000_000, 500
	}
	return 100_000_000, 5000
}

// download is what testSite serves: octets from a seed, so that both sides know them.
func download(seed uint64) io.Reader {
	r := rand.NewChaCha8([32]byte{byte(seed)})
	return io.LimitReader(r, transferLen)
}

// testSite serves a download at /down, answers what comes to /up with its sha256, and / with a word.
func testSite() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /down", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(transferLen))
		io.Copy(w, download(1))
	})
	mux.HandleFunc("POST /up", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		io.Copy(h, r.Body)
		w.Write(h.Sum(nil))
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "waybill") })
	return mux
}

// patience bounds what takes a second or two on a machine with nothing else to do.
const patience = 20 * time.Second

// transfers downloads and uploads.
func transfers(t *testing.T, url string, dial dialFunc) {
	client := &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: patience}
	defer client.CloseIdleConnections()
	sum := func(r io.Reader) []byte {
		h := sha256.New()
		if n, err := io.Copy(h, r); n != transferLen || err != nil {
			t.Errorf("%d octets, %v; want %d", n, err, transferLen)
		}
		return h.Sum(nil)
	}
	start := time.Now()
	answer, err := client.Get(url + "/down")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if got, want := sum(answer.Body), sum(download(1)); !bytes.Equal(got, want) {
		t.Errorf("downloaded %x, want %x", got, want)
	}
	down := time.Since(start)
	start = time.Now()
	answer, err = client.Post(url+"/up", "application/octet-stream", download(2))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if want := sum(download(2)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("uploaded %x, %v, want %x", got, err, want)
	}
	t.Logf("%d octets down in %v, up in %v", transferLen, down, time.Since(start))
}

// requests asks requestCount times, by 50 clients with a connection for each request.
func requests(t *testing.T, url string, dial dialFunc) {
	var left, failed atomic.Int64
	left.Store(requestCount)
	start := time.Now()
	done := make(chan struct{})
	for range 50 {
		go func() {
			defer func() { done <- struct{}{} }()
			client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: patience}
			for left.Add(-1) >= 0 {
				answer, err := client.Get(url)
				if err == nil {
					var body []byte
					body, err = io.ReadAll(answer.Body)
					answer.Body.Close()
					if err == nil && string(body) != "waybill" {
						err = fmt.Errorf("%s: %q", answer.Status, body)
					}
				}
				if err != nil && failed.Add(1) <= 3 {
					t.Errorf("request: %v", err)
				}
			}
		}()
	}
	for range 50 {
		<-done
	}
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d requests failed", n, requestCount)
	}
	t.Logf("%d requests in %v", requestCount, time.Since(start))
}
