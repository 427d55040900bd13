package stack

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/link"
)

// sink is a device that takes everything, and from which nothing comes.
type sink struct {
	caps   link.Caps
	closed chan struct{}
}

func newSink(c link.Caps) *sink { return &sink{c, make(chan struct{})} }

func (d *sink) Caps() link.Caps        { return d.caps }
func (d *sink) Queues() []link.Queue   { return []link.Queue{d} }
func (d *sink) Ready() <-chan struct{} { return nil }

func (d *sink) Close() error {
	close(d.closed)
	return nil
}

func (d *sink) Read([]link.Packet) (int, error) {
	<-d.closed
	return 0, net.ErrClosed
}

func (d *sink) Write(p []link.Packet) (int, error) { return len(p), nil }

// road is a router between two devices, and packets that come in by the first for a host behind the second.
type road struct {
	in    *inbox
	heads [][]byte // of the packets, of as many connections
	work  []byte   // the packet at hand: all that changes is in its head
}

func newRoad(t testing.TB, near, far link.Caps, rules string, flows, size int) *road {
	near.Name, far.Name = "lan", "wan"
	s := host(t, newSink(near), Config{
		Forwarding: Forwarding{Enabled: true}, NoDAD: true,
		Firewall: firewall.Config{Connections: max(flows, 1<<16), SourceRate: -1, NewRate: -1},
	}, server4, server6)
	out, err := s.Attach(newSink(far), far4, far6)
	if err != nil {
		t.Fatal(err)
	}
	i := s.view.Load().ifaces[1]
	if far.Ethernet {
		if err := out.SetNeighbor(farHost4.Addr(), net.HardwareAddr{2, 0, 0, 0, 0, 1}); err != nil {
			t.Fatal(err)
		}
	}
	useRules(t, s, rules)
	r := &road{in: newInbox(i, 0)}
	for n := range flows {
		b := datagramOf(netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(3 + n%200)}), uint16(1024+n/200)),
			netip.AddrPortFrom(farHost4.Addr(), 53), 64, make([]byte, size))
		if near.Ethernet {
			f := make([]byte, ethernet.HeaderLen, ethernet.HeaderLen+len(b))
			h := ethernet.Header{Dst: i.mac, Src: ethernet.Addr{2, 0, 0, 0, 0, 9}, Type: ethernet.TypeIPv4}
			h.Encode(f)
			b = append(f, b...)
		}
		r.heads, r.work = append(r.heads, slices.Clone(b[:len(b)-size])), b
	}
	return r
}

// pass has the router take packet n.
func (r *road) pass(n int) {
	copy(r.work, r.heads[n%len(r.heads)])
	i := r.in.ifc
	p := link.Packet{Head: r.work}
	r.in.packets[0] = p
	i.input(i.stack.now(), r.in, &r.in.packets[0])
}

// shuffle puts the packets in an order in which no connection is near in memory to the one before; their heads are.
func (r *road) shuffle() {
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(r.heads), func(i, k int) { r.heads[i], r.heads[k] = r.heads[k], r.heads[i] })
	all, size := slices.Concat(r.heads...), len(r.heads[0])
	for n := range r.heads {
		r.heads[n] = all[n*size:][:size]
	}
}

// roads are the ways that a packet can take through a router.
var roads = []struct {
	name      string
	near, far link.Caps
	rules     string
}{
	{"IP to IP", link.Caps{MTU: 1500}, link.Caps{MTU: 1500}, ""},
	{"Ethernet to Ethernet", link.Caps{MTU: 1500, Ethernet: true}, link.Caps{MTU: 1500, Ethernet: true}, ""},
	{"IP to Ethernet", link.Caps{MTU: 1500}, link.Caps{MTU: 1500, Ethernet: true}, ""},
	{"firewall", link.Caps{MTU: 1500}, link.Caps{MTU: 1500}, "policy forward drop\nallow forward on lan"},
	{"masquerade", link.Caps{MTU: 1500}, link.Caps{MTU: 1500}, "policy forward drop\nallow forward on lan\nnat on wan to 203.0.113.1,203.0.113.3"}, // one has not ports enough
}

// BenchmarkForward is a packet of 1,000 octets of text through a router, from device to device, with as many connections
// tracked as the name says, each of which sends in turn.
func BenchmarkForward(b *testing.B) {
	for _, x := range roads {
		for _, flows := range []int{1, 1000, 100_000} {
			if flows > 1 && x.rules == "" {
				continue
			}
			b.Run(fmt.Sprintf("%s/%d", x.name, flows), func(b *testing.B) {
				r := newRoad(b, x.near, x.far, x.rules, flows, 1000)
				for n := range flows {
					r.pass(n)
				}
				r.shuffle()
				b.ReportAllocs()
				b.ResetTimer()
				for n := range b.N {
					r.pass(n)
				}
				b.StopTimer()
				if st := r.in.ifc.stack.Stats(); st.Forwarded != uint64(b.N+flows) {
					b.Fatalf("%d of %d forwarded, %v", st.Forwarded, b.N+flows, st.Drops)
				}
			})
		}
	}
}
