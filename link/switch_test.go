package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
)

// card is a station with one cable, which remembers what it has read: the texts of frames, with a tag in front where there
// is one.
type card struct {
	t    *testing.T
	d    Device
	addr ethernet.Addr
	mu   sync.Mutex
	got  []string
}

// mac is the address of the station n.
func mac(n int) ethernet.Addr {
	return ethernet.Addr{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}
}

// frame is a frame that carries a text.
func frame(dst, src ethernet.Addr, text string) []byte {
	return append(append(append(dst[:], src[:]...), 0x88, 0xb5), text...) // IEEE 802: EtherType for experiments
}

// tagged is frame with tags: each is the tag control information, the outermost first.
func tagged(dst, src ethernet.Addr, text string, tags ...uint16) []byte {
	b := append(dst[:], src[:]...)
	for _, t := range tags {
		b = binary.BigEndian.AppendUint16(append(b, 0x81, 0), t)
	}
	return append(append(b, 0x88, 0xb5), text...)
}

// plug attaches station n to a switch or hub.
func plug(t *testing.T, b *bridge, n int, wire PipeConfig, c PortConfig) *card {
	t.Helper()
	d, err := b.Port(wire, c)
	if err != nil {
		t.Fatal(err)
	}
	s := &card{t: t, d: d, addr: mac(n)}
	go s.listen()
	return s
}

func (s *card) listen() {
	p := make([]Packet, 8)
	for {
		n, err := s.d.Queues()[0].Read(p)
		if err != nil {
			return
		}
		s.mu.Lock()
		for _, p := range p[:n] {
			s.got = append(s.got, show(p.Head))
		}
		s.mu.Unlock()
	}
}

// show is the text of a frame, behind its tags in brackets.
func show(b []byte) string {
	text := ""
	b = b[12:]
	for ; len(b) >= 6 && b[0] == 0x81 && b[1] == 0; b = b[4:] {
		text += fmt.Sprintf("[%x]", binary.BigEndian.Uint16(b[2:]))
	}
	return text + string(b[2:])
}

// say writes a frame and waits until it has gone where it goes.
func (s *card) say(b []byte) {
	s.t.Helper()
	if n, err := s.d.Queues()[0].Write([]Packet{{Head: b}}); n != 1 || err != nil {
		s.t.Fatalf("Write: %d, %v", n, err)
	}
	synctest.Wait()
}

// heard is what came since it was asked last.
func (s *card) heard() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := strings.Join(s.got, " ")
	s.got = nil
	return text
}

// want compares what stations have heard.
func want(t *testing.T, what string, stations []*card, texts ...string) {
	t.Helper()
	for i, s := range stations {
		if got := s.heard(); got != texts[i] {
			t.Errorf("%s: station %d heard %q, want %q", what, i, got, texts[i])
		}
	}
}

// port is the port of a name.
func port(t *testing.T, b *bridge, name string) *Port {
	t.Helper()
	for p := range b.Ports() {
		if p.Name() == name {
			return p
		}
	}
	t.Fatalf("no port %s", name)
	return nil
}

// threePorts makes a switch with the stations 0, 1 and 2 at ports a, b and c.
func threePorts(t *testing.T, c SwitchConfig) (*Switch, []*card) {
	s := NewSwitch(c)
	var cards []*card
	for i, name := range []string{"a", "b", "c"} {
		cards = append(cards, plug(t, &s.bridge, i, PipeConfig{}, PortConfig{Name: name}))
	}
	return s, cards
}

// hangUp closes a switch and its stations, inside of the bubble.
func hangUp(t *testing.T, c io.Closer, cards ...*card) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for _, s := range cards {
		s.d.Close()
	}
}

func TestHubRepeatsEveryFrameToEveryOtherPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(HubConfig{})
		var s []*card
		for i := range 3 {
			s = append(s, plug(t, &h.bridge, i, PipeConfig{}, PortConfig{}))
		}
		defer hangUp(t, h, s...)
		s[0].say(frame(ethernet.Broadcast, mac(0), "all"))
		want(t, "broadcast", s, "", "all", "all")
		s[1].say(frame(mac(0), mac(1), "one"))
		s[1].say(tagged(mac(0), mac(1), "tag", 5))
		want(t, "to a station that has spoken", s, "one [5]tag", "", "one [5]tag")
		s[2].say([]byte{1, 2, 3})
		if got := port(t, &h.bridge, "port0").Stats(); got.FramesIn != 1 || got.Flooded != 1 || got.FramesOut != 2 {
			t.Errorf("port0 has %+v, want 1 frame in and 2 out", got)
		}
		if _, err := h.Attach(Wrap(endless{}, Caps{Ethernet: true}), PortConfig{VLAN: 3}); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("a hub with a VLAN: %v, want EINVAL", err)
		}
	})
}

func TestSwitchLearnsFromSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw, s := threePorts(t, SwitchConfig{})
		defer hangUp(t, sw, s...)
		s[0].say(frame(mac(1), mac(0), "who"))
		want(t, "to a station not heard of", s, "", "who", "who")
		s[1].say(frame(mac(0), mac(1), "me"))
		want(t, "to one that has spoken", s, "me", "", "")
		s[0].say(frame(mac(1), mac(0), "you"))
		want(t, "back", s, "", "you", "")
		s[2].say(frame(ethernet.Broadcast, mac(2), "all"))
		want(t, "broadcast", s, "all", "all", "")
		s[2].say(frame(ethernet.Addr{1, 0, 0x5e, 0, 0, 1}, mac(2), "group"))
		want(t, "multicast", s, "group", "group", "")
		s[0].say(frame(mac(0), mac(9), "same port"))
		want(t, "to a station at the same port", s, "", "", "")
		s[2].say(frame(mac(5), mac(0), "moved"))
		s[1].say(frame(mac(0), mac(1), "follow"))
		want(t, "to a station that has moved", s, "moved", "moved", "follow")
		if got := port(t, &sw.bridge, "c").Stats(); got.Moved != 1 || got.Stations != 2 {
			t.Errorf("port c has %+v, want 2 stations, 1 of them moved", got)
		}
		if got := port(t, &sw.bridge, "a").Stats(); got.Filtered != 1 || got.Flooded != 1 || got.Forwarded != 1 {
			t.Errorf("port a has %+v, want 1 frame filtered, 1 flooded, 1 forwarded", got)
		}
	})
}

func TestSwitchForgetsAStationThatIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw, s := threePorts(t, SwitchConfig{})
		defer hangUp(t, sw, s...)
		s[0].say(frame(ethernet.Broadcast, mac(0), "hello"))
		want(t, "hello", s, "", "hello", "hello")
		time.Sleep(299 * time.Second)
		s[1].say(frame(mac(0), mac(1), "old"))
		want(t, "after 299 s", s, "old", "", "")
		time.Sleep(time.Second)
		s[1].say(frame(mac(0), mac(1), "gone"))
		want(t, "after 300 s", s, "gone", "", "gone")
		if n := len(slices.Collect(sw.Stations())); n != 1 {
			t.Errorf("%d stations in the table, want 1", n)
		}
		s[0].say(frame(mac(1), mac(0), "again"))
		time.Sleep(200 * time.Second)
		s[0].say(frame(mac(1), mac(0), "still here"))
		time.Sleep(200 * time.Second)
		want(t, "in between", s[2:], "")
		s[2].say(frame(mac(0), mac(2), "refreshed"))
		want(t, "400 s after the first frame, 200 s after the last", s, "refreshed", "again still here", "")
	})
}

func TestSwitchForgetsAPortThatGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw, s := threePorts(t, SwitchConfig{})
		defer hangUp(t, sw, s...)
		s[0].say(frame(ethernet.Broadcast, mac(0), "hello"))
		s[0].d.Queues()[0].Write([]Packet{{Head: frame(mac(9), mac(0), "last words")}})
		s[0].d.Close()
		synctest.Wait()
		want(t, "before the cable was pulled", s[1:], "hello last words", "hello last words")
		if got := len(slices.Collect(sw.Ports())); got != 2 {
			t.Errorf("%d ports, want 2", got)
		}
		s[1].say(frame(mac(0), mac(1), "anybody"))
		want(t, "to a station whose port has gone", s[2:], "anybody")
		again := plug(t, &sw.bridge, 0, PipeConfig{}, PortConfig{})
		defer again.d.Close()
		again.say(frame(mac(1), mac(0), "back"))
		want(t, "from another port", s[1:], "back", "")
		p := port(t, &sw.bridge, "c")
		if err := errors.Join(p.Close(), p.Close()); err != nil {
			t.Error(err)
		}
		if n, err := s[2].d.Queues()[0].Write([]Packet{{Head: frame(mac(1), mac(2), "x")}}); n != 1 || err != nil {
			t.Errorf("a station writes to a port that is closed: %d, %v, want 1 taken", n, err)
		}
		want(t, "from a closed port", s[1:2], "")
	})
}

func TestSwitchTableIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw, s := threePorts(t, SwitchConfig{Stations: 100})
		defer hangUp(t, sw, s...)
		for i := range 10 { // ten stations at each port, which talk with each other across
			s[1].say(frame(mac(0), mac(200+i), "b"))
			s[2].say(frame(mac(200+i), mac(300+i), "c"))
		}
		s[0].say(frame(mac(200), mac(0), "a"))
		s[1].say(frame(mac(0), mac(200), "a"))
		for i := range 1000 {
			s[0].say(frame(mac(200), mac(5000+i), "flood"))
		}
		for _, c := range s {
			c.heard()
		}
		for i := range 10 {
			s[2].say(frame(mac(200+i), mac(300+i), "c"))
			s[1].say(frame(mac(300+i), mac(200+i), "b"))
		}
		s[2].heard()
		s[1].say(frame(mac(0), mac(201), "to a"))
		want(t, "a frame for the station at the flooding port", s[2:], "")
		if got := s[0].heard(); got != "to a" {
			t.Errorf("the flooding port heard %q, want only what is for its station: the others' entries are gone", got)
		}
		a, b, c := port(t, &sw.bridge, "a").Stats(), port(t, &sw.bridge, "b").Stats(), port(t, &sw.bridge, "c").Stats()
		if a.Stations != 80 || b.Stations != 10 || c.Stations != 10 || a.Evicted != 1001-80 || b.Evicted+c.Evicted > 0 {
			t.Errorf("%d, %d and %d stations, %d, %d and %d evicted; want 80, 10, 10 and 921, 0, 0",
				a.Stations, b.Stations, c.Stations, a.Evicted, b.Evicted, c.Evicted)
		}
		for i := range 60 { // the others still learn, at the flooding port's cost
			s[1].say(frame(mac(0), mac(400+i), "new"))
		}
		if a, b := port(t, &sw.bridge, "a").Stats(), port(t, &sw.bridge, "b").Stats(); a.Stations+b.Stations != 90 || b.Stations < 45 {
			t.Errorf("%d stations at the flooding port, %d at the other, want about as many", a.Stations, b.Stations)
		}
		time.Sleep(300 * time.Second)
		s[2].say(frame(mac(0), mac(7), "first after a long night"))
		if n := len(sw.stations.m); n != 1 {
			t.Errorf("%d entries in the table, want 1: what is too old makes room", n)
		}
	})
}

func TestSwitchPinnedStation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := NewSwitch(SwitchConfig{Stations: 1})
		s := []*card{
			plug(t, &sw.bridge, 0, PipeConfig{}, PortConfig{Name: "a", Pinned: []ethernet.Addr{mac(0)}}),
			plug(t, &sw.bridge, 1, PipeConfig{}, PortConfig{Name: "b"}),
			plug(t, &sw.bridge, 2, PipeConfig{}, PortConfig{Name: "c"}),
		}
		defer hangUp(t, sw, s...)
		s[1].say(frame(mac(0), mac(1), "known at once"))
		want(t, "to the pinned station", s, "known at once", "", "")
		s[2].say(frame(ethernet.Broadcast, mac(0), "spoofed"))
		time.Sleep(time.Hour)
		s[1].say(frame(mac(0), mac(1), "still"))
		want(t, "after somebody else used its address", s, "still", "", "")
		if got := port(t, &sw.bridge, "c").Stats(); got.Spoofed != 1 || got.FramesIn != 1 {
			t.Errorf("port c has %+v, want 1 frame spoofed", got)
		}
		s[0].d.Close()
		synctest.Wait()
		s[2].say(frame(mac(1), mac(0), "free again"))
		want(t, "when its port has gone", s[1:], "free again", "")
	})
}

func TestSwitchDropsWhatNoStationSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []string
		sw, s := threePorts(t, SwitchConfig{Trace: func(e *FrameEvent) {
			out := "-"
			if e.Out != nil {
				out = e.Out.Name()
			}
			events = append(events, fmt.Sprint(e.Verdict, " ", e.In.Name(), out))
		}})
		defer hangUp(t, sw, s...)
		s[0].say(make([]byte, 13))
		s[0].say(frame(mac(1), ethernet.Broadcast, "from all"))
		s[0].say(frame(mac(1), ethernet.Addr{}, "from nobody"))
		for i := range 16 {
			s[0].say(frame(ethernet.Addr{1, 0x80, 0xc2, 0, 0, byte(i)}, mac(0), fmt.Sprint(i)))
		}
		s[0].say(frame(ethernet.Addr{1, 0x80, 0xc2, 0, 0, 16}, mac(0), "16"))
		want(t, "group addresses of IEEE 802.1Q", s, "", "0 16", "0 16")
		if got := port(t, &sw.bridge, "a").Stats(); got.Malformed != 3 || got.Reserved != 15 || got.Flooded != 2 {
			t.Errorf("port a has %+v, want 3 malformed, 15 reserved, 2 flooded", got)
		}
		text := strings.Join(slices.Compact(events), ", ")
		const trace = "malformed a-, flooded a-, sent ab, sent ac, reserved a-, flooded a-, sent ab, sent ac"
		if text != trace {
			t.Errorf("the trace is %q, want %q", text, trace)
		}
	})
}

func TestSwitchVLANs(t *testing.T) {
	ports := []PortConfig{
		{Name: "x0", VLAN: 10}, {Name: "x1", VLAN: 10}, {Name: "y0", VLAN: 20}, {Name: "trunk", Trunk: []uint16{10, 20}},
		{Name: "native", VLAN: 10, Trunk: []uint16{20}}, {Name: "plain"},
	}
	all := ethernet.Broadcast
	for _, tt := range []struct {
		name   string
		from   int
		b      []byte
		want   [6]string
		nested bool // it is dropped at some port for that
	}{
		{"from an access port", 0, frame(all, mac(0), "m"), [6]string{"", "m", "", "[a]m", "m", ""}, false},
		{"from another VLAN", 2, frame(all, mac(2), "m"), [6]string{"", "", "", "[14]m", "[14]m", ""}, false},
		{"from a trunk", 3, tagged(all, mac(3), "m", 10), [6]string{"m", "m", "", "", "m", ""}, false},
		{"from a trunk, with a priority", 3, tagged(all, mac(3), "m", 0xe000|20), [6]string{"", "", "m", "", "[e014]m", ""}, false},
		{"a priority without a VLAN", 0, tagged(all, mac(0), "m", 0x6000), [6]string{"", "m", "", "[600a]m", "m", ""}, false},
		{"native VLAN of a trunk", 4, frame(all, mac(4), "m"), [6]string{"m", "m", "", "[a]m", "", ""}, false},
		{"a trunk's frame without a tag", 3, frame(all, mac(3), "m"), [6]string{"", "", "", "", "", "m"}, false},
		{"a trunk's VLAN that it has not", 3, tagged(all, mac(3), "m", 30), [6]string{}, false},
		{"VLAN 4095", 3, tagged(all, mac(3), "m", 4095), [6]string{}, false},
		{"an access port's own VLAN as a tag", 0, tagged(all, mac(0), "m", 10), [6]string{}, false},
		{"an access port says another VLAN", 0, tagged(all, mac(0), "m", 20), [6]string{}, false},
		{"the native VLAN as a tag", 4, tagged(all, mac(4), "m", 10), [6]string{}, false},
		{"two tags hop to VLAN 20", 0, tagged(all, mac(0), "m", 10, 20), [6]string{}, false},
		// In the VLAN, the second tag is what the frame carries; where it would be the first, the frame is dropped.
		{"a priority and a tag hop to VLAN 20", 0, tagged(all, mac(0), "m", 0, 20), [6]string{"", "", "", "[a][14]m", "", ""}, true},
		{"a plain port's tag hops to VLAN 20", 5, tagged(all, mac(5), "m", 20), [6]string{}, true},
		{"from a plain port", 5, frame(all, mac(5), "m"), [6]string{"", "", "", "m", "", ""}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sw := NewSwitch(SwitchConfig{})
				var s []*card
				for i, c := range ports {
					s = append(s, plug(t, &sw.bridge, i, PipeConfig{}, c))
				}
				defer hangUp(t, sw, s...)
				s[tt.from].say(tt.b)
				want(t, "heard", s, tt.want[:]...)
				nested := uint64(0)
				for p := range sw.Ports() {
					nested += p.Stats().NestedTag
				}
				if got := nested > 0; got != tt.nested {
					t.Errorf("a frame was dropped for a tag in a tag: %v, want %v", got, tt.nested)
				}
			})
		})
	}
}

func TestSwitchLearnsInEachVLAN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := NewSwitch(SwitchConfig{})
		s := []*card{
			plug(t, &sw.bridge, 0, PipeConfig{}, PortConfig{VLAN: 10}), plug(t, &sw.bridge, 1, PipeConfig{}, PortConfig{VLAN: 20}),
			plug(t, &sw.bridge, 2, PipeConfig{}, PortConfig{Trunk: []uint16{10, 20}}),
		}
		defer hangUp(t, sw, s...)
		s[0].say(frame(ethernet.Broadcast, mac(7), "x")) // one address in two VLANs
		s[1].say(frame(ethernet.Broadcast, mac(7), "y"))
		s[2].heard()
		s[2].say(tagged(mac(7), mac(2), "ten", 10))
		s[2].say(tagged(mac(7), mac(2), "twenty", 20))
		want(t, "the same address in two VLANs", s, "ten", "twenty", "")
		for _, c := range []PortConfig{{VLAN: 4095}, {Trunk: []uint16{0}}, {Trunk: []uint16{4095}}, {VLAN: 5, Trunk: []uint16{5}},
			{Pinned: []ethernet.Addr{ethernet.Broadcast}}} {
			if _, err := sw.Port(PipeConfig{}, c); !errors.Is(err, syscall.EINVAL) {
				t.Errorf("%+v: %v, want EINVAL", c, err)
			}
		}
	})
}

func TestSwitchMTUAndSuperSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := NewSwitch(SwitchConfig{})
		gso := PipeConfig{MTU: 1500, GSO: 65535}
		s := []*card{
			plug(t, &sw.bridge, 0, gso, PortConfig{Name: "a"}), plug(t, &sw.bridge, 1, gso, PortConfig{Name: "whole"}),
			plug(t, &sw.bridge, 2, PipeConfig{MTU: 1500}, PortConfig{Name: "cut"}),
			plug(t, &sw.bridge, 3, PipeConfig{MTU: 1499}, PortConfig{Name: "small"}),
		}
		defer hangUp(t, sw, s...)
		super := superSegment{frame: bytes.Repeat([]byte{0xff}, 12), gso: TCP4, text: 10000, size: 1460, flags: 0x18}
		copy(super.frame[6:], []byte{2, 0, 0, 0, 0, 0})
		p, pieces := super.whole()
		if n, err := s[0].d.Queues()[0].Write([]Packet{p}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		synctest.Wait()
		m := strings.Repeat("m", 1500)
		s[0].say(frame(ethernet.Broadcast, mac(0), m))
		s[0].say(frame(ethernet.Broadcast, mac(0), m[1:]))
		many := ""
		for _, b := range pieces {
			many += show(b) + " "
		}
		want(t, "a super-segment, 1500 and 1499 octets", s, "", show(p.Head)+" "+m+" "+m[1:], many+m+" "+m[1:], m[1:])
		if got := port(t, &sw.bridge, "small").Stats(); got.TooLong != 2 || got.FramesOut != 1 {
			t.Errorf("the port with the smaller MTU has %+v, want 2 too long", got)
		}
		if got := port(t, &sw.bridge, "cut").Stats(); got.FramesOut != uint64(len(pieces))+2 {
			t.Errorf("the port without offload has %+v, want %d frames out", got, len(pieces)+2)
		}
		p.Head[17]++ // its Total Length is not that of the packet any more
		s[0].d.Queues()[0].Write([]Packet{p})
		synctest.Wait()
		if got := port(t, &sw.bridge, "cut").Stats(); got.Uncut != 1 {
			t.Errorf("the port without offload has %+v, want 1 uncut", got)
		}
	})
}

func TestSwitchSuperSegmentsChangeTheirTag(t *testing.T) {
	for _, gso := range []int{0, 65535} {
		synctest.Test(t, func(t *testing.T) {
			sw := NewSwitch(SwitchConfig{})
			defer sw.Close()
			in, err := sw.Port(PipeConfig{MTU: 1500, GSO: 65535}, PortConfig{VLAN: 9})
			if err != nil {
				t.Fatal(err)
			}
			out, err := sw.Port(PipeConfig{MTU: 1500, GSO: gso}, PortConfig{Trunk: []uint16{9}})
			if err != nil {
				t.Fatal(err)
			}
			plain := superSegment{frame: make([]byte, 12), gso: TCP6, v6: true, text: 9000, size: 1440, flags: 0x18, partial: gso > 0}
			plain.frame[5], plain.frame[11] = 1, 2
			tagged := plain
			tagged.frame = append(bytes.Clone(plain.frame), 0x81, 0, 0, 9)
			there := func(from, to Device, a, b superSegment) {
				t.Helper()
				p, _ := a.whole()
				want, pieces := b.whole()
				if gso > 0 {
					pieces = [][]byte{want.Head}
				}
				from.Queues()[0].Write([]Packet{p})
				synctest.Wait()
				got := make([]Packet, 64)
				n, err := to.Queues()[0].Read(got)
				if err != nil || n != len(pieces) {
					t.Fatalf("%d packets, %v, want %d", n, err, len(pieces))
				}
				for i := range n {
					if !bytes.Equal(got[i].Head, pieces[i]) {
						t.Errorf("packet %d is % x…, want % x…", i, got[i].Head[:80], pieces[i][:80])
					}
				}
				if gso > 0 && got[0].Offload != want.Offload {
					t.Errorf("Offload is %+v, want %+v", got[0].Offload, want.Offload)
				}
			}
			there(in, out, plain, tagged)
			if gso > 0 {
				there(out, in, tagged, plain)
			}
		})
	}
}

func TestSwitchFullPortHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw, s := threePorts(t, SwitchConfig{})
		defer hangUp(t, sw, s...)
		deaf, err := sw.Port(PipeConfig{Queue: 3}, PortConfig{Name: "deaf"})
		if err != nil {
			t.Fatal(err)
		}
		defer deaf.Close()
		for range 10 {
			s[0].say(frame(ethernet.Broadcast, mac(0), "m"))
		}
		want(t, "with a port that nobody reads", s[1:], strings.TrimSpace(strings.Repeat("m ", 10)), strings.TrimSpace(strings.Repeat("m ", 10)))
		if got := port(t, &sw.bridge, "deaf").Stats(); got.Full != 7 || got.FramesOut != 3 || got.OctetsOut != 45 {
			t.Errorf("the port that nobody reads has %+v, want 7 full, 3 frames and 45 octets out", got)
		}
	})
}

// stuck is a tunnel whose Write waits for its Close.
type stuck struct{ closed chan struct{} }

func (s stuck) Read([]byte) (int, error)    { <-s.closed; return 0, io.EOF }
func (s stuck) Write(b []byte) (int, error) { <-s.closed; return 0, io.ErrClosedPipe }
func (s stuck) Close() error                { close(s.closed); return nil }

func TestSwitchTunnelThatWaitsHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw, s := threePorts(t, SwitchConfig{})
		defer hangUp(t, sw, s...)
		d := Capture(Wrap(stuck{make(chan struct{})}, Caps{Ethernet: true, MTU: 1500, Name: "stuck"}), io.Discard)
		p, err := sw.Attach(d, PortConfig{})
		if err != nil {
			t.Fatal(err)
		}
		for range 2000 {
			s[0].say(frame(ethernet.Broadcast, mac(0), "m"))
		}
		if got := len(strings.Fields(s[1].heard())); got != 2000 {
			t.Errorf("a station heard %d frames, want 2000", got)
		}
		if got := p.Stats(); got.Full == 0 || got.Full+got.FramesOut != 2000 || p.Name() != "stuck" {
			t.Errorf("%s has %+v, want most of 2000 frames full", p.Name(), got)
		}
	})
}

// broken is an Ethernet device whose Read and Write fail, until it is whole.
type broken struct {
	Device
	mu    sync.Mutex
	fails int
}

func (b *broken) Queues() []Queue { return []Queue{brokenQueue{b.Device.Queues()[0], b}} }

type brokenQueue struct {
	Queue
	b *broken
}

func (q brokenQueue) fails() bool {
	q.b.mu.Lock()
	defer q.b.mu.Unlock()
	q.b.fails--
	return q.b.fails >= 0
}

func (q brokenQueue) Read(p []Packet) (int, error) {
	if q.fails() {
		return 0, syscall.EIO
	}
	return q.Queue.Read(p)
}

func (q brokenQueue) Write(p []Packet) (int, error) {
	if q.fails() {
		return 0, syscall.EIO
	}
	return q.Queue.Write(p)
}

func TestSwitchDeviceThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw, s := threePorts(t, SwitchConfig{})
		defer hangUp(t, sw, s...)
		mine, theirs := Pipe(PipeConfig{Ethernet: true})
		defer theirs.Close()
		b := &broken{Device: mine, fails: 5}
		p, err := sw.Attach(b, PortConfig{Name: "broken"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // it is read again until it works
		b.mu.Lock()
		b.fails = 2
		b.mu.Unlock()
		for i := range 3 {
			s[0].say(frame(ethernet.Broadcast, mac(0), fmt.Sprint(i)))
		}
		theirs.Queues()[0].Write([]Packet{{Head: frame(ethernet.Broadcast, mac(8), "hello")}})
		synctest.Wait()
		want(t, "from the device", s, "hello", "0 1 2 hello", "0 1 2 hello")
		if got := p.Stats(); got.Failed != 2 || got.FramesOut != 1 {
			t.Errorf("the device has %+v, want 2 failed and 1 out", got)
		}
		mine2, theirs2 := Pipe(PipeConfig{Ethernet: true})
		defer theirs2.Close()
		if _, err := sw.Attach(&broken{Device: mine2, fails: 1 << 30}, PortConfig{Name: "hopeless"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := len(slices.Collect(sw.Ports())); n != 4 {
			t.Errorf("%d ports, want 4: the one that never reads is given up", n)
		}
	})
}

func TestSwitchAttachAndCloseErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := NewSwitch(SwitchConfig{})
		ip, other := Pipe(PipeConfig{})
		defer other.Close()
		if _, err := sw.Attach(ip, PortConfig{}); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("a device without Ethernet: %v, want EINVAL", err)
		}
		if _, err := ip.Queues()[0].Read(make([]Packet, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("it was not closed: %v", err)
		}
		if _, err := sw.Attach(nil, PortConfig{}); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("no device: %v, want EINVAL", err)
		}
		d, err := sw.Port(PipeConfig{}, PortConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(sw.Close(), sw.Close()); err != nil {
			t.Error(err)
		}
		if _, err := sw.Port(PipeConfig{}, PortConfig{}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a port of a closed switch: %v, want net.ErrClosed", err)
		}
		d.Close()
	})
}

// Two switches without storm control and three wires between them: a broadcast multiplies until all queues are full. The test
// is that Close ends it.
func TestSwitchStormEndsWithClose(t *testing.T) {
	a, b := NewSwitch(SwitchConfig{Storm: -1}), NewSwitch(SwitchConfig{Storm: -1})
	for range 3 {
		x, y := Pipe(PipeConfig{Ethernet: true, Queue: 64})
		if _, err := a.Attach(x, PortConfig{Name: "a"}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Attach(y, PortConfig{Name: "b"}); err != nil {
			t.Fatal(err)
		}
	}
	d, err := a.Port(PipeConfig{}, PortConfig{Name: "station"})
	if err != nil {
		t.Fatal(err)
	}
	d.Queues()[0].Write([]Packet{{Head: frame(ethernet.Broadcast, mac(1), "for ever")}})
	full := func() (n uint64) {
		for p := range b.Ports() {
			n += p.Stats().Full
		}
		return n
	}
	for deadline := time.Now().Add(20 * time.Second); full() < 1000; {
		if time.Now().After(deadline) {
			t.Fatalf("%d frames dropped at full ports, want a storm", full())
		}
		time.Sleep(time.Millisecond)
	}
	for i, c := range []io.Closer{a, b, d} {
		if err := c.Close(); err != nil {
			t.Errorf("Close %d: %v", i, err)
		}
	}
}
