package tcp

import "time"

// prr is Proportional Rate Reduction, RFC 9937: how many octets each acknowledgement lets go during a recovery, so that
// what is in flight comes down to the slow-start threshold evenly, and no loss of acknowledgements or of more text makes
// a burst.
type prr struct {
	got  int // prr_delivered: octets delivered since the recovery began
	out  int // prr_out: octets sent since
	base int // RecoverFS: octets in flight when it began
	room int // sndcnt, less what was sent since: octets that may be sent now

	at time.Duration // when the last acknowledgement came
}

// begin is the initialisation of RFC 9937 §6.1: what SACK had reported before this acknowledgement is no part of RecoverFS,
// for it will not count as delivered. total and sacked are the scoreboard's, the acknowledgement in d taken in.
func (p *prr) begin(d *delivery, total, sacked int) {
	*p = prr{base: max(total-sacked+d.octets, 1)}
}

// delivered is what RFC 9937 §6.2 does on every acknowledgement in recovery. pipe is what is in flight now.
func (p *prr) delivered(d *delivery, pipe, ssthresh, mss int) {
	// Acknowledgements that come together, and are answered together, let go what each would by itself: what the one before
	// allows counts as sent. Two for two retransmissions would else allow two again, and a flight that was lost as a whole
	// would be repaired two packets a round trip.
	ahead := 0
	if p.at == d.now {
		ahead = p.room
	}
	p.got, p.at = p.got+d.octets, d.now
	if pipe > ssthresh {
		p.room = int((int64(p.got)*int64(ssthresh)+int64(p.base)-1)/int64(p.base)) - p.out
	} else {
		p.room = ahead + max(p.got-p.out-ahead, d.octets)
		// RFC 9937 §4: SafeACK is true when SND.UNA advances and the acknowledgement indicates no further loss.
		if d.advanced && d.lost == 0 {
			p.room += mss
		}
		p.room = min(ssthresh-pipe, p.room)
	}
	p.room = max(p.room, 0)
	if p.out == 0 && p.room < mss {
		p.room = mss // a fast retransmit begins every recovery
	}
}

// send notes that n octets were sent.
func (p *prr) send(n int) {
	p.out += n
	p.room = max(p.room-n, 0)
}
