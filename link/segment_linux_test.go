package link

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
)

// A kernel that forwards a super-segment says of its headers what was in one piece, payload too.
func TestTUNHeaderLenIsThatOfTheHeaders(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	in := opened(t, OpenTUN, TUNConfig{})
	out, err := OpenTUN(TUNConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := ConfigureHost(out.Caps().Name, []netip.Prefix{netip.MustParsePrefix("203.0.113.1/24")}, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	b := ipPacket(station4, netip.MustParseAddr("203.0.113.2"), protoTCP, tcpSegment(7, 9, 1, 1, 0x10, make([]byte, 9000)), true)
	o := Offload{Partial: true, Start: 20, Offset: tcpChecksum, GSO: TCP4, Size: 1460, HeaderLen: 1000}
	if n, err := in.Queues()[0].Write([]Packet{{Head: b, Offload: o}}); n != 1 || err != nil {
		t.Fatalf("Write: %d, %v", n, err)
	}
	p, _ := receiveTransport(t, out, protoTCP)
	if len(p.Head) != len(b) || p.Offload.GSO != TCP4 || p.Offload.HeaderLen != 40 {
		t.Errorf("%d octets came out, %+v, want %d and HeaderLen 40", len(p.Head), p.Offload, len(b))
	}
}
