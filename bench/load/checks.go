package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// command runs a load generator, and returns what it prints.
func command(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// number finds what stands behind a label in a report; -1: it is not there.
func number(report, label string) float64 {
	m := regexp.MustCompile(label + `:\s+([0-9.]+)`).FindStringSubmatch(report)
	if m == nil {
		return -1
	}
	f, _ := strconv.ParseFloat(m[1], 64)
	return f
}

func apacheBench(ctx context.Context, s *scene) (string, error) {
	out, err := command(ctx, "ab", "-q", "-n", "20000", "-c", "100", "-r", s.url4+"/")
	if err != nil {
		return "", err
	}
	done, failed := number(out, "Complete requests"), number(out, "Failed requests")
	figure := fmt.Sprintf("%.0f requests, %.0f failed, %.0f/s", done, failed, number(out, "Requests per second"))
	if done != 20000 || failed != 0 || regexp.MustCompile("Non-2xx").MatchString(out) {
		return figure, errors.New(out)
	}
	return figure, nil
}

func wrk(ctx context.Context, s *scene) (string, error) {
	out, err := command(ctx, "wrk", "-c", "256", "-t", "2", "-d", "10s", s.url4+"/")
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`(\d+) requests in`).FindStringSubmatch(out)
	if m == nil || regexp.MustCompile("Socket errors|Non-2xx").MatchString(out) {
		return "", errors.New(out)
	}
	return fmt.Sprintf("%s requests, 0 socket errors, %.0f/s", m[1], number(out, "Requests/sec")), nil
}

// sum is the sha256 of n octets, no more and no fewer.
func sum(r io.Reader, n int64) ([]byte, error) {
	h := sha256.New()
	got, err := io.Copy(h, r)
	if err == nil && got != n {
		err = fmt.Errorf("%d octets instead of %d", got, n)
	}
	return h.Sum(nil), err
}

// compare says how fast n octets went, and whether their sums are equal.
func compare(start time.Time, n int64, got, want []byte) (string, error) {
	figure := fmt.Sprintf("%.0f MB/s, sha256 %x…", float64(n)/1e6/time.Since(start).Seconds(), got[:min(len(got), 4)])
	if !bytes.Equal(got, want) {
		return figure, fmt.Errorf("instead of %x…", want[:4])
	}
	return figure, nil
}

// client is an HTTP client over dial, with as many connections as it is asked for.
func client(dial dialFunc) (c *http.Client, done func()) {
	t := &http.Transport{DialContext: dial}
	return &http.Client{Transport: t, Timeout: patience}, t.CloseIdleConnections
}

func download(dial dialFunc, url string) (string, error) {
	want, _ := sum(random(1, transferLen), transferLen)
	c, done := client(dial)
	defer done()
	start := time.Now()
	answer, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	got, err := sum(answer.Body, transferLen)
	if err != nil {
		return "", err
	}
	return compare(start, transferLen, got, want)
}

func upload(dial dialFunc, url string) (string, error) {
	want, _ := sum(random(2, transferLen), transferLen)
	c, done := client(dial)
	defer done()
	start := time.Now()
	answer, err := c.Post(url, "application/octet-stream", random(2, transferLen))
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	return compare(start, transferLen, got, want)
}

// clientRequests makes 20,000 requests over 100 connections that stay open.
func clientRequests(ctx context.Context, s *scene) (string, error) {
	var left atomic.Int64
	left.Store(20_000)
	return s.generate(ctx, 100, func() bool { return left.Add(-1) >= 0 })
}

// clientHolds keeps 256 connections busy for 10 s.
func clientHolds(ctx context.Context, s *scene) (string, error) {
	end := time.Now().Add(10 * time.Second)
	return s.generate(ctx, 256, func() bool { return time.Now().Before(end) })
}

// generate asks nginx over n connections, each again and again while more says so.
func (s *scene) generate(ctx context.Context, n int, more func() bool) (string, error) {
	var requests, dials atomic.Int64
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return s.stack.DialContext(ctx, network, address)
	}
	start := time.Now()
	errs := make([]error, n)
	var workers sync.WaitGroup
	for k := range n {
		workers.Go(func() {
			c, done := client(dial)
			defer done()
			for ctx.Err() == nil && more() {
				if errs[k] = ask(c, s.nginx+"/"); errs[k] != nil {
					return
				}
				requests.Add(1)
			}
		})
	}
	workers.Wait()
	figure := fmt.Sprintf("%d requests, %d connections, %.0f/s", requests.Load(), dials.Load(), float64(requests.Load())/time.Since(start).Seconds())
	err := errors.Join(errs...)
	if err == nil && dials.Load() != int64(n) {
		err = errors.New("some connections were lost")
	}
	return figure, err
}

// ask makes one request, and checks the answer.
func ask(c *http.Client, url string) error {
	answer, err := c.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && string(body) != word {
		err = fmt.Errorf("%s: %q", answer.Status, body)
	}
	return err
}

// manyStreams has 64 connections send 4 MB either way at once, each its own octets.
func manyStreams(ctx context.Context, s *scene) (string, error) {
	const conns, octets = 64, 4_000_000
	l, err := s.stack.Listen("tcp", ":9100")
	if err != nil {
		return "", err
	}
	defer l.Close()
	start := time.Now()
	var errs [2 * conns]error
	var ends sync.WaitGroup
	for k := range conns {
		near, err := s.kernelDial(ctx, "tcp", at(ours4, 9100))
		if err != nil {
			return "", err
		}
		far, err := l.Accept()
		if err != nil {
			return "", err
		}
		ends.Go(func() { errs[2*k] = exchange(near, uint64(2*k), uint64(2*k+1), octets) })
		ends.Go(func() { errs[2*k+1] = exchange(far, uint64(2*k+1), uint64(2*k), octets) })
	}
	ends.Wait()
	return fmt.Sprintf("%.0f MB/s, every sha256 equal", 2*conns*octets/1e6/time.Since(start).Seconds()), errors.Join(errs[:]...)
}

// exchange sends the octets of one seed, and holds what comes against those of another.
func exchange(c net.Conn, out, in uint64, n int64) error {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(c, random(out, n))
		sent <- err
	}()
	got, err := sum(io.LimitReader(c, n), n)
	want, _ := sum(random(in, n), n)
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("other octets than were sent")
	}
	return errors.Join(err, <-sent)
}
