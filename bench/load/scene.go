package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/stack"
)

const (
	transferLen = 200_000_000
	nginxPort   = 8080
	httpPort    = 8081
	// patience bounds what takes a second or two.
	patience = 30 * time.Second
)

// scene is a stack behind a device, with a site on it, and what it talks to on the kernel's side.
type scene struct {
	stack      *stack.Stack
	url4, url6 string // of our site
	nginx      string // of nginx's, on the kernel's sockets
	http       string // of our site as well, but on the kernel's sockets
	kernelDial dialFunc
	closers    []func()
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func newScene(k *kind) (s *scene, err error) {
	s = &scene{kernelDial: new(net.Dialer).DialContext}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.stack, err = k.attach(); err != nil {
		return s, err
	}
	s.closers = append(s.closers, func() { s.stack.Close() })
	l, err := s.stack.Listen("tcp", ":80")
	if err != nil {
		return s, err
	}
	s.serve(l)
	if l, err = net.Listen("tcp", at(kernel4, httpPort)); err != nil {
		return s, err
	}
	s.serve(l)
	s.url4, s.url6 = "http://"+at(ours4, 80), "http://"+at(ours6, 80)
	s.nginx, s.http = "http://"+at(kernel4, nginxPort), "http://"+at(kernel4, httpPort)
	return s, s.startNginx()
}

func at(p netip.Prefix, port uint16) string { return netip.AddrPortFrom(p.Addr(), port).String() }

func (s *scene) close() {
	for n := len(s.closers) - 1; n >= 0; n-- {
		s.closers[n]()
	}
}

// word is what a small request is answered with.
const word = "waybill\n"

// random is what is transferred: octets from a seed, so that both sides know them.
func random(seed uint64, n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}), n)
}

// serve serves a word at /, octets at /down, and answers what comes to /up with its sha256.
func (s *scene) serve(l net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, word) })
	mux.HandleFunc("GET /down", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(transferLen))
		io.Copy(w, random(1, transferLen))
	})
	mux.HandleFunc("POST /up", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		io.Copy(h, r.Body)
		w.Write(h.Sum(nil))
	})
	server := &http.Server{Handler: mux}
	go server.Serve(l)
	s.closers = append(s.closers, func() { server.Close() })
}

const nginxConfig = `
daemon off;
user root;
pid %[1]s/pid;
error_log %[1]s/error.log;
worker_processes 1;
events { worker_connections 2048; }
http {
	access_log off;
	sendfile on;
	keepalive_requests 1000000;
	client_body_temp_path %[1]s/tmp;
	proxy_temp_path %[1]s/tmp;
	fastcgi_temp_path %[1]s/tmp;
	uwsgi_temp_path %[1]s/tmp;
	scgi_temp_path %[1]s/tmp;
	server { listen %[2]s backlog=4096; root %[1]s; }
}
`

// startNginx serves the same word and the same octets with nginx.
func (s *scene) startNginx() error {
	dir, err := os.MkdirTemp("", "waybill-load")
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() { os.RemoveAll(dir) })
	f, err := os.Create(filepath.Join(dir, "down"))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, random(1, transferLen))
	if err = errors.Join(err, f.Close(), os.Chmod(dir, 0o755)); err != nil {
		return err
	}
	config := filepath.Join(dir, "nginx.conf")
	err = errors.Join(os.WriteFile(filepath.Join(dir, "index.html"), []byte(word), 0o644),
		os.WriteFile(config, fmt.Appendf(nil, nginxConfig, dir, at(kernel4, nginxPort)), 0o644))
	if err != nil {
		return err
	}
	c := exec.Command("nginx", "-c", config, "-e", filepath.Join(dir, "error.log"))
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := c.Start(); err != nil {
		return err
	}
	s.closers = append(s.closers, func() {
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
	})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", at(kernel4, nginxPort))
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(end) {
			return fmt.Errorf("nginx does not serve: %w", err)
		}
	}
}
