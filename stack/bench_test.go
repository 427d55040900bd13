package stack

import (
	"fmt"
	"io"
	"testing"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// BenchmarkPipe moves octets one way through two stacks: in packets of ordinary Ethernet, whose checksums are ours, and in
// super-segments, whose checksums are the device's.
func BenchmarkPipe(b *testing.B) {
	for _, w := range []struct {
		size int
		link.PipeConfig
	}{{1500, link.PipeConfig{MTU: 1500}}, {65535, link.PipeConfig{MTU: 1500, GSO: 1<<16 - 1}}} {
		b.Run(fmt.Sprint(w.size), func(b *testing.B) {
			client, server := pair(b, w.PipeConfig, Config{})
			c, s := connected(b, client, server, server4)
			octets := make([]byte, 64<<10)
			b.SetBytes(int64(len(octets)))
			b.ReportAllocs()
			done := make(chan error, 1)
			b.ResetTimer()
			go func() {
				for range b.N {
					if _, err := c.Write(octets); err != nil {
						done <- err
						return
					}
				}
				done <- c.CloseWrite()
			}()
			read := make([]byte, 64<<10)
			total := 0
			for {
				n, err := s.Read(read)
				total += n
				if err == io.EOF {
					break
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			if err := <-done; err != nil || total != b.N*len(octets) {
				b.Fatalf("%d octets arrived of %d, and the writer's error is %v", total, b.N*len(octets), err)
			}
		})
	}
}

// BenchmarkRoundTrip sends 100 octets there and back, with a goroutine that echoes them.
func BenchmarkRoundTrip(b *testing.B) {
	client, server := pair(b, link.PipeConfig{MTU: 1500}, Config{})
	c, s := connected(b, client, server, server4)
	go io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{s})
	octets := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(octets); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, octets); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkConnect opens a connection, accepts it and closes both ends.
func BenchmarkConnect(b *testing.B) {
	client, server := pair(b, link.PipeConfig{MTU: 1500}, Config{TCP: tcp.Config{MSL: 1}})
	dial := dialer(b, client, server, server4)
	b.ReportAllocs()
	for b.Loop() {
		c, s := dial()
		c.Close()
		s.Close()
	}
}
