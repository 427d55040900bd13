package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"testing"
	"time"
)

// captured is a packet as a reader of the file finds it.
type captured struct {
	data    string
	comment string
	flags   uint32
	ns      uint64
}

// readCapture reads a pcapng file strictly: whole blocks, both lengths equal, padding of zeros, options that end.
func readCapture(t *testing.T, b []byte) (linkType uint16, packets []captured) {
	t.Helper()
	for n := 0; len(b) > 0; n++ {
		kind, length := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
		if length%4 != 0 || int(length) > len(b) || binary.LittleEndian.Uint32(b[length-4:]) != length {
			t.Fatalf("block %d: length %d of %d octets", n, length, len(b))
		}
		body := b[8 : length-4]
		b = b[length:]
		switch {
		case n == 0:
			if kind != 0x0a0d0d0a || binary.LittleEndian.Uint32(body) != 0x1a2b3c4d {
				t.Fatalf("section header %x", body)
			}
		case n == 1:
			if kind != 1 {
				t.Fatalf("block of kind %d where the interface should be", kind)
			}
			linkType = binary.LittleEndian.Uint16(body)
			if o := readOptions(t, body[8:]); !bytes.Equal(o[9], []byte{9}) {
				t.Fatalf("resolution %v", o[9])
			}
		case kind == 6:
			size := binary.LittleEndian.Uint32(body[12:])
			p := captured{data: string(body[20 : 20+size]), ns: uint64(binary.LittleEndian.Uint32(body[4:]))<<32 | uint64(binary.LittleEndian.Uint32(body[8:]))}
			o := readOptions(t, body[20+(size+3)&^3:])
			p.comment, p.flags = string(o[1]), binary.LittleEndian.Uint32(o[2])
			packets = append(packets, p)
		default:
			t.Fatalf("block of kind %d", kind)
		}
	}
	return linkType, packets
}

func readOptions(t *testing.T, b []byte) map[uint16][]byte {
	t.Helper()
	o := map[uint16][]byte{}
	for len(b) >= 4 {
		code, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if code == 0 {
			if len(b) != 4 {
				t.Fatalf("%d octets behind the end of the options", len(b)-4)
			}
			return o
		}
		o[code] = b[4 : 4+n]
		b = b[4+(n+3)&^3:]
	}
	t.Fatal("options without an end")
	return nil
}

// A file is in the order of the wire, although what became of a packet is known only once its reader is through with it.
func TestCapture(t *testing.T) {
	var file bytes.Buffer
	before := uint64(time.Now().UnixNano())
	near, far := Pipe(PipeConfig{})
	dev := Capture(near, &file)
	q, peer := dev.Queues()[0], far.Queues()[0]

	peer.Write([]Packet{{Head: []byte("one")}, {Head: []byte("second")}})
	var p [4]Packet
	if n, err := q.Read(p[:]); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	q.Write([]Packet{{Head: []byte("head"), Text: [][]byte{[]byte(" and"), []byte(" text")}, Comment: "RTO"}})
	p[1].Comment = "bad-header"
	if _, before := readCapture(t, file.Bytes()); len(before) != 0 {
		t.Fatalf("written before the reader was through with the batch: %v", before)
	}
	peer.Write([]Packet{{Head: []byte("third")}})
	q.Read(p[:])
	dev.Close()
	if _, err := q.Read(p[:]); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("Read after Close: %v", err)
	}

	linkType, got := readCapture(t, file.Bytes())
	if linkType != 101 {
		t.Errorf("link type %d", linkType)
	}
	last := before
	for i := range got {
		if got[i].ns < last {
			t.Errorf("packet %d at %d, after %d", i, got[i].ns, last)
		}
		last, got[i].ns = got[i].ns, 0
	}
	want := []captured{{"one", "", 1, 0}, {"second", "bad-header", 1, 0}, {"head and text", "RTO", 2, 0}, {"third", "", 1, 0}}
	if !slices.Equal(got, want) {
		t.Errorf("captured %q, want %q", got, want)
	}
}

// What the device had no room for did not pass.
func TestCaptureFull(t *testing.T) {
	var file bytes.Buffer
	near, far := Pipe(PipeConfig{Ethernet: true, Queue: 1})
	dev := Capture(near, &file)
	n, err := dev.Queues()[0].Write([]Packet{{Head: make([]byte, 14)}, {Head: make([]byte, 15)}})
	if n != 1 || !errors.Is(err, ErrFull) {
		t.Fatal(n, err)
	}
	dev.Close()
	far.Close()
	if linkType, got := readCapture(t, file.Bytes()); linkType != 1 || len(got) != 1 || len(got[0].data) != 14 {
		t.Errorf("link type %d, captured %q", linkType, got)
	}
}

type failingWriter struct{ left int }

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.left--; w.left < 0 {
		return 0, errors.New("disk full")
	}
	return len(b), nil
}

// A file that cannot be written ends the capture, not the traffic.
func TestCaptureWriteError(t *testing.T) {
	near, far := Pipe(PipeConfig{})
	defer far.Close()
	dev := Capture(near, &failingWriter{left: 2})
	for range 3 {
		if n, err := dev.Queues()[0].Write([]Packet{{Head: []byte("x")}}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := dev.Close(); err == nil || err.Error() != "disk full" {
		t.Errorf("Close: %v", err)
	}
}
