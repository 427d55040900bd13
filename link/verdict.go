package link

import (
	"fmt"
	"time"
)

// Verdict is what becomes of a frame in a Switch or a Hub.
type Verdict uint8

// The verdicts. Those up to Reserved are about a frame that has come to a port, the others about one that was to leave by
// it, and a frame that goes to several ports may get one at each of them.
const (
	Forwarded Verdict = iota // sent to the one port where its station is
	Flooded                  // sent to all other ports
	Filtered                 // its station is at the port that it came from: nothing to do
	Malformed                // dropped: shorter than a header, or the source is no station's address
	WrongVLAN                // dropped: of a VLAN that the port has nothing to do with
	Spoofed                  // dropped: the source is pinned to another port
	Storm                    // dropped: more came to the port for several others than SwitchConfig.Storm allows
	Reserved                 // dropped: the destination is for one link alone
	Sent                     // taken by the port's device
	Full                     // dropped: the port's device had no room
	TooLong                  // dropped: longer than the port's MTU
	Uncut                    // dropped: a super-segment that the device does not take, and that cannot be cut
	Down                     // dropped: the port's link is down, or its device closed
	Failed                   // dropped: the device's Write returned an error
	NestedTag                // dropped: without its own tag it would pass for one of another VLAN
	Moved                    // a station was heard at this port that was at another: not about a frame
	Evicted                  // a station at this port was forgotten to make room: not about a frame
	Unlearnt                 // a station heard at this port was not noted, as too many had just been: not about a frame

	verdicts
)

// String is the verdict in a word or two.
func (v Verdict) String() string {
	names := [verdicts]string{"forwarded", "flooded", "filtered", "malformed", "wrong VLAN", "spoofed", "storm", "reserved", "sent", "full",
		"too long", "uncut", "down", "failed", "nested tag", "moved", "evicted", "unlearnt"}
	if v < verdicts {
		return names[v]
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// FrameEvent tells of a frame in a Switch or a Hub: once when it comes to a port, where Verdict says which way it takes, and
// once more for each port that it leaves by, or is dropped at: for a super-segment that is cut, once for each piece. It and what it points to belong to the switch: copy what is
// to be kept.
type FrameEvent struct {
	At      time.Duration // since the switch was made
	Verdict Verdict
	In      *Port  // where it came from
	Out     *Port  // where it goes: nil where it goes to none, or to all
	VLAN    uint16 // that it is of
	Frame   []byte // as it came; where it is a super-segment, the whole of it
}

// PortStats counts what has passed a port. A super-segment counts as one frame.
type PortStats struct {
	FramesIn, OctetsIn   uint64 // read from the device
	FramesOut, OctetsOut uint64 // taken by the device

	// Of the frames read: each is counted in FramesIn and in one of these.
	Forwarded, Flooded, Filtered, Malformed, WrongVLAN, Spoofed, Storm, Reserved uint64
	// Of those that were to leave by this port, and did not.
	Full, TooLong, Uncut, Down, Failed, NestedTag uint64

	Stations       int    // in the table now that were heard at this port
	Moved, Evicted uint64 // stations that came from another port; that were forgotten while they were here, to make room
	Unlearnt       uint64 // frames whose source was not noted, as more stations had just come than the table exchanges in a second
}

// Stats counts what has passed the port so far.
func (p *Port) Stats() PortStats {
	n := func(v Verdict) uint64 { return p.counters[v].Load() }
	s := PortStats{
		FramesIn: p.in.frames.Load(), OctetsIn: p.in.octets.Load(),
		FramesOut: p.out.frames.Load(), OctetsOut: p.out.octets.Load(),
		Forwarded: n(Forwarded), Flooded: n(Flooded), Filtered: n(Filtered), Malformed: n(Malformed),
		WrongVLAN: n(WrongVLAN), Spoofed: n(Spoofed), Storm: n(Storm), Reserved: n(Reserved),
		Full: n(Full), TooLong: n(TooLong), Uncut: n(Uncut), Down: n(Down), Failed: n(Failed), NestedTag: n(NestedTag),
		Moved: n(Moved), Evicted: n(Evicted), Unlearnt: n(Unlearnt),
	}
	if t := p.bridge.stations; t != nil {
		s.Stations = t.count(p)
	}
	return s
}

func (p *Port) count(v Verdict, n int) { p.counters[v].Add(uint64(n)) }
