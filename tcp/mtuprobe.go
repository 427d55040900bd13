package tcp

import "time"

// This file finds out by itself what packets the path carries, where routers drop what is too long and say nothing, or what
// they say is lost: RFC 4821, as Linux does with tcp_mtu_probing=1. As long as a full-sized segment gets through, none of it
// is in use.

const (
	// searchBase is the MSS to fall back to, for IPv4: RFC 4821 §7.2 begins to search with packets of 1,024 octets, and
	// Linux's tcp_base_mss with an MSS of that. For IPv6 it is what every link carries, Config.DefaultMSS.
	searchBase = 1024
	// searchStep is how near the two ends come before the search is over: Linux's tcp_probe_threshold.
	searchStep = 8
	// searchAgain is when it begins anew, as the path may have changed: Linux's tcp_probe_interval.
	searchAgain = 10 * time.Minute
	// searchBehind is how many segments must follow a probe, so that SACK tells at once that it alone is lost: what RFC
	// 4821 §7.4 calls enough pending data.
	searchBehind = 3
)

// mtuSearch is what is known of the path's packets since a black hole was found, as MSS: text and options.
type mtuSearch struct {
	low, high uint16        // the largest that passed, and that may pass
	size      uint16        // of the probe that is under way; 0: none is
	tried     bool          // whether high itself was
	from, to  Seq           // where the probe's text stands
	at        time.Duration // no probe before
}

// limitMSS is the MSS that the peer and the path, as far as it speaks, allow.
func (t *TCB) limitMSS() int {
	return max(min(int(t.snd.peerMSS), int(t.mtu)-HeaderLen), minMSS)
}

// blackHole looks at a retransmission timeout: is it because segments are too long? R1 timeouts in a row are taken for that,
// and from then on each halves them again.
func (t *TCB) blackHole() {
	if m := t.search; m != nil && m.size != 0 {
		m.failed()
	}
	if t.snd.retries < retriesR1 || !t.sending() {
		return
	}
	to, floor := searchBase, minMSS
	if t.c.DefaultMSS > defaultMSS {
		to, floor = int(t.c.DefaultMSS), int(t.c.DefaultMSS)
	}
	if m := t.search; m != nil {
		to = max(min(to, int(m.low)/2), floor)
	}
	first := min(minSeq(t.snd.nxt, t.sendq.end).From(t.snd.una), t.textMSS()) + int(t.snd.mss) - t.textMSS()
	if first <= to {
		return // what is lost is short already
	}
	// An outage looks the same. So the first probe is of the old size, and where that passes nothing is left of all this.
	t.search = &mtuSearch{low: uint16(to), high: uint16(t.limitMSS())}
	t.resize()
}

// resize takes over what the search has found.
func (t *TCB) resize() {
	t.sizeMSS()
	if t.cc != nil {
		t.cc.SetMSS(t.textMSS())
	}
}

// nextSearch is a probe: new text in one packet that is longer than any that is known to pass. Where only the congestion
// window has no room for it yet, what is in flight is waited for.
func (t *TCB) nextSearch(now time.Duration, s *Segment, queued int) (sent, wait bool) {
	m := t.search
	if m.size != 0 || now < m.at || t.board == nil || t.board.lost > 0 || t.snd.recovering || t.snd.retries > 0 {
		return false, false
	}
	limit := uint16(t.limitMSS())
	if m.high = min(m.high, limit); int(m.high) < int(m.low)+searchStep {
		m.at, m.high, m.tried = now+searchAgain, limit, false // RFC 4821 §7.3: later the path may carry more
		return false, false
	}
	size := m.high
	if m.tried {
		size = uint16((int(m.low) + int(m.high) + 1) / 2)
	}
	text := int(size) - int(t.snd.mss) + t.textMSS()
	if o := t.options(now); o.Blocks > 0 {
		return false, false // they would take room
	}
	need := text + searchBehind*t.textMSS()
	if queued < need || t.usable() < need || t.congestion(now).Window() < need {
		return false, false
	}
	if t.room(now) < text || t.paced(now) {
		return false, t.snd.una != t.snd.nxt
	}
	t.header(now, s, t.snd.nxt, CauseMTUProbe)
	s.Text = t.sendq.views(s.Text, t.snd.nxt, text)
	m.size, m.from, m.to = size, t.snd.nxt, t.snd.nxt+Seq(text)
	t.sentText(now, s)
	return true, false
}

// probeArrived sees whether a probe was acknowledged.
func (t *TCB) probeArrived() {
	m := t.search
	if m.size == 0 || t.snd.una.Less(m.to) {
		return
	}
	m.low, m.size = m.size, 0
	t.resize()
}

// probeLost sees whether a probe is among what was just found lost, and returns how many octets of that it is: they say that
// it was too long, and nothing about congestion, so the congestion window stays (RFC 4821 §7.6.2).
func (t *TCB) probeLost() int {
	m, b := t.search, t.board
	if m.size == 0 {
		return 0
	}
	if r := b.at(b.find(m.from)); r == nil || r.fate&fateLost == 0 {
		return 0
	}
	m.failed()
	t.snd.cause = CauseMTU
	return m.to.From(m.from)
}

// failed notes that the probe did not pass.
func (m *mtuSearch) failed() {
	m.tried, m.high, m.size = true, m.size-1, 0
}
