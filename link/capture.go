package link

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
	"time"
)

// Capture is d, with all that passes it written to w as a pcapng file (draft-ietf-opsawg-pcapng): times to the
// nanosecond, the direction of each packet, and Packet.Comment beside it. A super-segment is one packet, and a checksum
// that is left to the device is seen unfinished, both as tcpdump shows them.
//
// The format needs no more than three kinds of block, so they are written here, and not by a library that every importer
// would have to fetch.
//
// A write to w that fails ends the capture, not the traffic; Close returns the error. Close does not close w.
func Capture(d Device, w io.Writer) Device {
	c := &capture{Device: d, w: w}
	for _, q := range d.Queues() {
		c.queues = append(c.queues, &captureQueue{Queue: q, c: c})
	}
	c.write(fileHeader(d.Caps()))
	return c
}

type capture struct {
	Device
	queues []Queue

	mu      sync.Mutex
	w       io.Writer
	err     error
	records []*record // in the order of the wire
}

// record is a packet on its way into the file. One that was received is open until its reader is through with it and may
// have said in Comment what became of it; what passed after it waits, so that the file keeps the order of the wire.
type record struct {
	at      time.Time
	flags   uint32
	data    []byte
	comment string
	open    bool
}

// The direction in epb_flags: draft-ietf-opsawg-pcapng §4.3, bits 0 and 1.
const (
	inbound  = 1
	outbound = 2
)

func (c *capture) Queues() []Queue { return c.queues }

// Changed is that of the device.
func (c *capture) Changed() <-chan struct{} { return Changed(c.Device) }

// Close closes the device, and writes what is left.
func (c *capture) Close() error {
	err := c.Device.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.records {
		r.open = false
	}
	c.flush()
	return errors.Join(err, c.err)
}

// add appends a packet to the capture. mu is held.
func (c *capture) add(at time.Time, p *Packet, flags uint32, open bool) *record {
	data := slices.Clone(p.Head)
	for _, t := range p.Text {
		data = append(data, t...)
	}
	r := &record{at: at, flags: flags, data: data, comment: p.Comment, open: open}
	c.records = append(c.records, r)
	return r
}

// flush writes the records up to the first that is open. mu is held.
func (c *capture) flush() {
	n := 0
	for ; n < len(c.records) && !c.records[n].open; n++ {
		c.write(c.records[n].block())
	}
	c.records = slices.Delete(c.records, 0, n)
}

func (c *capture) write(b []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(b)
	}
}

type captureQueue struct {
	Queue
	c     *capture
	batch []Packet // what was read last, as the reader has it
	open  []*record
}

// Read closes the batch before, whose reader is through with it, and reads the next.
func (q *captureQueue) Read(p []Packet) (int, error) {
	q.done()
	n, err := q.Queue.Read(p)
	at := time.Now()
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	q.batch = p[:n]
	for i := range q.batch {
		p[i].Comment = ""
		q.open = append(q.open, q.c.add(at, &p[i], inbound, true))
	}
	return n, err
}

func (q *captureQueue) done() {
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	for i, r := range q.open {
		r.comment, r.open = q.batch[i].Comment, false
	}
	q.batch, q.open = nil, q.open[:0]
	q.c.flush()
}

func (q *captureQueue) Write(p []Packet) (int, error) {
	q.c.mu.Lock()
	first := len(q.c.records)
	at := time.Now()
	for i := range p { // before they are on the wire, or an answer could come first
		q.c.add(at, &p[i], outbound, true)
	}
	mine := slices.Clone(q.c.records[first:])
	q.c.mu.Unlock()
	n, err := q.Queue.Write(p)
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	for i, r := range mine {
		if r.open = false; i >= n {
			q.c.records = slices.DeleteFunc(q.c.records, func(o *record) bool { return o == r })
		}
	}
	q.c.flush()
	return n, err
}

// The blocks and options of draft-ietf-opsawg-pcapng §4 that are written.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 6
	byteOrderMagic = 0x1a2b3c4d
	optEnd         = 0
	optComment     = 1
	optPacketFlags = 2
	optIfName      = 2
	optApplication = 4
	optResolution  = 9
	linkEthernet   = 1   // LINKTYPE_ETHERNET
	linkRaw        = 101 // LINKTYPE_RAW: IPv4 or IPv6, as its first four bits say
)

// block frames a body: type and length in front, the length again behind.
func block(kind uint32, body []byte) []byte {
	n := uint32(12 + len(body))
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, n), kind)
	b = binary.LittleEndian.AppendUint32(b, n)
	b = append(b, body...)
	return binary.LittleEndian.AppendUint32(b, n)
}

// option appends an option, padded to 32 bits.
func option(b []byte, code uint16, v []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(v)))
	return pad(append(b, v...))
}

func pad(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

// fileHeader is the section's block, and that of its one interface.
func fileHeader(c Caps) []byte {
	section := binary.LittleEndian.AppendUint32(nil, byteOrderMagic)
	section = binary.LittleEndian.AppendUint16(section, 1)       // major version
	section = binary.LittleEndian.AppendUint16(section, 0)       // minor version
	section = binary.LittleEndian.AppendUint64(section, 1<<64-1) // length: not known
	section = option(section, optApplication, []byte("waybill"))
	iface := binary.LittleEndian.AppendUint16(nil, linkRaw)
	if c.Ethernet {
		iface = binary.LittleEndian.AppendUint16(nil, linkEthernet)
	}
	iface = append(iface, 0, 0, 0, 0, 0, 0) // reserved; no limit to a packet's length
	iface = option(iface, optIfName, []byte(c.Name))
	iface = option(iface, optResolution, []byte{9}) // times in 10^-9 s
	return append(block(blockSection, option(section, optEnd, nil)), block(blockInterface, option(iface, optEnd, nil))...)
}

// block is the record as an Enhanced Packet Block.
func (r *record) block() []byte {
	ns := uint64(r.at.UnixNano())
	b := binary.LittleEndian.AppendUint32(nil, 0) // the interface
	b = binary.LittleEndian.AppendUint32(b, uint32(ns>>32))
	b = binary.LittleEndian.AppendUint32(b, uint32(ns))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.data)))
	b = pad(append(b, r.data...))
	if r.comment != "" {
		b = option(b, optComment, []byte(r.comment))
	}
	b = option(b, optPacketFlags, binary.LittleEndian.AppendUint32(nil, r.flags))
	return block(blockPacket, option(b, optEnd, nil))
}
