package stack

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/link"
)

// TestTracePacketSteps: the steps of a datagram through a router with a firewall, with one number, whether it has to wait
// for its neighbour or not; and of one that the firewall drops.
func TestTracePacketSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var steps []string
		numbers := map[uint64]bool{}
		router := New(Config{NoDAD: true, Forwarding: Forwarding{Enabled: true}, TracePacket: func(e *PacketEvent) {
			if e.Frame != nil && ethernet.EtherType(e.Frame.Head[12])<<8|ethernet.EtherType(e.Frame.Head[13]) != ethernet.TypeIPv4 {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			s := e.Step.String() + " " + e.Interface
			switch e.Step {
			case PacketRouted:
				s += fmt.Sprint(" ", e.Route.Dst)
			case PacketArrived, PacketJudged:
				s += fmt.Sprintf(" %v %v", e.Verdict, e.Judged.After().Dst)
			case PacketDropped:
				s += " " + e.Reason
			}
			steps = append(steps, s)
			numbers[e.Number] = true
		}})
		defer router.Close()
		hosts := map[string]*Stack{}
		for name, p := range map[string][2]string{"west": {"198.51.100.1/24", "198.51.100.2/24"}, "east": {"203.0.113.1/24", "203.0.113.2/24"}} {
			near, far := link.Pipe(link.PipeConfig{Ethernet: true, MTU: 1400})
			if _, err := router.Attach(renamed{near, name}, netip.MustParsePrefix(p[0])); err != nil {
				t.Fatal(err)
			}
			h := New(Config{NoDAD: true})
			defer h.Close()
			i, err := h.Attach(far, netip.MustParsePrefix(p[1]))
			if err == nil {
				err = h.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix(p[0]).Addr(), i)
			}
			if err != nil {
				t.Fatal(err)
			}
			hosts[name] = h
		}
		rules, err := firewall.Parse("policy forward drop\nallow forward udp to 203.0.113.2 port 7\nforward udp 198.51.100.1:7 to 203.0.113.2:7")
		if err == nil {
			err = router.SetFirewall(rules)
		}
		if err != nil {
			t.Fatal(err)
		}
		const through = "in west, arrived west accept 203.0.113.2:7, routed east 203.0.113.0/24, judged east accept 203.0.113.2:7, "
		for _, c := range []struct{ to, want string }{
			{"198.51.100.1:7", through + "waits east, out east"},
			{"198.51.100.1:7", through + "resolved east, out east"},
			{"203.0.113.2:8", "in west, arrived west accept 203.0.113.2:8, routed east 203.0.113.0/24, judged east drop 203.0.113.2:8, dropped west firewall"},
		} {
			synctest.Wait()
			mu.Lock()
			steps = nil
			clear(numbers)
			mu.Unlock()
			u, err := hosts["west"].Dial("udp", c.to)
			if err != nil {
				t.Fatal(err)
			}
			u.Write([]byte("x"))
			synctest.Wait()
			mu.Lock()
			got, n := strings.Join(steps, ", "), len(numbers)
			mu.Unlock()
			u.Close()
			// An error comes back where nobody listens: what is told of it comes behind.
			if !strings.HasPrefix(got, c.want) || c.to != "198.51.100.1:7" && n != 1 {
				t.Errorf("to %s: %d numbers, %s, want\n%s", c.to, n, got, c.want)
			}
		}
	})
}

// renamed is a device with another name.
type renamed struct {
	link.Device
	name string
}

func (d renamed) Caps() link.Caps {
	c := d.Device.Caps()
	c.Name = d.name
	return c
}
