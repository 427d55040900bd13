package host

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for something that comes at once, on a machine that is busy with others.
const patience = 30 * time.Second

// start runs serve on a network in memory until stop is called, or the test ends.
func start(t *testing.T, args string, serve func(ctx context.Context, h *Host) error, ports ...Port) (ended <-chan error, stop func()) {
	t.Helper()
	flags := flag.NewFlagSet("", flag.PanicOnError)
	network := Register(flags, ports...)
	if err := flags.Parse(strings.Fields(args)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	end, returned := make(chan error, 1), make(chan struct{})
	go func() {
		end <- network.Run(ctx, serve)
		close(returned)
	}()
	t.Cleanup(func() { stop(); <-returned })
	return end, stop
}

// echo serves streams and datagrams at some ports.
func echo(ports ...string) func(ctx context.Context, h *Host) error {
	return func(ctx context.Context, h *Host) error {
		for _, port := range ports {
			l, err := h.Listen("tcp", ":"+port)
			if err != nil {
				return err
			}
			p, err := h.ListenPacket("udp", ":"+port)
			if err != nil {
				return err
			}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						io.WriteString(c, port+":")
						io.Copy(c, c)
						c.Close()
					}()
				}
			}()
			go func() {
				b := make([]byte, 1<<16)
				for {
					n, from, err := p.ReadFrom(b)
					if err != nil {
						return
					}
					p.WriteTo(append([]byte(port+":"), b[:n]...), from)
				}
			}()
		}
		if err := h.Ready(); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
}

// ask sends a question to an address and returns the answer.
func ask(t *testing.T, network string, at netip.AddrPort, question string) string {
	t.Helper()
	c, err := net.Dial(network, at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, question); err != nil {
		t.Fatal(err)
	}
	if network == "udp" {
		b := make([]byte, 1<<16)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestForwards: each port is forwarded to its own, a row of them too, streams and datagrams.
func TestForwards(t *testing.T) {
	at := make(chan netip.AddrPort, 10)
	try := func(a netip.AddrPort) string { at <- a; return "" }
	base := freeRow(t, 3)
	_, stop := start(t, "-listen 127.0.0.1:0", echo("7", "9", "40000", "40001", "40002"),
		Port{Port: 7, Kernel: "127.0.0.1:7", Flag: "listen", Try: try},
		Port{Network: "udp", Port: 7, Kernel: "127.0.0.1:7", Flag: "listen", Try: try},
		Port{Network: "udp", Port: 9, Kernel: "127.0.0.1:0", Try: try},
		Port{Port: 40000, Count: 3, Kernel: net.JoinHostPort("127.0.0.1", strconv.Itoa(base)), Try: try})
	stream, packets, other, row := <-at, <-at, <-at, <-at
	if stream != packets {
		t.Errorf("ports of one flag are at %v and %v, want one address", stream, packets)
	}
	if row.Port() != uint16(base) {
		t.Errorf("a row of ports begins at %v, want %d", row, base)
	}
	for _, c := range []struct {
		network string
		at      netip.AddrPort
		want    string
	}{
		{"tcp", stream, "7:x"}, {"udp", packets, "7:x"}, {"udp", packets, "7:x"}, {"udp", other, "9:x"}, {"tcp", row, "40000:x"},
		{"tcp", netip.AddrPortFrom(row.Addr(), row.Port()+2), "40002:x"},
	} {
		if got := ask(t, c.network, c.at, "x"); got != c.want {
			t.Errorf("%s %v answers %q, want %q", c.network, c.at, got, c.want)
		}
	}
	stop()
}

// freeRow is the first of n ports of this machine that are free, all of them.
func freeRow(t *testing.T, n int) int {
	t.Helper()
	for range 100 {
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port, free := first.Addr().(*net.TCPAddr).Port, true
		first.Close()
		for i := range n {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+i)))
			if free = err == nil; !free {
				break
			}
			defer l.Close()
		}
		if free {
			return port
		}
	}
	t.Fatal("no ports in a row are free")
	return 0
}

// TestDialContext: what is on the network in memory is reached through the stack, and all else through this machine.
func TestDialContext(t *testing.T) {
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	ended, _ := start(t, "", func(ctx context.Context, h *Host) error {
		inside, err := h.Client.Listen("tcp", ":7")
		if err != nil {
			return err
		}
		for _, c := range []struct {
			l  net.Listener
			to string
		}{{inside, "198.51.100.1:7"}, {inside, "[2001:db8:51::1]:7"}, {outside, outside.Addr().String()}} {
			out, err := h.DialContext(ctx, "tcp", c.to)
			if err != nil {
				return err
			}
			in, err := c.l.Accept()
			if err != nil {
				return err
			}
			if in.RemoteAddr().String() != out.LocalAddr().String() {
				return errors.New(c.to + ": another connection was accepted than was dialled")
			}
			in.Close()
			out.Close()
		}
		return nil
	})
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestGrace: what was written in time arrives; who does not end, is ended.
func TestGrace(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	at := make(chan netip.AddrPort, 1)
	port := Port{Port: 7, Kernel: "127.0.0.1:0", Try: func(a netip.AddrPort) string { at <- a; return "" }}
	t.Run("what was written", func(t *testing.T) {
		ended, stop := start(t, "-grace 1m", func(ctx context.Context, h *Host) error {
			l, err := h.Listen("tcp", ":7")
			if err != nil {
				return err
			}
			if err := h.Ready(); err != nil {
				return err
			}
			c, err := l.Accept()
			if err != nil {
				return err
			}
			<-ctx.Done()
			if h.Grace.Err() != nil {
				return errors.New("there is no grace")
			}
			c.Write(text)
			return c.Close() // and nothing waits
		}, port)
		c, err := net.Dial("tcp", (<-at).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		stop()
		if got, err := io.ReadAll(c); !bytes.Equal(got, text) || err != nil {
			t.Errorf("%d octets arrived, %v; want all %d", len(got), err, len(text))
		}
		c.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Run("who does not end", func(t *testing.T) {
		ended, stop := start(t, "-grace 0s", func(ctx context.Context, h *Host) error {
			l, err := h.Listen("tcp", ":7")
			if err != nil {
				return err
			}
			if err := h.Ready(); err != nil {
				return err
			}
			if _, err := l.Accept(); err != nil {
				return err
			}
			<-h.Grace.Done()
			return nil
		}, port)
		c, err := net.Dial("tcp", (<-at).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the network goes on although there is no grace")
		}
	})
}

// TestServeFails: an error of the example's is Run's, at once.
func TestServeFails(t *testing.T) {
	why := errors.New("why")
	ended, _ := start(t, "-grace 1h", func(context.Context, *Host) error { return why })
	if err := <-ended; err != why {
		t.Errorf("Run: %v, want what serve returned", err)
	}
}
