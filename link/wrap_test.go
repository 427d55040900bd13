package link

import (
	"errors"
	"io"
	"net"
	"testing"
)

func TestWrapCarriesOnePacketACall(t *testing.T) {
	here, there := net.Pipe() // one Read gets what one Write gave
	d := Wrap(here, Caps{Name: "vpn", MTU: 1400, Checksum: true, GSO4: 65535, GSO6: 65535, GSOUDP: 65535})
	if got, want := d.Caps(), (Caps{Name: "vpn", MTU: 1400}); got != want {
		t.Errorf("Caps: %+v, want %+v: bare packets carry no offloads", got, want)
	}
	q := d.Queues()[0]
	if q.Ready() != nil {
		t.Error("Ready: want nil, it never fills")
	}
	go func() {
		q.Write([]Packet{{Head: []byte("one"), Text: [][]byte{[]byte(" and"), []byte(" two")}}, {Head: []byte("three")}})
	}()
	b := make([]byte, 100)
	for _, want := range []string{"one and two", "three"} {
		if n, err := there.Read(b); string(b[:n]) != want || err != nil {
			t.Errorf("written: %q, %v, want %q", b[:n], err, want)
		}
	}
	go func() {
		there.Write([]byte("four"))
		there.Write([]byte("five"))
		there.Close()
	}()
	p := []Packet{{Text: [][]byte{nil}, Offload: Offload{Partial: true}}, {}}
	for _, want := range []string{"four", "five"} {
		n, err := q.Read(p)
		if n != 1 || err != nil || string(p[0].Head) != want || p[0].Text != nil || p[0].Offload != (Offload{}) {
			t.Errorf("Read: %d, %v, %+v, want %q and nothing else", n, err, p[0], want)
		}
	}
	if _, err := q.Read(p); err != io.EOF {
		t.Errorf("Read after the other end closed: %v, want its own io.EOF", err)
	}
}

func TestWrapCloseEndsARead(t *testing.T) {
	here, _ := net.Pipe()
	d := Wrap(here, Caps{})
	if d.Caps().MTU != 65535 {
		t.Errorf("MTU %d, want 65535 where none is said", d.Caps().MTU)
	}
	read := make(chan error)
	go func() {
		_, err := d.Queues()[0].Read(make([]Packet, 1))
		read <- err
	}()
	for range 2 {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read: %v, want net.ErrClosed", err)
	}
	if n, err := d.Queues()[0].Write([]Packet{{Head: []byte("x")}}); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write: %d, %v, want net.ErrClosed", n, err)
	}
}

// short takes one byte less than it is given, but for a single byte.
type short struct{ endless }

func (short) Write(b []byte) (int, error) { return max(1, len(b)-1), nil }

func TestWrapReportsAShortWrite(t *testing.T) {
	n, err := Wrap(short{}, Caps{}).Queues()[0].Write([]Packet{{Head: []byte("x")}, {Head: []byte("yz")}})
	if n != 1 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("Write: %d, %v, want 1 taken and io.ErrShortWrite", n, err)
	}
}

// endless takes any packet, and always has one.
type endless struct{}

func (endless) Read(b []byte) (int, error)  { return len(b), nil }
func (endless) Write(b []byte) (int, error) { return len(b), nil }
func (endless) Close() error                { return nil }

// idler reads nothing, and says that nothing is wrong.
type idler struct{ net.Conn }

func (idler) Read([]byte) (int, error) { return 0, nil }
func (idler) Close() error             { return nil }

// A74: a reader that yields nothing, again and again, does not keep a core busy.
func TestWrapWithoutProgress(t *testing.T) {
	d := Wrap(idler{}, Caps{})
	if n, err := d.Queues()[0].Read(make([]Packet, 1)); n != 0 || !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("Read: %d, %v; want %v", n, err, io.ErrNoProgress)
	}
}
