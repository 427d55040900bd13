package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/seed87e66d9f/waybill/ethernet"
)

// vlanOf is the device of a VLAN.
func vlanOf(t *testing.T, trunk *Trunk, id uint16) Device {
	t.Helper()
	d, err := trunk.VLAN(id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// arrived reads what a device has to read by now, as copies.
func arrived(t *testing.T, d Device) (all []Packet) {
	t.Helper()
	c := make(chan Packet, 100)
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		p := make([]Packet, 10)
		for {
			n, err := d.Queues()[0].Read(p)
			for _, x := range p[:n] {
				x.Head = slices.Clone(x.Head)
				c <- x
			}
			if err != nil {
				return
			}
		}
	}()
	synctest.Wait()
	d.Close()
	<-stop
	close(c)
	for p := range c {
		all = append(all, p)
	}
	return all
}

// IEEE 802.1Q §9.6: a frame of a VLAN's device has the VLAN's tag on the wire, with its priority, and comes back without.
func TestTrunkTags(t *testing.T) {
	a, b := mac(1), mac(2)
	for _, c := range []struct {
		name  string
		vlan  uint16
		sent  []byte // written to the VLAN's device
		wire  []byte
		other []byte // read from the VLAN's device at the other end
	}{
		{"VLAN", 7, frame(a, b, "some text"), tagged(a, b, "some text", 7), frame(a, b, "some text")},
		{"last VLAN", 4094, frame(a, b, "some text"), tagged(a, b, "some text", 4094), frame(a, b, "some text")},
		{"priority", 7, tagged(a, b, "some text", 5<<13), tagged(a, b, "some text", 5<<13|7), tagged(a, b, "some text", 5<<13)},
		{"drop eligible", 7, tagged(a, b, "some text", 1<<12), tagged(a, b, "some text", 1<<12|7), tagged(a, b, "some text", 1<<12)},
		{"no priority", 7, tagged(a, b, "some text", 0), tagged(a, b, "some text", 7), frame(a, b, "some text")},
		{"tag inside", 7, tagged(a, b, "some text", 9), tagged(a, b, "some text", 7, 9), tagged(a, b, "some text", 9)},
		{"no VLAN", 0, frame(a, b, "some text"), frame(a, b, "some text"), frame(a, b, "some text")},
		{"no VLAN, priority", 0, tagged(a, b, "some text", 3<<13), tagged(a, b, "some text", 3<<13), tagged(a, b, "some text", 3<<13)},
		{"no VLAN, tag inside", 0, tagged(a, b, "some text", 7), nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := Pipe(PipeConfig{Ethernet: true, MTU: 1500})
				trunk, err := NewTrunk(near)
				if err != nil {
					t.Fatal(err)
				}
				defer trunk.Close()
				d := vlanOf(t, trunk, c.vlan)
				// The header in one slice and the rest in another, as a stack has it.
				p := Packet{Head: slices.Clone(c.sent[:18]), Text: [][]byte{c.sent[18:19], c.sent[19:]}}
				if n, err := d.Queues()[0].Write([]Packet{p}); n != 1 || err != nil {
					t.Fatalf("wrote %d, %v", n, err)
				}
				if len(p.Text) != 2 || !bytes.Equal(p.Head, c.sent[:18]) {
					t.Error("the caller's packet has changed")
				}
				if c.wire != nil {
					if n, err := far.Queues()[0].Write([]Packet{{Head: c.wire}}); n != 1 || err != nil {
						t.Fatalf("wrote %d, %v", n, err)
					}
				}
				synctest.Wait()
				onWire, read := arrived(t, far), arrived(t, d)
				if c.wire == nil {
					if len(onWire) != 0 || trunk.Stats().Nested != 1 {
						t.Errorf("%d frames on the wire, %+v", len(onWire), trunk.Stats())
					}
					return
				}
				if len(onWire) != 1 || !bytes.Equal(onWire[0].Head, c.wire) {
					t.Errorf("on the wire %+v, want % x", onWire, c.wire)
				}
				if len(read) != 1 || !bytes.Equal(read[0].Head, c.other) {
					t.Errorf("read %+v, want % x", read, c.other)
				}
			})
		})
	}
}

// A super-segment keeps its parts, and the places in its headers move with the tag, there and back.
func TestTrunkOffload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := Pipe(PipeConfig{Ethernet: true, MTU: 1500, GSO: 65535})
		wire, other := Pipe(PipeConfig{Ethernet: true, MTU: 1500, GSO: 65535})
		trunk, _ := NewTrunk(near)
		back, _ := NewTrunk(other)
		defer trunk.Close()
		defer back.Close()
		d, e := vlanOf(t, trunk, 7), vlanOf(t, back, 7)
		if c := d.Caps(); !c.Checksum || c.GSO4 != 65535 || c.MTU != 1500 || c.Name != "pipe0.7" {
			t.Errorf("%+v", c)
		}
		sent := Packet{Head: frame(mac(1), mac(2), string(make([]byte, 40))), Text: [][]byte{make([]byte, 30000), make([]byte, 10000)},
			Offload: Offload{Partial: true, Start: 34, Offset: 16, GSO: TCP4, Size: 1400, HeaderLen: 54}}
		if n, err := d.Queues()[0].Write([]Packet{sent}); n != 1 || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
		synctest.Wait()
		onWire := arrived(t, far)
		if len(onWire) != 1 {
			t.Fatalf("%d packets on the wire", len(onWire))
		}
		want := Offload{Partial: true, Valid: true, Start: 38, Offset: 16, GSO: TCP4, Size: 1400, HeaderLen: 58}
		if onWire[0].Offload != want || onWire[0].Len() != sent.Len()+4 {
			t.Errorf("on the wire %+v of %d octets, want %+v of %d", onWire[0].Offload, onWire[0].Len(), want, sent.Len()+4)
		}
		wire.Queues()[0].Write(onWire)
		synctest.Wait()
		want.Start, want.HeaderLen = 34, 54
		if read := arrived(t, e); len(read) != 1 || read[0].Offload != want || read[0].Len() != sent.Len() {
			t.Errorf("read %+v, want %+v", read, want)
		}
	})
}

// Each VLAN gets its own, what nobody asked for is counted, and a VLAN that is not read holds up no other.
func TestTrunkDivides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := Pipe(PipeConfig{Ethernet: true, Queue: 4 * trunkQueue})
		trunk, _ := NewTrunk(near)
		defer trunk.Close()
		seven, eight, none := vlanOf(t, trunk, 7), vlanOf(t, trunk, 8), vlanOf(t, trunk, 0)
		var p []Packet
		for range trunkQueue + 44 {
			p = append(p, Packet{Head: tagged(mac(1), mac(2), "seven", 7)}, Packet{Head: tagged(mac(1), mac(2), "nine", 9)})
		}
		p = append(p, Packet{Head: []byte("short")}, Packet{Head: tagged(mac(1), mac(2), "eight", 8)}, Packet{Head: frame(mac(1), mac(2), "none")})
		if n, err := far.Queues()[0].Write(p); n != len(p) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
		synctest.Wait()
		for _, c := range []struct {
			d    Device
			text string
			n    int
		}{{eight, "eight", 1}, {none, "none", 1}} {
			read := arrived(t, c.d)
			if len(read) != c.n || !bytes.Equal(read[0].Head, frame(mac(1), mac(2), c.text)) {
				t.Errorf("%s: read %d frames: %+v", c.text, len(read), read)
			}
		}
		if s := trunk.Stats(); s != (TrunkStats{Malformed: 1, Unknown: trunkQueue + 44, Full: 44}) {
			t.Errorf("%+v", s)
		}
		seven.Close()
	})
}

// Room, once there is some, is told to every VLAN that was refused.
func TestTrunkReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := Pipe(PipeConfig{Ethernet: true, Queue: 2})
		trunk, _ := NewTrunk(near)
		defer trunk.Close()
		seven, eight := vlanOf(t, trunk, 7).Queues()[0], vlanOf(t, trunk, 8).Queues()[0]
		p := []Packet{{Head: frame(mac(1), mac(2), "1")}, {Head: frame(mac(1), mac(2), "2")}, {Head: frame(mac(1), mac(2), "3")}}
		if n, err := seven.Write(p); n != 2 || !errors.Is(err, ErrFull) {
			t.Errorf("wrote %d, %v", n, err)
		}
		if n, err := eight.Write(p); n != 0 || !errors.Is(err, ErrFull) {
			t.Errorf("wrote %d, %v", n, err)
		}
		far.Queues()[0].Read(make([]Packet, 10))
		for _, q := range []Queue{seven, eight} {
			<-q.Ready() // or the bubble is at a standstill, and the test fails
		}
	})
}

// What goes wrong when a trunk is made, divided and closed.
func TestTrunkErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ip, _ := Pipe(PipeConfig{})
		if _, err := NewTrunk(ip); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("a device without Ethernet: %v", err)
		}
		if _, err := ip.Queues()[0].Write(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("it is open: %v", err)
		}
		near, _ := Pipe(PipeConfig{Ethernet: true})
		trunk, _ := NewTrunk(near)
		if _, err := trunk.VLAN(4095); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("VLAN 4095: %v", err)
		}
		d := vlanOf(t, trunk, 7)
		if _, err := trunk.VLAN(7); !errors.Is(err, syscall.EEXIST) {
			t.Errorf("once more: %v", err)
		}
		d.Close()
		if _, err := d.Queues()[0].Read(make([]Packet, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reading from a VLAN that is closed: %v", err)
		}
		if _, err := d.Queues()[0].Write([]Packet{{Head: frame(mac(1), mac(2), "")}}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("writing to it: %v", err)
		}
		d = vlanOf(t, trunk, 7)
		read := make(chan error)
		go func() { _, err := d.Queues()[0].Read(make([]Packet, 1)); read <- err }()
		synctest.Wait()
		if err := trunk.Close(); err != nil {
			t.Error(err)
		}
		if err := <-read; !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
			t.Errorf("reading when the trunk closes: %v", err)
		}
		if _, err := trunk.VLAN(8); !errors.Is(err, net.ErrClosed) {
			t.Errorf("VLAN after Close: %v", err)
		}
		if err := trunk.Close(); err != nil {
			t.Errorf("closing again: %v", err)
		}
	})
}

// A frame of ordinary length costs no memory on its way out.
func TestTrunkWriteAllocs(t *testing.T) {
	near, far := Pipe(PipeConfig{Ethernet: true})
	trunk, _ := NewTrunk(near)
	defer trunk.Close()
	q, out := vlanOf(t, trunk, 7).Queues()[0], far.Queues()[0]
	p, in := []Packet{{Head: make([]byte, ethernet.HeaderLen+40), Text: [][]byte{make([]byte, 1000)}}}, make([]Packet, 1)
	if n := testing.AllocsPerRun(1000, func() {
		q.Write(p)
		out.Read(in)
	}); n > 0.1 {
		t.Errorf("%v allocations a frame", n)
	}
}
