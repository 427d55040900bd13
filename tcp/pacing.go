package tcp

import "time"

// This file spaces out what is sent where the congestion control names a rate. A segment is due as long after the one
// before it as that took at the rate; until then Next refuses text, and Deadline says when it will not.

const (
	// pacingSlack is how far the schedule may lag behind: what was due meanwhile goes at once. The owner of many
	// connections rounds a deadline up to a tick of 1 ms, Go's runtime waits in milliseconds as well, and a busy machine
	// doubles that; a rate that is not kept up would be taken for the path's. It is also the burst after a silence.
	pacingSlack = 4 * time.Millisecond
	// quantumTime and maxQuantum: draft-ietf-ccwg-bbr §5.6.3: 1 ms worth, at most 64 KB, at least two packets.
	quantumTime = time.Millisecond
	maxQuantum  = 64 << 10
)

// sendQuantum is C.send_quantum of draft-ietf-ccwg-bbr §5.6.3: how many octets go in one piece at a rate in octets a
// second, for packets of mss octets of text.
func sendQuantum(rate int64, mss int) int {
	n := int64(maxQuantum)
	if rate < maxQuantum*int64(time.Second/quantumTime) {
		n = rate / int64(time.Second/quantumTime)
	}
	return max(int(n), 2*mss)
}

// paced reports whether it is too early for text, and has Deadline say when it is not.
func (t *TCB) paced(now time.Duration) bool {
	if !t.paces || now >= t.snd.departs {
		return false
	}
	t.snd.held = true
	return true
}

// pace notes that n octets leave. draft-ietf-ccwg-bbr §5.6.2: the next departure is the size over the rate later.
func (t *TCB) pace(now time.Duration, n int) {
	wait := maxRTO // a rate of next to nothing does not silence the connection for good
	if rate := t.cc.Pacing(); rate > 0 {
		wait = time.Duration(min(float64(n)*float64(time.Second)/float64(rate), float64(maxRTO)))
	}
	t.snd.departs = max(t.snd.departs, now-pacingSlack) + wait
}

// quantum is how much of n octets goes in one segment.
func (t *TCB) quantum(n int) int {
	if t.paces {
		return min(n, sendQuantum(t.cc.Pacing(), t.textMSS()))
	}
	return n
}
