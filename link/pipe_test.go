package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// numbered is a packet of n bytes that starts with its number.
func numbered(i, n int) Packet {
	b := make([]byte, n)
	binary.BigEndian.PutUint32(b, uint32(i))
	return Packet{Head: b}
}

// send writes packets first to last-1, one a call.
func send(t *testing.T, q Queue, first, last int) {
	t.Helper()
	for i := first; i < last; i++ {
		if n, err := q.Write([]Packet{numbered(i, 100)}); n != 1 || err != nil {
			t.Fatalf("Write of packet %d: %d, %v", i, n, err)
		}
	}
}

// receive reads until the bubble comes to rest, and returns the numbers of the packets.
func receive(t *testing.T, d Device, rest time.Duration) (got []int) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := make([]Packet, 16)
		for {
			n, err := d.Queues()[0].Read(p)
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("Read: %v, want net.ErrClosed", err)
				}
				return
			}
			for _, p := range p[:n] {
				got = append(got, int(binary.BigEndian.Uint32(p.Head)))
			}
		}
	}()
	time.Sleep(rest)
	synctest.Wait()
	d.Close()
	<-done
	return got
}

func TestPipeZeroConfigIsAPerfectWire(t *testing.T) {
	a, b := Pipe(PipeConfig{})
	if c := a.Caps(); c.MTU != 65535 || c.Ethernet || c.Checksum || c.GSO4+c.GSO6+c.GSOUDP != 0 {
		t.Errorf("Caps: %+v, want MTU 65535 and nothing else", c)
	}
	big := make([]byte, 65535)
	for i := range big {
		big[i] = byte(i * 7)
	}
	out := []Packet{
		{Head: []byte("head"), Text: [][]byte{[]byte("te"), nil, []byte("xt")}, Offload: Offload{Partial: true}},
		{Head: big[:40], Text: [][]byte{big[40:]}},
	}
	if n, err := a.Queues()[0].Write(out); n != 2 || err != nil {
		t.Fatalf("Write: %d, %v", n, err)
	}
	clear(out[0].Head) // borrowed until return, and no longer
	in := make([]Packet, 4)
	n, err := b.Queues()[0].Read(in)
	if n != 2 || err != nil {
		t.Fatalf("Read: %d, %v, want both packets at once", n, err)
	}
	if string(in[0].Head) != "headtext" || in[0].Text != nil || in[0].Offload != (Offload{}) {
		t.Errorf("read %q %v %+v, want headtext, no Text and no Offload without GSO", in[0].Head, in[0].Text, in[0].Offload)
	}
	if !bytes.Equal(in[1].Head, big) {
		t.Errorf("65535 bytes arrived as %d others", len(in[1].Head))
	}
}

func TestPipeFateFollowsFromSeedAlone(t *testing.T) {
	const packets = 2000
	c := PipeConfig{Seed: 7, Loss: 0.1, Duplicate: 0.05, Reorder: 0.1, Queue: 2 * packets}
	run := func(c PipeConfig) (got []int, s Stats) {
		synctest.Test(t, func(t *testing.T) {
			a, b := Pipe(c)
			defer a.Close()
			send(t, b.Queues()[0], 0, 17) // the other direction has no say
			send(t, a.Queues()[0], 0, packets)
			got = receive(t, b, time.Minute)
			s = a.(interface{ Stats() Stats }).Stats()
		})
		return got, s
	}
	first, s := run(c)
	if again, _ := run(c); !slices.Equal(first, again) {
		t.Error("the same seed gave another trace")
	}
	for name, other := range map[string]uint64{"lost": s.Lost, "duplicated": s.Duplicated, "reordered": s.Reordered} {
		if other < packets/40 || other > packets/5 {
			t.Errorf("%d of %d packets %s, with probability 0.1, 0.05 and 0.1", other, packets, name)
		}
	}
	if want := packets - int(s.Lost) + int(s.Duplicated); len(first) != want {
		t.Errorf("%d packets arrived, want %d: %d sent, %+v", len(first), want, packets, s)
	}
	c.Seed++
	if other, _ := run(c); slices.Equal(first, other) {
		t.Error("another seed gave the same trace")
	}
	lost := func(direction uint64) (l []uint64) {
		for n := range uint64(packets) {
			if c.fate(direction, n).lost {
				l = append(l, n)
			}
		}
		return l
	}
	if slices.Equal(lost(0), lost(1)) {
		t.Error("both directions lose the same packets")
	}
}

func TestPipeCertainFaults(t *testing.T) {
	tests := []struct {
		name string
		c    PipeConfig
		want []int
	}{
		{"loses all", PipeConfig{Loss: 1}, nil},
		{"duplicates all", PipeConfig{Duplicate: 1}, []int{0, 0, 1, 1, 2, 2}},
		{"loses before it duplicates", PipeConfig{Loss: 1, Duplicate: 1}, nil},
		{"strands nothing that is held", PipeConfig{Reorder: 1, Seed: 1}, []int{0, 1, 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := Pipe(tt.c)
				send(t, a.Queues()[0], 0, 3)
				got := receive(t, b, time.Second)
				slices.Sort(got)
				if !slices.Equal(got, tt.want) {
					t.Errorf("%v arrived, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestPipeReorderedPacketIsOvertakenByAtMostEight(t *testing.T) {
	for _, delay := range []time.Duration{0, 50 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			a, b := Pipe(PipeConfig{Reorder: 0.02, Seed: 3, Delay: delay, Queue: 5000})
			send(t, a.Queues()[0], 0, 5000)
			got := receive(t, b, time.Minute)
			late, first := 0, 0
			for i, n := range got {
				if n > first {
					first = n
				}
				if n < first {
					late++
				}
				if d := i - n; d > holdPackets {
					t.Errorf("delay %v: packet %d arrived %d places late", delay, n, d)
				}
			}
			if len(got) != 5000 || late < 50 || late > 200 {
				t.Errorf("delay %v: %d of 5000 packets arrived, %d of them late, want about 100", delay, len(got), late)
			}
		})
	}
}

func TestPipeDelayIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const delay = 35 * time.Millisecond
		a, b := Pipe(PipeConfig{Delay: delay})
		defer a.Close()
		defer b.Close()
		start := time.Now()
		go func() {
			for range 5 {
				a.Queues()[0].Write([]Packet{numbered(0, 40)})
				time.Sleep(10 * time.Millisecond)
			}
		}()
		p := make([]Packet, 8)
		for i := range 5 {
			n, err := b.Queues()[0].Read(p)
			if n != 1 || err != nil {
				t.Fatalf("Read: %d, %v", n, err)
			}
			if at, want := time.Since(start), delay+time.Duration(i)*10*time.Millisecond; at != want {
				t.Errorf("packet %d arrived after %v, want %v", i, at, want)
			}
		}
	})
}

func TestPipeMTU(t *testing.T) {
	tcp := Offload{Partial: true, Start: 20, Offset: 16, GSO: TCP4, Size: 1460, HeaderLen: 40}
	large := tcp
	large.Size = 1461
	received := tcp
	received.Valid = true
	tests := []struct {
		name string
		c    PipeConfig
		n    int
		o    Offload
		want bool
	}{
		{"the largest packet", PipeConfig{MTU: 1500}, 1500, Offload{}, true},
		{"one byte more", PipeConfig{MTU: 1500}, 1501, Offload{}, false},
		{"the largest tagged frame", PipeConfig{MTU: 1500, Ethernet: true}, 1518, Offload{}, true},
		{"one byte more in a frame", PipeConfig{MTU: 1500, Ethernet: true}, 1519, Offload{}, false},
		{"a super-segment without GSO", PipeConfig{MTU: 1500}, 1000, tcp, false},
		{"a super-segment", PipeConfig{MTU: 1500, GSO: 65535}, 65535, tcp, true},
		{"a super-segment beyond GSO", PipeConfig{MTU: 1500, GSO: 8000}, 8001, tcp, false},
		{"a super-segment of packets beyond MTU", PipeConfig{MTU: 1500, GSO: 8000}, 8000, large, false},
		{"a packet beyond MTU with GSO", PipeConfig{MTU: 1500, GSO: 8000}, 1501, Offload{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := Pipe(tt.c)
			p := numbered(1, tt.n)
			p.Offload = tt.o
			if n, err := a.Queues()[0].Write([]Packet{p, {Head: []byte("next")}}); n != 2 || err != nil {
				t.Fatalf("Write: %d, %v, want 2 taken", n, err)
			}
			in := make([]Packet, 2)
			n, err := b.Queues()[0].Read(in)
			if err != nil || (n == 2) != tt.want || string(in[n-1].Head) != "next" {
				t.Fatalf("Read: %d packets, %v; carried: want %v", n, err, tt.want)
			}
			if s := a.(*end).Stats(); (s.TooLong == 0) != tt.want {
				t.Errorf("TooLong is %d", s.TooLong)
			}
			if tt.want && tt.o.GSO != None && in[0].Offload != received {
				t.Errorf("Offload arrived as %+v, want %+v", in[0].Offload, received)
			}
		})
	}
}

func TestPipeFullThenReady(t *testing.T) {
	for _, c := range []PipeConfig{{Queue: 4}, {Queue: 1}, {Queue: 4, Loss: 1}, {Queue: 4, Delay: time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			a, b := Pipe(c)
			q := a.Queues()[0]
			p := make([]Packet, 6)
			for i := range p {
				p[i] = numbered(i, 50)
			}
			n, err := q.Write(p)
			if n != c.Queue || err != ErrFull {
				t.Fatalf("%+v: Write of 6: %d, %v, want %d and ErrFull", c, n, err, c.Queue)
			}
			if ready := q.Ready(); ready != q.Ready() {
				t.Error("Ready is not always the same channel")
			}
			written := make(chan int)
			go func() {
				for len(p) > n {
					<-q.Ready()
					m, err := q.Write(p[n:])
					if err != nil && err != ErrFull {
						t.Errorf("Write: %v", err)
						break
					}
					n += m
				}
				written <- n
			}()
			got := receive(t, b, time.Minute)
			if n := <-written; n != 6 || c.Loss == 0 && !slices.Equal(got, []int{0, 1, 2, 3, 4, 5}) {
				t.Errorf("%+v: %d written, %v arrived, want 6 in order", c, n, got)
			}
		})
	}
}

func TestPipeReadyWhenAllWasLost(t *testing.T) {
	a, _ := Pipe(PipeConfig{Queue: 4, Loss: 1})
	q := a.Queues()[0]
	if n, err := q.Write(make([]Packet, 6)); n != 4 || err != ErrFull {
		t.Fatalf("Write: %d, %v, want 4 and ErrFull", n, err)
	}
	select {
	case <-q.Ready():
	default:
		t.Error("not Ready, though nothing is under way that a reader could take off")
	}
}

func TestPipeHeldPacketIsNeverLaterThanItsTime(t *testing.T) {
	c := PipeConfig{Reorder: 0.05, Delay: 50 * time.Millisecond}
	alone := func() bool { // packet 0 is held back, and none that follow
		for n := range uint64(1 + holdPackets) {
			if (c.fate(0, n).passedBy > 0) != (n == 0) {
				return false
			}
		}
		return true
	}
	for !alone() {
		c.Seed++
	}
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(c)
		defer a.Close()
		defer b.Close()
		start := time.Now()
		send(t, a.Queues()[0], 0, 1)
		time.Sleep(30 * time.Millisecond)
		send(t, a.Queues()[0], 1, 10) // overtake it too late: they are due after 80 ms
		p := make([]Packet, 1)
		if _, err := b.Queues()[0].Read(p); err != nil || binary.BigEndian.Uint32(p[0].Head) != 0 {
			t.Fatalf("Read: % x, %v, want packet 0", p[0].Head[:4], err)
		}
		if at, want := time.Since(start), 50*time.Millisecond+25*time.Millisecond+holdTime; at != want {
			t.Errorf("packet 0 arrived after %v, want %v", at, want)
		}
	})
}

func TestPipeCloseIsACablePulled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(PipeConfig{Delay: time.Millisecond, Queue: 2})
		send(t, a.Queues()[0], 0, 1)
		send(t, b.Queues()[0], 0, 2)
		if n, err := b.Queues()[0].Write([]Packet{numbered(2, 9)}); n != 0 || err != ErrFull {
			t.Fatalf("Write to a full queue: %d, %v", n, err)
		}
		read := make(chan error)
		go func() {
			_, err := a.Queues()[0].Read(make([]Packet, 1))
			read <- err
		}()
		synctest.Wait()
		if err := a.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := a.Close(); err != nil {
			t.Errorf("Close again: %v", err)
		}
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("pending Read at Close: %v, want net.ErrClosed", err)
		}
		if _, err := a.Queues()[0].Read(make([]Packet, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read after Close: %v, want net.ErrClosed", err)
		}
		if _, err := a.Queues()[0].Write([]Packet{numbered(0, 9)}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write after Close: %v, want net.ErrClosed", err)
		}
		<-b.Queues()[0].Ready() // who waited for room learns that it need not
		send(t, b.Queues()[0], 0, 5)
		if s := b.(*end).Stats(); s.Down != 7 {
			t.Errorf("%d packets counted as Down, want the 2 under way and 5 more", s.Down)
		}
		if got := receive(t, b, time.Hour); !slices.Equal(got, []int{0}) {
			t.Errorf("the other end received %v, want what was under way, then to wait for its own Close", got)
		}
	})
}

func TestPipeConcurrentWriters(t *testing.T) {
	const writers, each = 4, 2000
	a, b := Pipe(PipeConfig{Queue: 32})
	var wg sync.WaitGroup
	room := sync.NewCond(new(sync.Mutex))
	go func() { // one goroutine waits for Ready and tells all writers
		for range a.Queues()[0].Ready() {
			room.L.Lock()
			room.Broadcast()
			room.L.Unlock()
		}
	}()
	for w := range writers {
		wg.Go(func() {
			for i := 0; i < each; {
				room.L.Lock()
				p := Packet{Head: fmt.Appendf(nil, "%d", w), Text: [][]byte{fmt.Appendf(nil, " %d", i)}}
				switch n, err := a.Queues()[0].Write([]Packet{p}); {
				case n == 1:
					i++
				case err == ErrFull:
					room.Wait()
				default:
					t.Error(err)
					i = each
				}
				room.L.Unlock()
			}
		})
	}
	next := make([]int, writers)
	p := make([]Packet, 8)
	for got := 0; got < writers*each; {
		n, err := b.Queues()[0].Read(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range p[:n] {
			var w, i int
			if _, err := fmt.Sscanf(string(p.Head), "%d %d", &w, &i); err != nil || next[w] != i {
				t.Fatalf("packet %q, %v, want number %d of that writer", p.Head, err, next[w])
			}
			next[w]++
		}
		got += n
	}
	wg.Wait()
}

func TestPipeWritersAndReadersInParallel(t *testing.T) {
	a, b := Pipe(PipeConfig{GSO: 65535, Duplicate: 0.1, Reorder: 0.1, Loss: 0.1, Seed: 5})
	var wg sync.WaitGroup
	for _, d := range []Device{a, b} {
		for range 2 {
			wg.Go(func() {
				p := numbered(1, 3000)
				for range 3000 {
					if _, err := d.Queues()[0].Write([]Packet{p, p}); err != nil && err != ErrFull {
						t.Error(err)
					}
				}
			})
		}
	}
	var readers sync.WaitGroup
	for _, d := range []Device{a, b} {
		readers.Go(func() {
			p := make([]Packet, 64)
			for {
				n, err := d.Queues()[0].Read(p)
				if err != nil {
					return
				}
				for _, p := range p[:n] {
					if len(p.Head) != 3000 || p.Head[3] != 1 {
						t.Errorf("%d bytes starting with % x", len(p.Head), p.Head[:4])
						return
					}
				}
			}
		})
	}
	wg.Wait()
	a.Close()
	b.Close()
	readers.Wait()
}

func TestPipeIdleHoldsLittleMemory(t *testing.T) {
	a, b := Pipe(PipeConfig{})
	p := make([]Packet, 1024)
	for i := range p {
		p[i] = numbered(i, 100+i%2*20000)
	}
	a.Queues()[0].Write(p)
	w := b.Queues()[0].(*end).in
	for range 2 { // the second Read returns what the first has filled
		if _, err := b.Queues()[0].Read(p); err != nil {
			t.Fatal(err)
		}
		a.Queues()[0].Write(p[:1])
	}
	held := 0
	for _, f := range w.free {
		for b := f.first; b != nil; b = b.next {
			held += len(b.bytes)
		}
	}
	if want := keepSmall*smallBuffer + keepLarge*(65535+maxFrameHeader); held == 0 || held > want {
		t.Errorf("an idle direction keeps %d bytes for itself, want at most %d", held, want)
	}
}
