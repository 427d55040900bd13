package narrate

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/tcp"
)

// Conversations lists the flows that a device has sent of its own and that were no answer to another, in order: what Tell
// can be asked about.
func (n *Narrator) Conversations() []firewall.Flow {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []firewall.Flow
	names, known := namesOf(n.steps), telling{ways: map[firewall.Flow]int{}}
	for _, s := range n.steps {
		for i := range s.facts {
			for _, f := range s.facts[i].flows() {
				if _, ok := known.ways[f]; ok || !f.Src.Addr().IsValid() {
					continue
				}
				if !f.Dst.Addr().IsMulticast() && (f.Src.Port() != 0 || f.Dst.Port() != 0) {
					all = append(all, f)
				}
				known.follow(f, names)
			}
		}
	}
	return all
}

// flows are those of the packet that a fact is about.
func (f *fact) flows() []firewall.Flow {
	switch {
	case f.kind == arrived || f.kind == judged:
		return []firewall.Flow{f.before, f.after}
	case f.frame != nil:
		return []firewall.Flow{f.frame.flow}
	}
	return []firewall.Flow{f.before}
}

func inverse(f firewall.Flow) firewall.Flow {
	return firewall.Flow{Protocol: f.Protocol, Src: f.Dst, Dst: f.Src}
}

// The two ways of a conversation.
const (
	there = iota // as its first packet goes
	back
)

// A telling is one conversation on its way to paper.
type telling struct {
	ways    map[firewall.Flow]int // all that the conversation is called on its way, and which way that goes
	asked   map[netip.Addr]bool   // who was looked for on the links
	first   [2]tcp.Seq            // of each way: sequence numbers are told from there
	counted [2]bool
	phase   int
	steps   []*step
}

// newTelling finds what belongs to a conversation.
func newTelling(steps []*step, flow firewall.Flow) *telling {
	t := &telling{ways: map[firewall.Flow]int{}, asked: map[netip.Addr]bool{}}
	t.follow(flow, namesOf(steps))
	var first, last time.Duration
	for _, s := range steps {
		if t.about(s) {
			if len(t.steps) == 0 {
				first = s.at
			}
			last = s.at
			t.steps = append(t.steps, s)
			t.learn(s)
		}
	}
	for _, s := range steps {
		if len(s.facts) > 0 && s.at >= first && s.at <= last && s.facts[0].frame != nil && t.asked[s.facts[0].frame.about] && !t.about(s) {
			t.steps = append(t.steps, s)
		}
	}
	return t
}

// namesOf finds what each flow is called before and behind those who translate it.
func namesOf(steps []*step) map[firewall.Flow][]firewall.Flow {
	names := map[firewall.Flow][]firewall.Flow{}
	add := func(a, b firewall.Flow) {
		if !slices.Contains(names[a], b) {
			names[a] = append(names[a], b)
		}
	}
	for _, s := range steps {
		for i := range s.facts {
			f := &s.facts[i]
			if (f.kind == arrived || f.kind == judged) && f.before != f.after {
				add(f.before, f.after)
				add(f.after, f.before)
				add(inverse(f.before), inverse(f.after))
				add(inverse(f.after), inverse(f.before))
			}
		}
	}
	return names
}

// follow notes all names of a flow, and of what comes back.
func (t *telling) follow(flow firewall.Flow, names map[firewall.Flow][]firewall.Flow) {
	for todo := []firewall.Flow{flow}; len(todo) > 0; {
		f := todo[0]
		todo = todo[1:]
		if _, ok := t.ways[f]; !ok {
			t.ways[f], t.ways[inverse(f)] = there, back
			todo = append(todo, names[f]...)
		}
	}
}

// about reports whether the step is about a packet of the conversation.
func (t *telling) about(s *step) bool {
	_, ok := t.way(s)
	return ok
}

// way is which way the packet of a step goes.
func (t *telling) way(s *step) (way int, ok bool) {
	for i := range s.facts {
		for _, f := range s.facts[i].flows() {
			if way, ok = t.ways[f]; ok {
				return way, true
			}
		}
	}
	if s.goesOn != nil { // a packet that is not seen before it leaves
		return t.way(s.goesOn)
	}
	return 0, false
}

// learn notes whom the packet of a step is looked for at, and where its sequence numbers begin.
func (t *telling) learn(s *step) {
	for i := range s.facts {
		f := &s.facts[i]
		if f.next.IsValid() {
			t.asked[f.next] = true
		}
		if v := f.frame; v != nil && v.isTCP && v.seg.Flags.Has(tcp.SYN) {
			if way, ok := t.ways[v.flow]; ok && !t.counted[way] {
				t.first[way], t.counted[way] = v.seg.Seq, true
			}
		}
	}
}

// segment is a segment in the notation of RFC 9293, its numbers told from the first of each side.
func (t *telling) segment(v *view) string {
	s, way := v.seg, t.ways[v.flow]
	s.Seq -= t.first[way]
	s.Ack -= t.first[1-way]
	if v.size > 0 {
		s.Text = [][]byte{make([]byte, v.size)}
	}
	return s.String()
}

// frame is a frame in one line.
func (t *telling) frame(v *view) string {
	var parts []string
	if v.ethernet {
		parts = append(parts, fmt.Sprintf("%v > %v", v.src, v.dst))
	}
	if f := v.flow; f.Src.Addr().IsValid() {
		if v.isTCP || f.Protocol == protoUDP {
			parts = append(parts, fmt.Sprintf("%v > %v", f.Src, f.Dst))
		} else {
			parts = append(parts, fmt.Sprintf("%v > %v", f.Src.Addr(), f.Dst.Addr()))
		}
		parts = append(parts, lifetime(f.Src.Addr(), v.hops))
	}
	if v.isTCP {
		parts = append(parts, "TCP "+t.segment(v))
	}
	if v.says != "" && v.isTCP {
		parts = append(parts, fmt.Sprintf("%q", v.says))
	} else if v.says != "" {
		parts = append(parts, v.says)
	}
	return strings.Join(parts, " | ")
}

// phases of a conversation, by what is new in a packet.
var phases = [...]string{"", "The handshake", "The request", "The reply", "The close", "The reset"}

const (
	handshake = iota + 1
	request
	reply
	closing
	reset
)

// next is the phase that begins with a step.
func (t *telling) next(s *step) int {
	phase := t.phase
	for i := range s.facts {
		f, v := &s.facts[i], s.facts[i].frame
		if f.kind == call && f.states[0] == tcp.Closed {
			phase = max(phase, handshake)
		}
		if f.kind == call && f.states[0] != tcp.Closed {
			phase = max(phase, closing)
		}
		if v == nil {
			continue
		}
		way, ok := t.ways[v.flow]
		switch {
		case !ok:
		case v.isTCP && v.seg.Flags.Has(tcp.RST):
			phase = max(phase, reset)
		case v.isTCP && v.seg.Flags.Has(tcp.FIN):
			phase = max(phase, closing)
		case v.isTCP && v.seg.Flags.Has(tcp.SYN):
			phase = max(phase, handshake)
		case v.isTCP && v.size == 0:
		default:
			phase = max(phase, request+way)
		}
	}
	return phase
}

// Tell writes what happened to the conversation that flow names in one of its forms: step by step, and then in a table. It
// returns the error of w, or one that says that nobody has reported such a conversation.
func (n *Narrator) Tell(w io.Writer, flow firewall.Flow) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := newTelling(n.steps, flow)
	if len(t.steps) == 0 {
		return fmt.Errorf("narrate: nothing is known of %v", flow)
	}
	order := map[*step]int{}
	for i, s := range n.steps {
		order[s] = i
	}
	slices.SortFunc(t.steps, func(a, b *step) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(order[a], order[b])) })
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%s %s > %s\n", protocol(flow), endpoint(flow, flow.Src), endpoint(flow, flow.Dst))
	var at time.Duration
	device, start := -1, t.steps[0].at
	for _, s := range t.steps {
		if phase := t.next(s); phase != t.phase {
			t.phase, device = phase, -1
			fmt.Fprintf(b, "\n%s\n", phases[phase])
		}
		if s.device != device || s.at != at {
			device, at = s.device, s.at
			fmt.Fprintf(b, "\n  %9.3f ms  %s\n", float64(at-start)/float64(time.Millisecond), n.devices[device])
		}
		if s.goneOn {
			fmt.Fprintf(b, "                the packet that waited goes on\n")
		}
		for i := range s.facts {
			for _, line := range s.facts[i].text(t) {
				fmt.Fprintf(b, "                %s\n", line)
			}
		}
	}
	t.table(b, n.devices)
	if n.full.Load() {
		fmt.Fprintf(b, "\nAfter %d steps of all conversations together, nothing was kept.\n", maxSteps)
	}
	return b.Flush()
}

// lifetime is how far a packet may go, as its family calls it.
func lifetime(a netip.Addr, hops uint8) string {
	if a.Is4() {
		return fmt.Sprintf("TTL %d", hops)
	}
	return fmt.Sprintf("hop limit %d", hops)
}
