//go:build !race

package link

import (
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/pace"
)

func TestPipeDoesNotAllocate(t *testing.T) {
	for _, size := range []int{60, 60000} {
		a, b := Pipe(PipeConfig{GSO: 65535})
		out, in := make([]Packet, 32), make([]Packet, 64)
		for i := range out {
			out[i] = Packet{Head: make([]byte, 40), Text: [][]byte{make([]byte, size)}}
		}
		if n := testing.AllocsPerRun(200, func() {
			a.Queues()[0].Write(out)
			b.Queues()[0].Read(in)
		}); n != 0 {
			t.Errorf("%v allocations for 32 packets of %d bytes, want 0", n, size+40)
		}
	}
}

func TestWrapDoesNotAllocate(t *testing.T) {
	q := Wrap(endless{}, Caps{MTU: 1500}).Queues()[0]
	out, in := []Packet{{Head: make([]byte, 40), Text: [][]byte{make([]byte, 1000)}}}, make([]Packet, 1)
	if n := testing.AllocsPerRun(200, func() {
		q.Write(out)
		q.Read(in)
	}); n != 0 {
		t.Errorf("%v allocations for a packet each way, want 0", n)
	}
}

func TestSwitchDoesNotAllocate(t *testing.T) {
	super, _ := superSegment{frame: append(make([]byte, 11), 5), gso: TCP4, text: 60000, size: 1460, flags: 0x10}.whole()
	copy(super.Head, []byte{2, 0, 0, 0, 0, 1, 2})
	small := Packet{Head: frame(mac(1), ethernet.Addr(super.Head[6:12]), "small")}
	gso := PipeConfig{MTU: 1500, GSO: 65535, Queue: 4096}
	for _, tt := range []struct {
		name   string
		p      Packet
		in     PortConfig
		out    PortConfig
		wire   PipeConfig
		frames int // that come of one
	}{
		{"frames", small, PortConfig{}, PortConfig{}, gso, 1},
		{"frames with another tag", small, PortConfig{VLAN: 9}, PortConfig{Trunk: []uint16{9}}, gso, 1},
		{"super-segments", super, PortConfig{}, PortConfig{}, gso, 1},
		{"super-segments with another tag", super, PortConfig{VLAN: 9}, PortConfig{Trunk: []uint16{9}}, gso, 1},
		{"super-segments cut", super, PortConfig{}, PortConfig{}, PipeConfig{MTU: 1500, Queue: 4096}, 42},
	} {
		sw := NewSwitch(SwitchConfig{Storm: -1})
		a, err := sw.Port(gso, tt.in)
		if err != nil {
			t.Fatal(err)
		}
		b, err := sw.Port(tt.wire, tt.out)
		if err != nil {
			t.Fatal(err)
		}
		out, in := make([]Packet, 32), make([]Packet, 64)
		for i := range out {
			out[i] = tt.p
		}
		if n := testing.AllocsPerRun(100, func() {
			a.Queues()[0].Write(out)
			for got := 0; got < len(out)*tt.frames; {
				n, err := b.Queues()[0].Read(in)
				if err != nil {
					t.Fatal(err)
				}
				got += n
			}
		}); n >= 1 {
			t.Errorf("%v allocations for 32 %s through the switch, want 0", n, tt.name)
		}
		sw.Close()
		b.Close()
	}
}

func TestSwitchFullTableDoesNotAllocate(t *testing.T) {
	s := NewSwitch(SwitchConfig{})
	p, q := &Port{bridge: &s.bridge}, &Port{bridge: &s.bridge}
	s.stations.add(p)
	s.stations.add(q)
	n := 0
	flood := func(count int) {
		for range count {
			a := mac(n)
			s.stations.hear(newStationKey(0, a[:]), p, 0)
			n++
		}
	}
	flood(3 * defaultStations)
	if n := testing.AllocsPerRun(100, func() { flood(1000) }); n != 0 {
		t.Errorf("%v allocations for 1000 new stations in a full table, want 0", n)
	}
	if n := len(s.stations.m); n != defaultStations {
		t.Errorf("%d stations in the table, want %d", n, defaultStations)
	}
}

func TestSwitchStormDoesNotAllocate(t *testing.T) {
	sw := NewSwitch(SwitchConfig{Storm: 1})
	p := &Port{bridge: &sw.bridge}
	p.storm.Pace = pace.New(1, time.Second, 1)
	p.learning.Pace = pace.New(1, time.Second, 1)
	sw.stations.add(p)
	r := &relay{bridge: &sw.bridge, port: p}
	for i := range r.in {
		r.in[i].Head = frame(ethernet.Broadcast, mac(i), "storm")
	}
	n := 0
	storm := func() {
		for i := range r.in {
			src := mac(n)
			copy(r.in[i].Head[6:], src[:])
			n++
		}
		r.relay(r.in[:])
	}
	for n <= defaultStations {
		storm()
	}
	if got := testing.AllocsPerRun(100, storm); got != 0 {
		t.Errorf("%v allocations for %d frames of a storm, want 0", got, len(r.in))
	}
}
