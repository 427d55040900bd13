package main

import (
	"net/netip"
	"testing"

	"github.com/seed87e66d9f/waybill/bench/internal/service"
	"github.com/seed87e66d9f/waybill/bench/internal/tuntap"
	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

var frames = map[string]frame{
	"vnet":  {virtio: tuntap.HeaderLen},
	"tap":   {virtio: tuntap.HeaderLen, ethernet: ethernetLen},
	"water": {ethernet: ethernetLen},
}

// TestBuild reads what the stub writes with waybill's codecs.
func TestBuild(t *testing.T) {
	for name, f := range frames {
		t.Run(name, func(t *testing.T) { testBuild(t, f) })
	}
}

func testBuild(t *testing.T, f frame) {
	text := min(3*mss, f.maxText())
	c := &conn{station: [6]byte{2, 0, 0, 0, 0, 1}, peer: [4]byte{198, 51, 100, 1}, port: 50000, ours: service.Source, rcv: 7, nxt: 9}
	b := make([]byte, f.len()+ipLen+tcpLen+len(synOptions)+text)
	for i := range b {
		b[i] = 0xa5 // what was there before must not show
	}
	f.build(b, c, ack, synOptions)

	if f.virtio > 0 {
		var o link.Offload
		if err := o.Decode(b); err != nil {
			t.Fatal(err)
		}
		ip := uint16(f.ethernet + ipLen)
		want := link.Offload{Partial: true, Valid: true, Start: ip, Offset: 16, GSO: link.TCP4, Size: mss, HeaderLen: ip + tcpLen + 8}
		if o != want {
			t.Errorf("offload %+v, want %+v", o, want)
		}
		b = b[f.virtio:]
	}
	if f.ethernet > 0 {
		var h ethernet.Header
		want := ethernet.Header{Dst: c.station, Src: station, Type: ethernet.TypeIPv4}
		if n, err := h.Decode(b); err != nil || n != ethernetLen || h != want {
			t.Fatalf("Ethernet header %+v of %d octets: %v, want %+v", h, n, err, want)
		}
		b = b[ethernetLen:]
	}
	var h ipv4.Header
	if n, err := h.Decode(b); err != nil || n != ipLen || h.Length != len(b) || h.Dst != netip.AddrFrom4(c.peer) || h.Src != service.Addr4.Addr() {
		t.Fatalf("IP header %+v of %d octets: %v", h, n, err)
	}
	var s tcp.Segment
	p, err := s.Decode(b[ipLen:])
	if err != nil || p != (tcp.Ports{Src: service.Source, Dst: 50000}) || s.Seq != 9 || s.Ack != 7 || s.Flags != tcp.ACK ||
		s.Options.MSS != mss || s.Options.WindowScale != 8 {
		t.Errorf("segment %v of %v: %v", s, p, err)
	}
	pseudo := checksum.Pseudo(h.Src, h.Dst, protoTCP, len(b)-ipLen)
	if got := be.Uint16(b[ipLen+16:]); f.virtio > 0 && got != pseudo {
		t.Errorf("the checksum field holds %#04x, want the pseudo-header's sum %#04x", got, pseudo)
	}
	if got := checksum.Sum(b[ipLen:], pseudo); f.virtio == 0 && got != 0xffff {
		t.Errorf("the segment's sum is %#04x, want 0xffff", got)
	}
	q, ok := parse(b)
	if !ok || q.seq != 9 || q.ack != 7 || q.flags != ack || len(q.text) != text || windowScale(q.options) != 8 {
		t.Errorf("parse: %t, %d octets of text, window scale %d", ok, len(q.text), windowScale(q.options))
	}
}

// TestAnswer asks the stub for its station.
func TestAnswer(t *testing.T) {
	asks := ethernet.ARP{Op: ethernet.OpRequest, SenderHW: ethernet.Addr{2, 0, 0, 0, 0, 1},
		SenderIP: netip.MustParseAddr("198.51.100.1"), TargetIP: service.Addr4.Addr()}
	for name, f := range frames {
		if f.ethernet == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			b := make([]byte, f.len()+arpLen)
			if n := f.answer(b, request(asks)); n != len(b) {
				t.Fatalf("an answer of %d octets, want %d", n, len(b))
			}
			b = b[f.virtio:]
			var h ethernet.Header
			if _, err := h.Decode(b); err != nil || h != (ethernet.Header{Dst: asks.SenderHW, Src: station, Type: ethernet.TypeARP}) {
				t.Errorf("Ethernet header %+v: %v", h, err)
			}
			var a ethernet.ARP
			want := ethernet.ARP{Op: ethernet.OpReply, SenderHW: station, SenderIP: asks.TargetIP, TargetHW: asks.SenderHW, TargetIP: asks.SenderIP}
			if err := a.Decode(b[ethernetLen:]); err != nil || a != want {
				t.Errorf("ARP %+v: %v, want %+v", a, err, want)
			}
			reply, other := asks, asks
			reply.Op, other.TargetIP = ethernet.OpReply, asks.SenderIP
			for _, a := range []ethernet.ARP{reply, other} {
				if n := f.answer(b, request(a)); n != 0 {
					t.Errorf("an answer to %+v", a)
				}
			}
			if n := f.answer(b, request(asks)[:ethernetLen+arpLen-1]); n != 0 {
				t.Error("an answer to a request that is cut off")
			}
		})
	}
}

func request(a ethernet.ARP) []byte {
	b := make([]byte, ethernetLen+arpLen)
	h := ethernet.Header{Dst: ethernet.Broadcast, Src: a.SenderHW, Type: ethernet.TypeARP}
	h.Encode(b)
	a.Encode(b[ethernetLen:])
	return b
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	b := make([]byte, ipLen+tcpLen+len(synOptions)+1)
	frame{}.build(b, &conn{}, syn, synOptions)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok := parse(b); ok && windowScale(p.options) > 14 {
			t.Error("a window scale beyond RFC 7323's 14")
		}
	})
}
