package link

const (
	// yieldDivisor and yieldStep: with a half and a whole batch, a connection beside a flood by the same wire kept 0.4 to 0.6
	// of its rate on two cores, with these 0.5 to 0.7.
	yieldDivisor = 4
	yieldStep    = relayBatch / 4
)

// A yield keeps a port that sends more than another port can take from having all of that one's queue, of which who sends
// little would lose as large a part. What a port with a backlog sends between two rests (restFor) goes down to a quarter when
// something of it finds no room, and else grows by a few frames, as TCP's window would; meanwhile its frames wait in its own
// queue, and the one that it shares is rarely full.
type yield struct {
	refused   int // of the batch at hand, frames for which there was no room
	sent      int // since the last rest
	allowance int // how many may be sent from one rest to the next; 0: any number
}

// rest reports, after a batch of n, whether it is time to rest.
func (y *yield) rest(n int) bool {
	y.sent += n
	switch {
	case n < relayBatch: // there is no backlog
		y.allowance, y.sent = 0, 0
		return false
	case y.refused > 0:
		y.allowance = max(y.sent/yieldDivisor, relayBatch)
	case y.allowance == 0 || y.sent < y.allowance:
		return false
	default:
		y.allowance += yieldStep
	}
	y.sent = 0
	return true
}
