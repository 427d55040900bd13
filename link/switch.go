package link

import (
	"iter"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
)

// SwitchConfig describes a Switch. The zero value is an ordinary one.
type SwitchConfig struct {
	// Age is for how long a station that is not heard of stays in the table; 0: 300 s, which IEEE 802.1Q table 8-6
	// recommends.
	Age time.Duration
	// Stations is how many the table holds, in all VLANs together and besides those that are pinned; 0: 4096.
	Stations int
	// Storm is how many frames a second that go to several ports (broadcast, multicast, and what is for a station not heard
	// of) are taken from one port; a second's worth may come at once, a super-segment counts as what it becomes, and what is
	// more is dropped. 0: 8192; negative: any number.
	Storm int
	// Trace, if it is not nil, hears what becomes of each frame. The goroutine that carries the frame calls it, one for
	// each queue of a port.
	Trace func(*FrameEvent)
}

const (
	// defaultAge: IEEE 802.1Q-2018 table 8-6, "Ageing time", recommended default 300.0 s.
	defaultAge = 300 * time.Second
	// defaultStations is more than a network of houses and offices has behind one switch; at about 100 octets each they
	// cost 400 KB.
	defaultStations = 4096
	// defaultStorm is enough for 500 hosts behind one port that each ask for 16 others a second, or a multicast film of
	// 80 Mbit/s, and costs each other port a few milliseconds of work a second.
	defaultStorm = 8192
)

// A Switch carries Ethernet frames between its ports (IEEE 802.1Q calls it a bridge). It learns from the frames' sources
// which station is at which port, and sends a frame there alone; a frame to a group, or to a station not heard of yet, goes
// to all ports but the one it came from.
//
// Frames go from device to device on the goroutine that read them, super-segments in one piece where the other device
// takes them, and cut where it does not. The frames for a port that is full are dropped and counted, and so are those longer
// than its MTU: a switch sends no ICMP. A port that sends more than another can take rests a millisecond now and then, all that
// it sends with it, so that the queue it shares has room for who sends little; otherwise no port waits for another.
//
// A port that floods costs the others little. What goes from it to several ports is bounded (storm control:
// SwitchConfig.Storm), and so is how fast its stations take the places of others in a full table, which are its own where it
// has most: 4096 a second. And where more than 131,072 frames a second are dropped that one queue of it receives, the switch
// reads that queue only now and then, so that the rest is lost at the device.
//
// There is no spanning tree: joined twice with another switch or hub, it lets frames to groups run in circles for ever, as
// such a pair does on the table, as many as storm control lets pass. Frames of the protocols that concern one link alone
// (01-80-C2-00-00-01 to -0F: pause, link aggregation, LLDP) are dropped, those of spanning trees are passed on, so that
// others may see the circle.
//
// NewSwitch makes one, and Close ends it. All methods may be called at any time.
type Switch struct{ bridge }

// NewSwitch makes a switch without ports.
func NewSwitch(c SwitchConfig) *Switch {
	if c.Age <= 0 {
		c.Age = defaultAge
	}
	if c.Stations <= 0 {
		c.Stations = defaultStations
	}
	if c.Storm == 0 {
		c.Storm = defaultStorm
	}
	s := new(Switch)
	s.start, s.trace, s.storm = time.Now(), c.Trace, c.Storm
	s.stations = &stations{limit: c.Stations, age: c.Age, m: map[stationKey]*station{}}
	return s
}

// A Station is an entry of a Switch's table.
type Station struct {
	Addr   ethernet.Addr
	VLAN   uint16
	Port   *Port
	Age    time.Duration // since it was heard, to about a second
	Pinned bool          // put there by PortConfig.Pinned
}

// Stations lists the table, in no order, as it is at the beginning of the listing.
func (s *Switch) Stations() iter.Seq[Station] {
	return func(yield func(Station) bool) {
		for _, e := range s.stations.all(s.now()) {
			if !yield(e) {
				return
			}
		}
	}
}

// A Hub repeats each frame that comes to a port to all others, as a cable that has many ends. It knows no VLANs, and
// nobody is unheard there: who listens at one port sees what all the others say.
//
// What is said of a Switch of full ports, MTUs, super-segments and circles is true of a Hub as well. But it has no storm
// control: whoever floods it floods everybody, and full queues are all that bounds it.
type Hub struct{ bridge }

// HubConfig describes a Hub.
type HubConfig struct {
	// Trace, if it is not nil, hears what becomes of each frame, as SwitchConfig.Trace.
	Trace func(*FrameEvent)
}

// NewHub makes a hub without ports.
func NewHub(c HubConfig) *Hub {
	h := new(Hub)
	h.start, h.trace = time.Now(), c.Trace
	return h
}
