//go:build !race

package tcp

import (
	"testing"
	"time"
)

// TestListenAllocs: a flood allocates nothing, whatever its segments are.
func TestListenAllocs(t *testing.T) {
	l := testListener(1)
	l.Arrive(0, testFlow(1), peerSYN(), listenConfig)
	f, own := testFlow(2), testFlow(1)
	for name, s := range map[string]*Segment{
		"cookie":         peerSYN(),
		"forged cookie":  {Seq: 301, Ack: 8, Flags: ACK},
		"reset":          {Seq: 301, Flags: RST},
		"SYN again":      peerSYN(),
		"out of window":  {Seq: 3, Flags: ACK, Options: Options{HasTimestamps: true, TSVal: 80}},
		"acknowledgment": {Seq: 301, Ack: 9, Flags: ACK, Options: Options{HasTimestamps: true, TSVal: 80}},
	} {
		f := f
		if name == "SYN again" || name == "out of window" || name == "acknowledgment" {
			f = own
		}
		var now time.Duration
		if n := testing.AllocsPerRun(100, func() {
			now += time.Second
			l.Arrive(now, f, s, listenConfig)
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
	w := TimeWaitRecord{rcvNxt: 301}
	if n := testing.AllocsPerRun(100, func() { w.Arrive(0, &Segment{Seq: 300, Flags: FIN | ACK}) }); n != 0 {
		t.Errorf("TIME-WAIT: %v allocations, want 0", n)
	}
}
