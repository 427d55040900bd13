//go:build !race

package link

import (
	"net/netip"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
)

func TestTUNDoesNotAllocate(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	d := opened(t, OpenTUN, TUNConfig{})
	c, port := listenUDP(t, host4)
	b := ipPacket(station4, host4, protoUDP, udpDatagram(7, port, make([]byte, 500)), false)
	out, in := []Packet{{Head: b[:20], Text: [][]byte{b[20:100], b[100:]}}}, make([]Packet, 4)
	to := netip.AddrPortFrom(station4, 9)
	if n := testing.AllocsPerRun(200, func() {
		d.Queues()[0].Write(out)
		c.WriteToUDPAddrPort(b[:100], to)
		d.Queues()[0].Read(in)
	}); n != 0 {
		t.Errorf("%v allocations for a packet each way, want 0", n)
	}
}
