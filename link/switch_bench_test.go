package link

import (
	"fmt"
	"testing"

	"github.com/seed87e66d9f/waybill/ethernet"
)

// sink is a device that takes everything, and gives nothing until it is closed.
type sink struct{ closed chan struct{} }

func (s sink) Caps() Caps {
	return Caps{Ethernet: true, MTU: 1500, Checksum: true, GSO4: 65535}
}
func (s sink) Queues() []Queue               { return []Queue{s} }
func (s sink) Read([]Packet) (int, error)    { <-s.closed; return 0, errClosed }
func (s sink) Write(p []Packet) (int, error) { return len(p), nil }
func (s sink) Ready() <-chan struct{}        { return nil }
func (s sink) Close() error                  { close(s.closed); return nil }

// BenchmarkSwitch is what a frame costs between the Read of one device and the Write of the other, with so many stations in
// the table, each the source of a frame in turn.
func BenchmarkSwitch(b *testing.B) {
	for _, stations := range []int{1, 1000, 100000} {
		b.Run(fmt.Sprintf("%d stations", stations), func(b *testing.B) {
			sw := NewSwitch(SwitchConfig{Stations: stations + 1})
			defer sw.Close()
			var ports [2]*Port
			for i := range ports {
				p, err := sw.Attach(sink{make(chan struct{})}, PortConfig{})
				if err != nil {
					b.Fatal(err)
				}
				ports[i] = p
			}
			dst := mac(0)
			sw.stations.hear(newStationKey(0, dst[:]), ports[1], 0)
			r := &relay{bridge: &sw.bridge, port: ports[0]}
			for i := range r.in {
				r.in[i].Head = frame(dst, ethernet.Addr{}, "0123456789012345678901234567890123456789012345")
			}
			b.ReportAllocs()
			for n := 0; n < b.N; n += len(r.in) {
				for i := range r.in {
					src := mac(1 + (n+i)%stations)
					copy(r.in[i].Head[6:], src[:])
				}
				r.relay(r.in[:])
			}
		})
	}
}
