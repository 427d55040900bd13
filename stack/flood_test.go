package stack

import (
	testflag "flag" // flag is a function here
	"io"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

var floodOf = testflag.Int("flood", 20_000, "stations, or routers, that flood a stack beside a connection")

// exchanges has the tester say something that the user reads, and the user answer, n times so far; the tester acknowledges.
func (d *dialog) exchanges(n int) {
	d.Helper()
	const question, answer = "anybody there?", "the witness"
	d.sent()
	at, next := 1+n*len(question), 1+n*len(answer)
	d.say(at, next, tcp.ACK|tcp.PSH, question)
	b := make([]byte, len(question))
	d.conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.ReadFull(d.conn, b); err != nil || string(b) != question {
		d.Fatalf("exchange %d: read %q, %v", n, b, err)
	}
	if _, err := d.conn.Write([]byte(answer)); err != nil {
		d.Fatalf("exchange %d: %v", n, err)
	}
	d.idle()
	text := 0
	for _, p := range d.sent() {
		if p.ports.Dst == d.ports.Src && p.seg.Seq == d.iss+tcp.Seq(next) {
			text += p.seg.TextLen()
		}
	}
	if text != len(answer) {
		d.Fatalf("exchange %d: %d octets of an answer of %d leave", n, text, len(answer))
	}
	d.say(at+len(question), next+len(answer), tcp.ACK)
}

// A50, A51, A52, A58: stations without number ask for us and claim what nobody asked, and somebody asks without a pause what
// groups there are; a connection goes on beside that as if nothing were, and nothing is kept of it but what has its bound.
func TestA50A51A52A58BesideConnection(t *testing.T) {
	overWire(t, link.PipeConfig{MTU: 1500, Ethernet: true}, Config{}, func(h *tester) {
		d := h.shakes()
		exchanges := 0
		for n := range *floodOf {
			ip, hw := someone(h, n)
			h.asks(ip, hw)
			h.claims(ip, hw)
			if n%8 == 0 {
				h.queries(h.general(), 0, nil)
			}
			if n%100 == 0 {
				h.idle() // so that the wire has room
				h.neighbor()
				h.reports()
			}
			if n%500 == 0 {
				h.pass(time.Millisecond)
				d.exchanges(exchanges)
				exchanges++
			}
		}
		if exchanges == 0 || h.stack.Stats().Retransmits != 0 {
			t.Errorf("%d exchanges; %d segments were sent again", exchanges, h.stack.Stats().Retransmits)
		}
		neighbors := 0
		for range h.stack.Neighbors() {
			neighbors++
		}
		i := &h.ifc.neigh
		i.Lock()
		defer i.Unlock()
		if neighbors > 1024 || i.packets > maxWaitingAll {
			t.Errorf("%d neighbours, and %d packets wait for them", neighbors, i.packets)
		}
	})
}
