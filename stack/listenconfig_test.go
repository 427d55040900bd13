package stack

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/link"
)

// Convention 12: what a listener is made with goes to its connections; Listen's nil is a nil interface.
func TestConvention12ListenConfig(t *testing.T) {
	bubble(t, func(t *testing.T, to netip.Prefix) {
		client, server, cut := cutPair(t, link.PipeConfig{}, Config{})
		l, err := server.ListenWith(ListenConfig{Backlog: 1, ReadBuffer: 4 << 10, WriteBuffer: 8 << 10,
			KeepAlive: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2}}, "tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		address := netip.AddrPortFrom(to.Addr(), 80).String()
		if _, err := client.Dial("tcp", address); err != nil {
			t.Fatal(err)
		}
		second := make(chan error, 1)
		go func() {
			_, err := client.Dial("tcp", address)
			second <- err
		}()
		synctest.Wait()
		select {
		case err := <-second:
			t.Fatalf("a second connection beside a backlog of 1: %v", err)
		default:
		}
		s, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		if err := <-second; err != nil {
			t.Fatalf("once there is room: %v", err)
		}
		if n := s.tcb.Room(); n != 8<<10 {
			t.Errorf("write buffer of %d octets", n)
		}
		cut.Store(true)
		start := time.Now()
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("Read of a peer that is gone: %v", err)
		}
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("found out after %v", took)
		}
	})
}

func TestListenErrorIsANilInterface(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	if l, err := s.Listen("tcp", "203.0.113.9:80"); err == nil || l != nil {
		t.Errorf("Listen at a foreign address: %v, %v", l, err)
	}
	if u, err := s.ListenPacket("udp", "203.0.113.9:80"); err == nil || u != nil {
		t.Errorf("ListenPacket at a foreign address: %v, %v", u, err)
	}
}
