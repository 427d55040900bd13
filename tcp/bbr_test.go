package tcp

import (
	"strings"
	"testing"
	"time"
	"unsafe"
)

// path plays acknowledgements to BBR: each round is 10 of them, over a round trip, that say what the path delivered.
type path struct {
	*bbr
	t     *testing.T
	now   time.Duration
	rtt   time.Duration
	rate  int64 // of the path, in octets a second
	total int64
	steps int
	seen  []string // the states that it went through
}

func onPath(t *testing.T) *path {
	p := &path{bbr: NewBBR(mss).(*bbr), t: t, now: time.Second, rtt: 100 * ms, rate: 1e6, seen: []string{"startup"}}
	p.Start(p.now, p.rtt)
	return p
}

// step plays an acknowledgement, a tenth of a round trip after the one before. As much was sent as pacing and window allow;
// change alters the sample.
func (p *path) step(change func(s *RateSample)) {
	sent := min(p.pacing, int64(float64(p.cwnd)/p.rtt.Seconds()))
	rate := min(sent, p.rate)
	flight := int(float64(sent) * p.rtt.Seconds())
	p.now += p.rtt / 10
	n := int64(float64(rate) * p.rtt.Seconds() / 10)
	p.total += n
	s := RateSample{Acked: int(n), InFlight: flight, RTT: p.rtt, Total: p.total, Interval: p.rtt, Rate: rate, SentInFlight: flight}
	if s.Prior = p.nextRound - 1; p.steps%10 == 0 {
		s.Prior = p.nextRound // the first packet of the next round
	}
	p.steps++
	if change != nil {
		change(&s)
	}
	p.Delivered(p.now, &s)
	if st := p.State(); st != p.seen[len(p.seen)-1] {
		p.seen = append(p.seen, st)
	}
}

// rounds plays n round trips.
func (p *path) rounds(n int, change func(*RateSample)) {
	for range 10 * n {
		p.step(change)
	}
}

// until plays no more than most round trips, up to a state.
func (p *path) until(state string, most int, change func(*RateSample)) {
	p.t.Helper()
	for range 10 * most {
		if p.State() == state {
			return
		}
		p.step(change)
	}
	p.t.Fatalf("%q is not reached in %d rounds: %v", state, most, p.seen)
}

// near reports whether got is want within a share of it.
func near(got, want, share float64) bool { return got >= want*(1-share) && got <= want*(1+share) }

// TestBBRStartup: draft-ietf-ccwg-bbr §5.3.1, §5.3.2: the rate doubles each round until it is the path's, three rounds
// without growth end Startup, and Drain lasts until what is in flight is the BDP.
func TestBBRStartup(t *testing.T) {
	p := onPath(t)
	if want := 2.77 * 10 * mss / 0.1; !near(float64(p.Pacing()), want, 0.01) || p.Window() != 10*mss {
		t.Errorf("the first window of %d is paced at %d, want %v", p.Window(), p.Pacing(), want)
	}
	p.until("drain", 12, nil)
	if p.bw != p.rate || p.Pacing() != int64(0.5*0.99*1e6) {
		t.Errorf("in Drain the rate is %d, pacing %d; want %d and half of it", p.bw, p.Pacing(), p.rate)
	}
	if p.fullCount != 3 {
		t.Errorf("Startup ended after %d rounds without growth, want 3", p.fullCount)
	}
	p.until("probe bandwidth: cruise", 8, nil)
	// DOWN has nothing to drain, and is gone with the acknowledgement that begins it
	if got := strings.Join(p.seen, ", "); got != "startup, drain, probe bandwidth: cruise" {
		t.Errorf("the states were %s", got)
	}
	if bdp := 1e5; p.bdp(1) != int64(bdp) || !near(float64(p.Window()), 2*bdp, 0.3) {
		t.Errorf("BDP %d, window %d; want %v, and about twice that", p.bdp(1), p.Window(), bdp)
	}
}

// TestBBRAppLimited: §5.5.4 and §5.3.1.2: a sample that the user limits neither ends Startup nor lowers the rate.
func TestBBRAppLimited(t *testing.T) {
	p := onPath(t)
	p.rounds(20, func(s *RateSample) { s.AppLimited, s.Rate = true, 50000 })
	if p.State() != "startup" {
		t.Errorf("20 rounds of a user with little to send, and the state is %s", p.State())
	}
	p = onPath(t)
	p.until("probe bandwidth: cruise", 20, nil)
	for range 200 { // more than two cycles
		p.rounds(1, func(s *RateSample) { s.AppLimited, s.Rate = true, 1000 })
		if p.State() != "probe RTT" && p.bw != p.rate {
			t.Fatalf("at %v in %s the rate fell to %d, want %d as the path showed", p.now, p.State(), p.bw, p.rate)
		}
	}
}

// TestBBRCycle: §5.3.3: DOWN, CRUISE, REFILL, UP, with their gains; a probe comes each two to three seconds, and one
// that finds more is followed.
func TestBBRCycle(t *testing.T) {
	p := onPath(t)
	p.rtt, p.rate = 200*ms, 5e6
	p.Start(p.now, p.rtt)
	p.until("probe bandwidth: cruise", 40, nil)
	if p.Pacing() != int64(0.99*5e6) {
		t.Errorf("in CRUISE pacing is %d, want 0.99 of the rate", p.Pacing())
	}
	began := p.cycleAt
	p.until("probe bandwidth: refill", 30, nil)
	if wait := p.now - began; wait < 2*time.Second || wait > 3200*ms {
		t.Errorf("a probe comes after %v, want two to three seconds", wait)
	}
	p.rate = 6e6 // there is more now
	p.until("probe bandwidth: up", 3, nil)
	if p.Pacing() != int64(1.25*float64(p.bw)*0.99) {
		t.Errorf("in UP pacing is %d, want 1.25 * 0.99 of %d", p.Pacing(), p.bw)
	}
	p.until("probe bandwidth: down", 10, nil)
	if p.bw != 6e6 {
		t.Errorf("after the probe the rate is %d, want 6000000", p.bw)
	}
	if p.Pacing() != int64(0.9*6e6*0.99) {
		t.Errorf("in DOWN pacing is %d, want 0.9 * 0.99 of the rate", p.Pacing())
	}
	p.rate = 3e6 // and now less: after two cycles it is known
	p.rounds(60, nil)
	if p.bw > 3.3e6 {
		t.Errorf("twelve seconds after the path became slower the rate is %d, want about 3000000", p.bw)
	}
}

// TestBBRRenoCoexistence: §5.3.3.6: a small flow probes as often as Reno would have grown by its window.
func TestBBRRenoCoexistence(t *testing.T) {
	p := onPath(t)
	p.rtt = 20 * ms // a BDP of 20 packets
	p.Start(p.now, p.rtt)
	p.until("probe bandwidth: cruise", 40, nil)
	began, round := p.cycleAt, p.round32()
	p.until("probe bandwidth: refill", 70, nil)
	if n := p.round32() - round; n < 10 || n > 25 || p.now-began >= 2*time.Second {
		t.Errorf("a probe comes after %d rounds and %v, want about 20 rounds", n, p.now-began)
	}
}

func (p *path) round32() uint32 { return p.bbr.round }

// TestBBRProbeRTT: §5.3.4: where the shortest RTT is 10 s old, the window is half a BDP for 200 ms; then all is as before.
func TestBBRProbeRTT(t *testing.T) {
	p := onPath(t)
	p.until("probe bandwidth: cruise", 20, nil)
	var entered []time.Duration
	before := 0
	for p.now < 65*time.Second {
		was := p.State()
		window := p.Window()
		p.step(nil)
		switch {
		case p.State() == "probe RTT" && was != "probe RTT":
			entered = append(entered, p.now)
			before = window
		case p.State() == "probe RTT" && p.Window() > 5e4:
			t.Errorf("at %v the window is %d, want half of the BDP, 50000", p.now, p.Window())
		case p.State() != "probe RTT" && was == "probe RTT":
			if took := p.now - entered[len(entered)-1]; took < 200*ms || took > 500*ms {
				t.Errorf("it took %v, want 200ms and a round trip or two", took)
			}
			if p.State() != "probe bandwidth: cruise" || p.Window() < before/2 {
				t.Errorf("then the state is %s, the window %d; want CRUISE and %d", p.State(), p.Window(), before)
			}
		}
	}
	if len(entered) < 5 || len(entered) > 6 {
		t.Errorf("ProbeRTT was entered at %v, want each 10s", entered)
	}
	// a shorter round trip puts it off
	p.rtt = 90 * ms
	p.rounds(1, nil)
	if p.minRTT != 90*ms || p.minRTTAt < p.now-p.rtt {
		t.Errorf("the shortest RTT is %v of %v, want 90ms of just now", p.minRTT, p.minRTTAt)
	}
}

// TestBBRIdle: §5.4: after silence the rate is the path's, the window stays, and an expired RTT does not cost a ProbeRTT.
func TestBBRIdle(t *testing.T) {
	p := onPath(t)
	p.until("probe bandwidth: cruise", 20, nil)
	window := p.Window()
	p.now += time.Minute
	p.Idle(p.now)
	p.Restart(p.now)
	if p.Window() != window || p.Pacing() != int64(0.99*1e6) {
		t.Errorf("after idleness the window is %d, pacing %d; want %d and %d", p.Window(), p.Pacing(), window, int64(0.99*1e6))
	}
	p.rounds(1, nil)
	if p.State() == "probe RTT" {
		t.Error("the first round after a minute of silence is a ProbeRTT")
	}
}

// lose plays the loss of n packets out of a flight.
func (p *path) lose(n, flight int) {
	for i := range n {
		p.Lost(p.now, LostRun{Octets: mss, Total: p.total, SentInFlight: flight * mss, SentLost: (i + 1) * mss})
	}
	p.Loss(p.now, Sample{})
}

// TestBBRLossWhileProbing: §5.5.10.2: more than 2 % lost in UP ends it and bounds what may be in flight, but by no more
// than a third; the next probe goes to the bound and no further, and if that was safe, another follows at once.
func TestBBRLossWhileProbing(t *testing.T) {
	p := onPath(t)
	p.until("probe bandwidth: up", 80, nil)
	p.lose(2, 120)
	if p.State() != "probe bandwidth: up" {
		t.Fatalf("two packets of 120 are lost, and the state is %s", p.State())
	}
	p.lose(20, 120)
	if p.State() != "probe bandwidth: down" || !p.tooHigh {
		t.Fatalf("20 of 120 are lost, and the state is %s", p.State())
	}
	if p.inflightLong < 70*mss || p.inflightLong > 125*mss {
		t.Errorf("what may be in flight is %d, want about the 120000 that were, and 0.7 of the BDP at least", p.inflightLong)
	}
	long := p.inflightLong
	p.lose(20, 120)
	if p.inflightLong != long {
		t.Errorf("a second answer to one probe: %d after %d", p.inflightLong, long)
	}
	p.Recovered(p.now)
	p.rounds(1, nil)
	p.until("probe bandwidth: up", 80, nil)
	p.until("probe bandwidth: down", 2, nil)
	if !p.precaution {
		t.Error("the next probe went beyond what was too much")
	}
	p.until("probe bandwidth: up", 4, nil)
	p.rounds(2, nil)
	if p.State() != "probe bandwidth: up" {
		t.Errorf("the probe after the cautious one, which was safe, ended in %s", p.State())
	}
}

// TestBBRRandomLoss: §3.1: 1 % of loss does not take the rate down, and much loss in CRUISE does, to what was delivered,
// until the next probe.
func TestBBRRandomLoss(t *testing.T) {
	p := onPath(t)
	p.until("probe bandwidth: cruise", 20, nil)
	for p.State() == "probe bandwidth: cruise" {
		if p.steps%10 == 5 {
			p.lose(1, 100)
		}
		p.step(nil)
	}
	if p.bwShort != bbrUnbounded || p.bw != p.rate {
		t.Errorf("1 %% of loss takes the rate to %d", p.bw)
	}
	p.until("probe bandwidth: cruise", 80, nil)
	p.rate = 5e5
	for range 3 {
		p.lose(30, 100)
		p.rounds(1, nil)
		p.Recovered(p.now)
	}
	if !near(float64(p.bw), 5e5, 0.1) || p.inflightShort == bbrUnbounded {
		t.Errorf("30 %% of loss, at half of the rate delivered, takes the rate to %d and %d in flight; want about 500000", p.bw, p.inflightShort)
	}
	p.until("probe bandwidth: refill", 80, nil)
	if p.bwShort != bbrUnbounded || p.inflightShort != bbrUnbounded {
		t.Error("REFILL has not forgotten the short-term model")
	}
}

// TestBBRStartupLoss: §5.3.1.3: a round of recovery with much loss in six places ends Startup.
func TestBBRStartupLoss(t *testing.T) {
	p := onPath(t)
	p.rate = 1e9
	p.rounds(1, nil)
	for range 2 {
		p.rounds(1, func(s *RateSample) {
			p.lose(2, 50)
			s.SentLost, s.SentInFlight, s.Recovering = 20*mss, 50*mss, true
		})
	}
	if p.State() == "startup" || p.inflightLong == bbrUnbounded {
		t.Errorf("the state is %s, the bound %d; want Startup to have ended with a bound", p.State(), p.inflightLong)
	}
	p.Undo(p.now)
	if p.State() != "startup" || p.inflightLong != bbrUnbounded || p.fullReached {
		t.Errorf("undone, the state is %s and the bound %d; want Startup without one", p.State(), p.inflightLong)
	}
}

// TestBBRUndo: §5.5.11: a loss that was none gives back window, bounds and state.
func TestBBRUndo(t *testing.T) {
	p := onPath(t)
	p.until("probe bandwidth: up", 80, nil)
	window := p.Window()
	p.lose(20, 120)
	p.rounds(1, func(s *RateSample) { s.Recovering = true })
	p.Undo(p.now)
	if p.State() != "probe bandwidth: refill" || p.inflightLong != bbrUnbounded || p.Window() < window {
		t.Errorf("undone, the state is %s, the bound %d, the window %d; want a probe anew, no bound and %d",
			p.State(), p.inflightLong, p.Window(), window)
	}
	bound := p.inflightLong
	p.Undo(p.now)
	if p.inflightLong != bound {
		t.Error("what was undone is undone again")
	}
}

// TestBBRTimeout: §5.6.4.4: a timeout leaves one packet beside what is in flight, and its end gives the window back.
func TestBBRTimeout(t *testing.T) {
	p := onPath(t)
	p.until("probe bandwidth: cruise", 20, nil)
	window := p.Window()
	p.Lost(p.now, LostRun{Octets: mss, Total: p.total, SentInFlight: 100 * mss, SentLost: mss})
	p.Timeout(p.now, Sample{InFlight: 3 * mss})
	if p.Window() != 4*mss {
		t.Errorf("the window is %d after a timeout with three packets in flight, want four", p.Window())
	}
	p.rounds(1, nil) // which is no recovery any more
	if p.Window() < window*8/10 {
		t.Errorf("the window is %d after all was acknowledged, want about %d", p.Window(), window)
	}
}

// TestBBRBounds: whatever is told, the window and the rate stay in range.
func TestBBRBounds(t *testing.T) {
	if n := unsafe.Sizeof(bbr{}); n > 512 {
		t.Errorf("the state takes %d octets", n)
	}
	p := onPath(t)
	x := uint64(1)
	pick := func(n int64) int64 { x = x*6364136223846793005 + 1442695040888963407; return int64(x>>33) % n }
	for i := range 200000 {
		p.now += time.Duration(pick(int64(300 * ms)))
		n := pick(1 << uint(pick(30)+1))
		p.total += n
		s := RateSample{Acked: int(n), Lost: int(pick(1e6)), InFlight: int(pick(1 << 30)), RTT: time.Duration(pick(int64(10 * time.Second))),
			Total: p.total, Prior: max(p.total-pick(1<<30), -1), Rate: pick(1 << uint(pick(31)+1)), SentInFlight: int(pick(1 << 30)),
			SentLost: int(pick(1 << 20)), AppLimited: pick(5) == 0, WindowLimited: pick(2) == 0, Recovering: pick(3) == 0}
		switch pick(20) {
		case 0:
			p.Lost(p.now, LostRun{Octets: int(pick(1 << 16)), Total: p.total, SentInFlight: int(pick(1 << 30)), SentLost: int(pick(1 << 30))})
		case 1:
			p.Loss(p.now, Sample{})
		case 2:
			p.Timeout(p.now, Sample{InFlight: int(pick(1 << 30))})
		case 3:
			p.Undo(p.now)
		case 4:
			p.Restart(p.now)
		case 5:
			p.SetMSS(int(pick(70000)))
		}
		p.Delivered(p.now, &s)
		if w := p.Window(); w < 1 || w > maxCwnd || p.Pacing() <= 0 {
			t.Fatalf("step %d: window %d, pacing %d in %s", i, w, p.Pacing(), p.State())
		}
	}
}

// TestBBRRaisesBound: §5.3.3.8: a flight without much loss that was larger than the bound raises it, and so does a window
// that is full in UP, by 1, 2, 4 packets a round.
func TestBBRRaisesBound(t *testing.T) {
	p := onPath(t)
	p.until("probe bandwidth: cruise", 20, nil)
	p.inflightLong = 50 * mss
	p.step(func(s *RateSample) { s.SentInFlight, s.SentLost = 90*mss, 20*mss })
	if p.inflightLong != 50*mss {
		t.Errorf("a flight with much loss takes the bound to %d", p.inflightLong)
	}
	p.step(func(s *RateSample) { s.SentInFlight = 90 * mss })
	if p.inflightLong != 90*mss {
		t.Errorf("a flight of 90000 without loss takes the bound to %d", p.inflightLong)
	}
	full := func(s *RateSample) {
		s.WindowLimited, s.InFlight, s.SentInFlight, s.Acked = true, int(p.cwnd), 0, int(p.cwnd/10)
	}
	p.until("probe bandwidth: up", 80, full)
	p.inflightLong = p.cwnd
	var grown []int64
	for range 3 {
		before := p.inflightLong
		for range 10 {
			p.cwnd = p.inflightLong
			p.step(full)
		}
		grown = append(grown, (p.inflightLong-before)/mss)
	}
	if p.State() != "probe bandwidth: up" || grown[0] < 1 || grown[1] <= grown[0] || grown[2] <= grown[1] {
		t.Errorf("in %s the bound grew by %v packets a round, want ever more of them", p.State(), grown)
	}
}
