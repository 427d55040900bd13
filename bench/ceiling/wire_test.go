package main

import (
	"net/netip"
	"testing"

	"github.com/seed87e66d9f/waybill/bench/internal/service"
	"github.com/seed87e66d9f/waybill/bench/internal/tuntap"
	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// TestBuild reads what the stub writes with waybill's codecs.
func TestBuild(t *testing.T) {
	const text = 3 * mss
	c := &conn{peer: [4]byte{198, 51, 100, 1}, port: 50000, ours: service.Source, rcv: 7, nxt: 9}
	b := make([]byte, tuntap.HeaderLen+ipLen+tcpLen+len(synOptions)+text)
	build(b, c, ack, synOptions)

	var o link.Offload
	if err := o.Decode(b); err != nil {
		t.Fatal(err)
	}
	want := link.Offload{Partial: true, Valid: true, Start: ipLen, Offset: 16, GSO: link.TCP4, Size: mss, HeaderLen: ipLen + tcpLen + 8}
	if o != want {
		t.Errorf("offload %+v, want %+v", o, want)
	}
	var h ipv4.Header
	b = b[tuntap.HeaderLen:]
	if n, err := h.Decode(b); err != nil || n != ipLen || h.Length != len(b) || h.Dst != netip.AddrFrom4(c.peer) || h.Src != service.Addr4.Addr() {
		t.Fatalf("IP header %+v of %d octets: %v", h, n, err)
	}
	var s tcp.Segment
	p, err := s.Decode(b[ipLen:])
	if err != nil || p != (tcp.Ports{Src: service.Source, Dst: 50000}) || s.Seq != 9 || s.Ack != 7 || s.Flags != tcp.ACK ||
		s.Options.MSS != mss || s.Options.WindowScale != 8 {
		t.Errorf("segment %v of %v: %v", s, p, err)
	}
	if got, want := be.Uint16(b[ipLen+16:]), checksum.Pseudo(h.Src, h.Dst, protoTCP, len(b)-ipLen); got != want {
		t.Errorf("the checksum field holds %#04x, want the pseudo-header's sum %#04x", got, want)
	}
	q, ok := parse(b)
	if !ok || q.seq != 9 || q.ack != 7 || q.flags != ack || len(q.text) != text || windowScale(q.options) != 8 {
		t.Errorf("parse: %t, %d octets of text, window scale %d", ok, len(q.text), windowScale(q.options))
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	b := make([]byte, tuntap.HeaderLen+ipLen+tcpLen+len(synOptions)+1)
	build(b, &conn{}, syn, synOptions)
	f.Add(b[tuntap.HeaderLen:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok := parse(b); ok && windowScale(p.options) > 14 {
			t.Error("a window scale beyond RFC 7323's 14")
		}
	})
}
