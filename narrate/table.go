package narrate

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/seed87e66d9f/waybill/firewall"
)

// table writes how the first packet of each way came to each device, and how it left.
func (t *telling) table(w io.Writer, devices []string) {
	fmt.Fprintf(w, "\nThe addresses, on the first packet of each way\n\n")
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "  \tdevice\tprotocol\tin by\tfrom\tto\tout by\tfrom\tto")
	for way, name := range []string{"there", "back"} {
		seen := map[int]bool{}
		for _, s := range t.steps {
			if seen[s.device] {
				continue
			}
			if row, ok := t.row(s, way); ok {
				seen[s.device] = true
				fmt.Fprintf(tab, "  %s\t%s\t%s\n", name, devices[s.device], row)
			}
		}
	}
	tab.Flush()
}

// row is a step in the table. It has one if a packet of that way has come in, or gone out: with where that goes
// on if the packet had to wait.
func (t *telling) row(s *step, way int) (string, bool) {
	var ends [2][3]string // interface, from, to
	var flow firewall.Flow
	var outs []string
	facts := s.facts
	for ; s.goesOn != nil; s = s.goesOn {
		facts = slices.Concat(facts, s.goesOn.facts)
	}
	for i := range facts {
		f := &facts[i]
		if f.kind != in && f.kind != out {
			continue
		}
		if got, ok := t.ways[f.frame.flow]; !ok || got != way {
			return "", false
		}
		flow = f.frame.flow
		end := 0
		if f.kind == out {
			end = 1
			outs = append(outs, f.iface)
		}
		ends[end] = [3]string{f.iface, endpoint(flow, flow.Src), endpoint(flow, flow.Dst)}
	}
	if !flow.Src.Addr().IsValid() {
		return "", false
	}
	if len(outs) > 0 {
		ends[1][0] = strings.Join(outs, ", ")
	}
	cells := append([]string{protocol(flow)}, append(ends[0][:], ends[1][:]...)...)
	for i := range cells {
		if cells[i] == "" {
			cells[i] = "-"
		}
	}
	return strings.Join(cells, "\t"), true
}

// endpoint is how an end of the flow is told: with its port, if there are ports.
func endpoint(f firewall.Flow, end netip.AddrPort) string {
	if f.Protocol == protoTCP || f.Protocol == protoUDP {
		return end.String()
	}
	return end.Addr().String()
}

// protocol is the name of the flow's protocol, or its number.
func protocol(f firewall.Flow) string {
	name, _, _ := strings.Cut(f.String(), " ")
	return strings.ToUpper(name)
}
