package stack

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
	"github.com/seed87e66d9f/waybill/udp"
)

// datagram6 is an IPv6 packet, and one of UDP over IPv4 with its checksum left out.
func datagram6(src, dst netip.Addr, proto uint8, text []byte) []byte {
	b := make([]byte, ipv6.HeaderLen, ipv6.HeaderLen+len(text))
	h := ipv6.Header{PayloadLength: len(text), NextHeader: proto, HopLimit: 64, Src: src, Dst: dst}
	h.Encode(b)
	return append(b, text...)
}

func datagram4(src, dst netip.AddrPort, text []byte) []byte {
	n := ipv4.MinHeaderLen + udp.HeaderLen
	b := make([]byte, n, n+len(text))
	h := ipv4.Header{Length: n + len(text), TTL: 64, Protocol: ipv4.ProtoUDP, Src: src.Addr(), Dst: dst.Addr()}
	h.Encode(b)
	u := udp.Header{Src: src.Port(), Dst: dst.Port(), Length: udp.HeaderLen + len(text)}
	u.Encode(b[ipv4.MinHeaderLen:])
	return append(b, text...)
}

// behind runs f in a bubble with a host on a wire, and the wire's other end.
func behind(t *testing.T, wire link.PipeConfig, f func(s *Stack, far link.Queue)) {
	synctest.Test(t, func(t *testing.T) {
		a, b := link.Pipe(wire)
		defer b.Close()
		s := host(t, a, Config{NoDAD: true}, server4, server6)
		f(s, b.Queues()[0])
	})
}

func put(t *testing.T, q link.Queue, p ...link.Packet) {
	t.Helper()
	if n, err := q.Write(p); n != len(p) {
		t.Fatalf("%d of %d packets written: %v", n, len(p), err)
	}
	synctest.Wait()
}

// A question to all nodes from where no route leads, and an extension header there that asks for an error, have no
// source to be answered from.
func TestGroupPacketFromWithoutARoute(t *testing.T) {
	stranger := netip.MustParseAddr("2001:db8:ffff::1")
	behind(t, link.PipeConfig{}, func(s *Stack, far link.Queue) {
		put(t, far, link.Packet{Head: datagram6(stranger, allNodes, ipv6.ProtoICMP, icmp6(stranger, allNodes, ipv6.ICMP{Type: ipv6.Echo, Body: []byte("?")}))})
		// RFC 8200 §4.2: option type 0b10…, "send an ICMP Parameter Problem" even to a multicast
		put(t, far, link.Packet{Head: datagram6(stranger, allNodes, ipv6.ProtoDestOpts, []byte{ipv6.ProtoNoNext, 0, 0x80, 4, 0, 0, 0, 0})})
		if n := s.Stats().PacketsOut; n != 0 {
			t.Errorf("%d packets sent, want none", n)
		}
	})
}

// ReadFrom hands in chunks of 64 KB, and acknowledgements free a few KB at a time.
func TestReadFromOverASmallMTU(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			client, server := pair(t, link.PipeConfig{MTU: 1400, Delay: time.Millisecond}, Config{WriteBuffer: 200_000})
			c, s := connected(t, client, server, to)
			want := random(2<<20, 7)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				if n, err := c.ReadFrom(struct{ io.Reader }{bytes.NewReader(want)}); n != int64(len(want)) || err != nil {
					t.Errorf("ReadFrom = %d, %v", n, err)
				}
				c.CloseWrite()
			}()
			s.SetReadDeadline(time.Now().Add(time.Minute))
			got, err := io.ReadAll(s)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d octets, %v, want %d", len(got), err, len(want))
			}
			c.Close()
			<-sent
		})
	})
}

// TestA49UDPQueueStaysBounded: a reader who is always one datagram behind costs no more for it as time goes by.
func TestA49UDPQueueStaysBounded(t *testing.T) {
	behind(t, link.PipeConfig{}, func(s *Stack, far link.Queue) {
		u, err := s.ListenUDP("udp4", netip.AddrPortFrom(server4.Addr(), 53))
		if err != nil {
			t.Fatal(err)
		}
		p := link.Packet{Head: datagram4(netip.AddrPortFrom(client4.Addr(), 7), netip.AddrPortFrom(server4.Addr(), 53), []byte("x"))}
		put(t, far, p)
		var b [8]byte
		for range 5000 {
			put(t, far, p)
			if _, err := u.Read(b[:]); err != nil {
				t.Fatal(err)
			}
		}
		if n := cap(u.queue); n > 64 {
			t.Errorf("room for %d datagrams where two waited at most", n)
		}
	})
}

// A connection whose segment waits for room in the device is listed once, whatever else happens to it meanwhile.
func TestParkedConnectionIsListedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := link.Pipe(link.PipeConfig{Queue: 8})
		device := &stuck{Queue: a.Queues()[0]}
		client := host(t, odd{a, a.Caps(), []link.Queue{device}}, Config{}, client4, client6)
		server := host(t, b, Config{}, server4, server6)
		c, s := connected(t, client, server, server4)
		i := c.stack.view.Load().ifaces[1]
		device.full.Store(true)
		c.Write([]byte("waits"))
		for range 50 {
			c.Write([]byte("more"))
		}
		synctest.Wait() // else the list may be empty just now, as whoever sees to it has it in hand
		i.full.Lock()
		n := len(i.full.conns)
		i.full.Unlock()
		if n != 1 {
			t.Errorf("listed %d times, want once", n)
		}
		device.full.Store(false)
		i.unpark()
		got := make([]byte, 5+50*4)
		s.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadFull(s, got); err != nil {
			t.Errorf("what waited did not arrive: %v", err)
		}
	})
}

// stuck is a queue that can be without room.
type stuck struct {
	link.Queue
	full atomic.Bool
}

func (q *stuck) Write(p []link.Packet) (int, error) {
	if q.full.Load() {
		return 0, link.ErrFull
	}
	return q.Queue.Write(p)
}

// A super-segment of UDP is several datagrams.
func TestUDPSuperSegment(t *testing.T) {
	behind(t, link.PipeConfig{GSO: 65535}, func(s *Stack, far link.Queue) {
		u, err := s.ListenUDP("udp4", netip.AddrPortFrom(server4.Addr(), 53))
		if err != nil {
			t.Fatal(err)
		}
		b := datagram4(netip.AddrPortFrom(client4.Addr(), 7), netip.AddrPortFrom(server4.Addr(), 53), []byte("onetwosix!"))
		put(t, far, link.Packet{Head: b, Offload: link.Offload{Partial: true, Start: 20, Offset: 6, GSO: link.UDP, Size: 3, HeaderLen: 28}})
		var got []string
		u.SetReadDeadline(time.Now().Add(time.Second))
		for {
			var b [64]byte
			n, err := u.Read(b[:])
			if err != nil {
				break
			}
			got = append(got, string(b[:n]))
		}
		if want := []string{"one", "two", "six", "!"}; !slices.Equal(got, want) {
			t.Errorf("read %q, want %q", got, want)
		}
	})
}

// The timestamps of a connection never go back, whoever sends its segments: RFC 7323 §5.3 has the peer drop those that do.
func TestTimestampsDoNotGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last uint32
		first := true
		client, server := pair(t, link.PipeConfig{}, Config{Trace: func(e *TraceEvent) {
			if e.Kind == SegmentOut && e.Remote.Addr() == server4.Addr() && e.Segment.Options.HasTimestamps {
				if v := e.Segment.Options.TSVal; !first && int32(v-last) < 0 {
					t.Errorf("TSval %d after %d", v, last)
				} else {
					first, last = false, v
				}
			}
		}})
		c, _ := connected(t, client, server, server4)
		before := client.now() // what a goroutine has read from the clock before it waited for the lock
		time.Sleep(10 * time.Millisecond)
		c.Write([]byte("now"))
		c.mu.Lock()
		c.tcb.Write(before, []byte("then"))
		c.output(before)
		c.mu.Unlock()
	})
}

func TestInterfaceNamesDiffer(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	a, _ := link.Pipe(link.PipeConfig{Ethernet: true})
	b, _ := link.Pipe(link.PipeConfig{Ethernet: true})
	i, err := s.Attach(a)
	if err != nil {
		t.Fatal(err)
	}
	j, err := s.Attach(b)
	if err != nil {
		t.Fatal(err)
	}
	if i.Name() == j.Name() {
		t.Errorf("both are %q, and no zone can tell one from the other", i.Name())
	}
	i.HardwareAddr()[0] = 0xff
	if i.HardwareAddr()[0] == 0xff {
		t.Error("the caller has changed the interface's address")
	}
}

type odd struct {
	link.Device
	caps   link.Caps
	queues []link.Queue
}

func (o odd) Caps() link.Caps      { return o.caps }
func (o odd) Queues() []link.Queue { return o.queues }

func TestAttachRefusesWhatIsNoDevice(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	if _, err := s.Attach(nil); err == nil {
		t.Error("Attach(nil) succeeds")
	}
	a, _ := link.Pipe(link.PipeConfig{})
	if _, err := s.Attach(odd{a, a.Caps(), nil}); err == nil {
		t.Error("a device without a queue is attached")
	}
	for _, mtu := range []int{-1, 0, 67} {
		a, _ := link.Pipe(link.PipeConfig{})
		caps := a.Caps()
		caps.MTU = mtu
		if _, err := s.Attach(odd{a, caps, a.Queues()}); err == nil {
			t.Errorf("a device with an MTU of %d is attached", mtu)
		}
	}
}

// A deadline that is set while a datagram waits for room in the device ends the wait.
func TestUDPWriteDeadlineWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := link.Pipe(link.PipeConfig{Queue: 1})
		defer b.Close()
		s := host(t, a, Config{}, client4)
		c, err := s.Dial("udp", "198.51.100.2:9")
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("fills the wire"))
		done := make(chan error, 1)
		go func() {
			_, err := c.Write([]byte("waits"))
			done <- err
		}()
		synctest.Wait()
		c.SetWriteDeadline(time.Now().Add(time.Second))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		select {
		case err := <-done:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Write: %v, want %v", err, os.ErrDeadlineExceeded)
			}
		default:
			t.Error("Write waits beyond its deadline")
		}
	})
}

// WriteTo goes on where what arrived has to be copied and the stack has no memory left for that.
func TestWriteToWithoutMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, link.PipeConfig{}, Config{TCP: tcp.Config{NoTimestamps: true}})
		c, s := connected(t, client, server, server4)
		c.Write([]byte("abc"))
		synctest.Wait()
		s.mu.Lock() // text that stands in the first chunk behind a hole, so that the chunk cannot be taken
		seg := tcp.Segment{Seq: s.tcb.Info().RcvNxt + 10, Ack: s.tcb.Info().SndNxt, Flags: tcp.ACK, Window: 100, Text: [][]byte{[]byte("xyz")}}
		s.tcb.Arrive(s.stack.now(), &seg)
		s.mu.Unlock()
		s.stack.memory.used.Add(s.stack.memory.limit)
		s.SetReadDeadline(time.Now().Add(time.Second))
		var got bytes.Buffer
		s.WriteTo(&got)
		s.stack.memory.used.Add(-s.stack.memory.limit)
		if got.String() != "abc" {
			t.Errorf("WriteTo wrote %q, want %q", got.String(), "abc")
		}
	})
}

// TestA12TimeWaitIsBounded: strangers cannot fill the memory of a host that closes first: the records of TIME-WAIT are bounded.
func TestA12TimeWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, link.PipeConfig{}, Config{})
		c, s := connected(t, client, server, server4)
		h := client.shard(&c.flow)
		h.mu.Lock()
		for n := range maxTimeWaits {
			h.waits[tcp.Flow{LocalPort: uint16(n), Zone: 7}] = tcp.TimeWaitRecord{}
		}
		h.mu.Unlock()
		c.Close()
		synctest.Wait()
		s.Close()
		synctest.Wait()
		h.mu.Lock()
		defer h.mu.Unlock()
		if n := len(h.waits); n != maxTimeWaits || h.conns[c.flow] != nil {
			t.Errorf("%d records, want %d, and the connection to be gone", n, maxTimeWaits)
		}
	})
}

// What a listener's connection sends is cut for the way that it goes, not for the way that the SYN came.
func TestAnswerLeavesElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, inFar := link.Pipe(link.PipeConfig{GSO: 65535})
		out, outFar := link.Pipe(link.PipeConfig{MTU: 1500})
		server := host(t, in, Config{}, server4)
		if _, err := server.Attach(out, netip.MustParsePrefix("203.0.113.2/24")); err != nil {
			t.Fatal(err)
		}
		client := host(t, loopDevice{inFar, outFar}, Config{}, netip.MustParsePrefix("203.0.113.1/24"))
		if err := client.AddRoute(server4.Masked(), netip.MustParseAddr("203.0.113.2"), nil); err != nil {
			t.Fatal(err)
		}
		c, s := connected(t, client, server, server4)
		want := random(200_000, 3)
		go func() { s.Write(want); s.CloseWrite() }()
		c.SetReadDeadline(time.Now().Add(time.Minute))
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d octets, %v, want %d", len(got), err, len(want))
		}
		s.Close()
	})
}

// A socket that is connected to a group of one link sends there, and not on the first link that there is.
func TestConnectedToAGroupOfALink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, aFar := link.Pipe(link.PipeConfig{})
		b, bFar := link.Pipe(link.PipeConfig{})
		defer aFar.Close()
		defer bFar.Close()
		s := host(t, a, Config{}, server6)
		i, err := s.Attach(b, netip.MustParsePrefix("2001:db8:52::2/64"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Dial("udp", "[ff02::fb%"+i.Name()+"]:5353")
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("who"))
		var p [4]link.Packet
		got := make(chan int, 1)
		go func() {
			n, _ := bFar.Queues()[0].Read(p[:])
			got <- n
		}()
		synctest.Wait()
		select {
		case <-got:
		default:
			t.Error("nothing came over the link that was named")
		}
	})
}
