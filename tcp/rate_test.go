package tcp

import (
	"testing"
	"time"
)

// sampler records the samples that a model gets.
type sampler struct {
	fixed
	samples  []RateSample
	lost     []LostRun
	restarts int
	started  time.Duration
	calls    string
}

func (m *sampler) Start(_, srtt time.Duration) { m.started = srtt }
func (m *sampler) Delivered(_ time.Duration, s *RateSample) {
	m.samples = append(m.samples, *s)
	m.calls += "D"
}
func (m *sampler) Lost(_ time.Duration, l LostRun)   { m.lost = append(m.lost, l); m.calls += "l" }
func (m *sampler) Restart(time.Duration)             { m.restarts++ }
func (m *sampler) Loss(time.Duration, Sample)        { m.calls += "L" }
func (m *sampler) Recovered(time.Duration)           { m.calls += "R" }
func (m *sampler) Timeout(_ time.Duration, s Sample) { m.calls += "T" }
func (m *sampler) Acked(time.Duration, Sample)       { m.calls += "A" }
func (m *sampler) Undo(time.Duration)                { m.calls += "U" }
func (m *sampler) last() RateSample                  { return m.samples[len(m.samples)-1] }
func (s *script) told(una Seq, blocks ...Block) {
	g := Segment{Seq: 301, Ack: una, Flags: ACK, Window: 65535}
	g.Options.Blocks = uint8(copy(g.Options.SACK[:], blocks))
	s.Arrive(s.now, &g)
}

// sampled is a connection with SACK, packets of 1000 octets, and a round trip of 100 ms.
func sampled(t *testing.T) (*script, *sampler) {
	t.Helper()
	m := &sampler{fixed: fixed{window: 20000}}
	c := full()
	c.NoTimestamps = true
	c.Congestion = func(int) Congestion { return m }
	return established(t, c, 65535, Options{MSS: 1000, SACKPermitted: true}), m
}

// TestDeliveryRate: draft-ietf-ccwg-bbr §4.1: a packet each 10 ms, acknowledged one by one after 100 ms: what was
// delivered between a packet's departure and its acknowledgement, over that time.
func TestDeliveryRate(t *testing.T) {
	s, m := sampled(t)
	s.Write(s.now, make([]byte, 60000))
	var g Segment
	m.window = 0
	for range 30 {
		m.window += 1000 // one more packet may be in flight
		if m.window > 10000 {
			s.told(s.snd.una + 1000) // after ten, each is acknowledged as the next one leaves
			m.window = 10000
		}
		if !s.Next(s.now, &g) {
			t.Fatal("nothing leaves")
		}
		s.now += 10 * ms
	}
	r := m.last()
	if m.started != 100*ms {
		t.Errorf("the handshake took %v, want 100ms", m.started)
	}
	if r.Rate != 100000 || r.Interval != 100*ms || r.RTT != 100*ms || r.AppLimited {
		t.Errorf("%+v; want 100000 octets a second over an interval and an RTT of 100ms", r)
	}
	if r.Acked != 1000 || r.Total-r.Prior != 10000 || r.SentInFlight != 10000 || r.InFlight != 9000 {
		t.Errorf("%+v; want 10000 delivered since a packet left as the tenth in flight", r)
	}
	if i := s.Info(); i.DeliveryRate != 100000 || i.MinRTT != 100*ms {
		t.Errorf("Info tells of %d octets a second and %v, want 100000 and 100ms", i.DeliveryRate, i.MinRTT)
	}
}

// TestDeliveryRateCompressedACKs: acknowledgements that come in a lump do not make the path faster than what was sent
// (§4.1.1, send rate).
func TestDeliveryRateCompressedACKs(t *testing.T) {
	s, m := sampled(t)
	s.Write(s.now, make([]byte, 60000))
	var g Segment
	begin := s.now
	m.window = 0
	for range 10 { // a packet each 10 ms
		m.window += 1000
		s.Next(s.now, &g)
		s.now += 10 * ms
	}
	s.now = begin + 189*ms
	s.told(5101) // the fifth left after 40 ms
	m.window = 6000
	s.now = begin + 190*ms
	if !s.Next(s.now, &g) {
		t.Fatal("nothing leaves")
	}
	s.now = begin + 210*ms
	s.told(s.snd.nxt)
	if r := m.last(); r.Interval != 150*ms || r.Total-r.Prior != 6000 || r.Rate != 40000 {
		t.Errorf("%d octets in %v, %d a second; want the 6000 of the 150ms in which they were sent, not of the 21ms in which "+
			"they were acknowledged", r.Total-r.Prior, r.Interval, r.Rate)
	}
}

// TestAppLimitedSamples: §4.1.1: from where the user has nothing to send until that bubble has left the path.
func TestAppLimitedSamples(t *testing.T) {
	s, m := sampled(t)
	send := func(n int) {
		s.Write(s.now, make([]byte, n))
		s.take()
	}
	send(20000) // fills the window, and one packet is left
	s.Write(s.now, make([]byte, 1000))
	s.take()
	s.now += 100 * ms
	s.told(s.snd.una + 10000)
	if m.last().AppLimited {
		t.Error("the window was full, and the sample counts as limited by the user")
	}
	s.take() // the last packet leaves, and there is nothing more
	s.now += 100 * ms
	s.told(s.snd.nxt)
	send(3000)
	s.now += 100 * ms
	s.told(s.snd.nxt)
	if !m.last().AppLimited {
		t.Error("three packets after silence are not limited by the user")
	}
	if m.restarts == 0 {
		t.Error("the model was not told that text follows after silence")
	}
	s.Write(s.now, make([]byte, 60000))
	for range 3 {
		s.take()
		s.now += 100 * ms
		s.told(s.snd.una + 20000)
	}
	if m.last().AppLimited {
		t.Error("two full windows later, samples are limited by the user still")
	}
}

// TestLostRuns: what is found lost is told with what was in flight when it left, before the recovery begins; in recovery
// each delivery is told, and no window is taken from PRR.
func TestLostRuns(t *testing.T) {
	s, m := sampled(t)
	s.Write(s.now, make([]byte, 60000))
	var g Segment
	m.window = 0
	for range 10 {
		m.window += 1000
		s.Next(s.now, &g)
		s.now += ms
	}
	s.now += 90 * ms
	s.told(2101, Block{4101, 5101}) // the third and fourth are missing
	s.told(2101, Block{4101, 8101})
	if m.calls != "DllLD" {
		t.Fatalf("the calls were %s, want DllLD: two runs are lost, a recovery begins, and each delivery is told", m.calls)
	}
	if l := m.lost[1]; l.Octets != 1000 || l.SentInFlight != 4000 || l.SentLost != 2000 || l.Total != 6000 {
		t.Errorf("the second lost packet: %+v; want it as the fourth in flight, 2000 octets lost by now, 6000 delivered", l)
	}
	if r := m.last(); r.Lost != 2000 || !r.Recovering || r.InFlight != 2000 {
		t.Errorf("%+v; want 2000 lost in recovery, and 2000 in flight", r)
	}
	m.window = 5000
	if segs := s.take(); len(segs) != 3 || segs[0].Seq != 2101 || segs[1].Seq != 3101 || segs[2].Seq != 10101 {
		t.Errorf("%v; want the two packets again and a new one: what the window lets, as 2000 are in flight", segs)
	}
	s.now += 100 * ms
	s.told(s.snd.nxt)
	if m.calls != "DllLDRD" || m.last().Recovering {
		t.Errorf("the calls were %s, want the end of the recovery before the last delivery", m.calls)
	}
}

// TestModelTimeout: what is left in flight is known when the model hears of a timeout.
func TestModelTimeout(t *testing.T) {
	s, m := sampled(t)
	s.write(3000)
	for !s.due() {
		s.now, _ = s.Deadline()
		s.Expire(s.now)
		s.take()
	}
	if m.calls != "llT" { // the tail loss probe was the third packet
		t.Errorf("the calls were %s, want what is lost, in two runs, and then the timeout", m.calls)
	}
}

// due reports whether the retransmission timer has expired.
func (s *script) due() bool { return s.snd.backoff > 0 }

// TestModelWantsSACK: without SACK, a connection has CUBIC.
func TestModelWantsSACK(t *testing.T) {
	c := full()
	c.Congestion = NewBBR
	s := established(t, c, 65535, Options{MSS: 1000})
	s.write(1000)
	if i := s.Info(); i.Congestion != "cubic" {
		t.Errorf("without SACK the algorithm is %s, want cubic", i.Congestion)
	}
	s = established(t, c, 65535, Options{MSS: 1000, SACKPermitted: true})
	s.write(1000)
	if i := s.Info(); i.Congestion != "bbr" || i.Phase != "startup" {
		t.Errorf("with SACK the algorithm is %s in %s, want bbr in startup", i.Congestion, i.Phase)
	}
}

// TestCoarseRTT: timestamps of 1 ms are no measure of a shorter path.
func TestCoarseRTT(t *testing.T) {
	s := established(t, full(), 65535, Options{MSS: 1460, SACKPermitted: true, HasTimestamps: true})
	ack := func(una Seq, echo time.Duration) {
		s.Arrive(s.now, &Segment{Seq: 301, Ack: una, Flags: ACK, Window: 65535, Options: Options{
			HasTimestamps: true, TSVal: uint32(s.now / ms), TSEcr: uint32(echo / ms)}})
	}
	s.write(1000)
	s.now += 300 * time.Microsecond
	ack(s.snd.nxt, s.now)
	if s.rtt.min != 300*time.Microsecond {
		t.Fatalf("the shortest round trip is %v, want 300µs", s.rtt.min)
	}
	s.write(1000)
	s.now += 500 * ms // a timeout, and the retransmission is measured by its timestamp
	s.Expire(s.now)
	s.take()
	s.now += 300 * time.Microsecond
	ack(s.snd.nxt, s.now)
	if s.rtt.min != 300*time.Microsecond {
		t.Errorf("the shortest round trip became %v by a timestamp", s.rtt.min)
	}
}
