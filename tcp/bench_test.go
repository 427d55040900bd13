package tcp

import (
	"fmt"
	"testing"
	"time"
)

// chunks is a Memory that keeps what comes back, so that steady state makes nothing.
type chunks [2][]*Chunk

func (m *chunks) list(n int) *[]*Chunk {
	if n > SmallChunk {
		return &m[1]
	}
	return &m[0]
}

func (m *chunks) Borrow(n int) *Chunk {
	l := m.list(n)
	k := len(*l)
	if k == 0 {
		return NewChunk(n)
	}
	c := (*l)[k-1]
	*l = (*l)[:k-1]
	return c
}

func (m *chunks) Return(c *Chunk) {
	l := m.list(len(c.Bytes))
	*l = append(*l, c)
}

// texts are the sizes of segments that are measured: an octet, a full packet, and a super-segment.
var texts = []int{1, 1448, 45 * 1448}

// benchPair is the two ends of a connection that have just shaken hands, on one clock.
func benchPair(b *testing.B) (client, server *TCB) {
	b.Helper()
	c := &Config{MTU: 1480, MaxText: 65000, Memory: new(chunks)}
	var s Segment
	client = Open(0, 100, c)
	client.Next(0, &s)
	server = Accept(0, 300, &s, c)
	server.Next(0, &s)
	client.Arrive(0, &s)
	client.Next(0, &s)
	if ev := server.Arrive(0, &s); !ev.Has(Opened) {
		b.Fatalf("the handshake opens nothing: %#x, client %v, server %v", ev, client.State(), server.State())
	}
	for _, t := range []*TCB{client, server} {
		t.SetBuffers(0, DefaultBuffer, DefaultBuffer)
	}
	return client, server
}

// BenchmarkSegmentIn is the receiver's work for one segment in order: Arrive, the acknowledgement if one is due, and Read.
func BenchmarkSegmentIn(b *testing.B) {
	for _, n := range texts {
		b.Run(fmt.Sprintf("text=%d", n), func(b *testing.B) {
			_, t := benchPair(b)
			text := make([]byte, n)
			in := Segment{Seq: 101, Ack: 301, Flags: ACK | PSH, Window: 65535, Options: Options{HasTimestamps: true}, Text: [][]byte{text}}
			var out Segment
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for now := time.Duration(0); b.Loop(); now += time.Microsecond {
				in.Options.TSVal = uint32(now / time.Millisecond)
				if ev := t.Arrive(now, &in); !ev.Has(Readable) {
					b.Fatalf("%v is not readable: %v", in.String(), ev.Drop())
				}
				in.Seq += Seq(n)
				for t.Next(now, &out) {
				}
				if got := t.Read(now, text); got != n {
					b.Fatalf("read %d octets of %d", got, n)
				}
			}
		})
	}
}

// BenchmarkSegmentOut is the sender's work for one segment: Write, Next, and the acknowledgement that arrives.
func BenchmarkSegmentOut(b *testing.B) {
	for _, n := range texts {
		b.Run(fmt.Sprintf("text=%d", n), func(b *testing.B) {
			t, _ := benchPair(b)
			text := make([]byte, n)
			ack := Segment{Seq: 301, Ack: 101, Flags: ACK, Window: 65535, Options: Options{HasTimestamps: true}}
			var out Segment
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for now := time.Duration(0); b.Loop(); now += 10 * time.Microsecond {
				if got := t.Write(now, text); got != n {
					b.Fatalf("wrote %d octets of %d", got, n)
				}
				for t.Next(now, &out) {
					ack.Ack = out.Seq + Seq(out.TextLen())
					ack.Options.TSVal, ack.Options.TSEcr = uint32(now/time.Millisecond), out.Options.TSVal
				}
				t.Arrive(now, &ack)
			}
		})
	}
}

// BenchmarkHandshake opens both ends of a connection, and resets them: six segments between two TCBs, through a Listener.
func BenchmarkHandshake(b *testing.B) {
	c := &Config{MTU: 1480, Memory: new(chunks)}
	l := NewListener(ListenConfig{})
	f := Flow{LocalPort: 80, RemotePort: 50000}
	var s Segment
	b.ReportAllocs()
	for b.Loop() {
		client := Open(0, 100, c)
		client.Next(0, &s)
		reply, _, _ := l.Arrive(0, &f, &s, c)
		client.Arrive(0, &reply)
		client.Next(0, &s)
		_, server, _ := l.Arrive(0, &f, &s, c)
		if server == nil || server.State() != Established {
			b.Fatalf("%v opens nothing", s.String())
		}
		client.Abort()
		for client.Next(0, &s) {
			server.Arrive(0, &s)
		}
		if server.State() != Closed {
			b.Fatalf("the server is in %v after %v", server.State(), s.String())
		}
	}
}

// BenchmarkCodec reads and writes the header that most segments have: with timestamps.
func BenchmarkCodec(b *testing.B) {
	s := Segment{Seq: 1, Ack: 2, Flags: ACK, Window: 3, Options: Options{HasTimestamps: true, TSVal: 4, TSEcr: 5}}
	room := make([]byte, MaxHeaderLen)
	h := room[:s.Encode(room, Ports{80, 50000})]
	b.Run("Decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Decode(h); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Encode(room, Ports{80, 50000})
		}
	})
}
