package stack

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/link"
)

// TestA59OddFrames: frames of all lengths, and of types that are none of ours, beside a host that works on. All are counted
// as dropped for a reason.
func TestA59OddFrames(t *testing.T) {
	overWire(t, link.PipeConfig{MTU: 1500, Ethernet: true}, Config{}, func(h *tester) {
		head := func(kind ethernet.EtherType) []byte {
			e := ethernet.Header{Dst: h.ifc.mac, Src: h.mac, Type: kind}
			b := make([]byte, ethernet.HeaderLen)
			e.Encode(b)
			return b
		}
		dropped := func() (n uint64) {
			h.idle()
			for _, k := range h.stack.Stats().Drops {
				n += k
			}
			return n
		}
		fill := func(n int) []byte { // an IP header's first octet, and then what makes little sense
			b := make([]byte, n)
			for k := range b {
				b[k] = byte(k * 37)
			}
			if n > 0 {
				b[0] = 0x45
				if h.us.Is6() {
					b[0] = 0x60
				}
			}
			return b
		}
		sent := uint64(0)
		raw := func(b []byte) {
			h.raw(b)
			if sent++; sent%64 == 0 { // no more than the wire holds
				h.idle()
			}
		}
		before := dropped()
		for n := range ethernet.HeaderLen {
			raw(make([]byte, n))
		}
		for _, kind := range []ethernet.EtherType{ethernet.TypeIPv4, ethernet.TypeIPv6, ethernet.TypeARP} {
			for n := range 100 {
				raw(append(head(kind), fill(n)...))
			}
			for _, n := range []int{1486, 1487, 1500} {
				raw(append(head(kind), fill(n)...))
			}
		}
		for _, kind := range []ethernet.EtherType{0, 3, 46, 1500, 0x0842, 0x88cc, 0x8863, 0x9000, 0xffff} { // 802.3 with LLC, and strangers
			raw(append(head(kind), fill(46)...))
		}
		tag := append(head(0x8100)[:ethernet.HeaderLen:ethernet.HeaderLen], 0, 0)
		for k := range tag[12:] {
			raw(tag[:12+k])
		}
		binary.BigEndian.PutUint16(tag[12:], 0x8100)
		raw(tag)
		if n := dropped() - before; n < sent-1 { // one that is IP by chance may be answered
			t.Errorf("%d of %d odd frames are counted as dropped", n, sent)
		}
		h.sent()
		h.pass(time.Second)
		h.mail(h.echo(h.us, h.peer, "waybill"))
		h.one("an echo after all that")
	})
}
