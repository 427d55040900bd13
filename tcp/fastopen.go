package tcp

import "time"

// This file is TCP Fast Open, RFC 7413: text goes with the SYN, where a cookie says that the client has been at its address
// before, and the server reads it and may answer before the handshake ends. A SYN that is duplicated by the network can bring
// its text to the user twice, which is why both ends ask for it by name (§6.1).

// maxCookie: RFC 7413 §4.1.1, the option has up to 18 octets, two of which are its kind and its length.
const maxCookie = 16

// FastOpenCookie is what a server gives to a client as a sign that it can be reached: 4 to 16 octets, of which only the server
// knows the meaning (RFC 7413 §4.1.1). The zero value is none.
type FastOpenCookie struct {
	n uint8
	b [maxCookie]byte
}

// NewFastOpenCookie is b as a cookie, or none where RFC 7413 §4.1.1 allows no cookie of that length: 4 to 16 octets, even.
func NewFastOpenCookie(b []byte) (c FastOpenCookie) {
	if len(b) >= 4 && len(b) <= maxCookie && len(b)%2 == 0 {
		c.n = uint8(copy(c.b[:], b))
	}
	return c
}

// Len is how many octets the cookie has; 0: there is none.
func (c *FastOpenCookie) Len() int { return int(c.n) }

// AppendTo appends the cookie's octets to b.
func (c *FastOpenCookie) AppendTo(b []byte) []byte { return append(b, c.b[:c.n]...) }

// FastOpenOutcome is what became of a SYN with the option.
type FastOpenOutcome struct {
	Cookie   FastOpenCookie // that the SYN-ACK brought; none: it brought none
	MSS      int            // that it named, for TCB.FastOpen the next time
	Sent     int            // octets of text that went with the SYN
	Acked    int            // of those, how many the SYN-ACK acknowledged
	TimedOut bool           // the SYN had to go again, without the option: something on the path may have dropped it
}

// fastOpen is what an opening connection remembers of it.
type fastOpen struct {
	FastOpenOutcome
	offer FastOpenCookie // that our SYN, or our SYN-ACK, carries
	mss   int            // the peer's, of the last time; 0: unknown
	over  bool           // the handshake is
}

// FastOpen has the SYN of an active OPEN carry the cookie, and of what is written by then as much as goes into one packet;
// without a cookie the SYN asks for one. mss is the peer's as it was when it gave the cookie, or 0. It is called before the
// first Next. A SYN that has to go again goes without.
func (t *TCB) FastOpen(cookie FastOpenCookie, mss int) {
	if t.state == SynSent && t.snd.nxt == t.snd.iss {
		t.opening = &fastOpen{offer: cookie, mss: mss}
	}
}

// FastOpened tells, once, what became of FastOpen, and is false until the handshake is over or the connection has ended.
func (t *TCB) FastOpened() (o FastOpenOutcome, ok bool) {
	f := t.opening
	if f == nil || !f.over && t.state != Closed {
		return o, false
	}
	t.opening = nil
	f.TimedOut = t.snd.synAgain
	return f.FastOpenOutcome, true
}

// fillSYN puts text on a SYN whose options are filled in.
func (t *TCB) fillSYN(s *Segment) {
	f := t.opening
	mss := orDefault(f.mss, orDefault(int(t.c.DefaultMSS), defaultMSS))
	room := max(min(mss, int(t.mtu)-HeaderLen), minMSS) - s.Options.Len()
	f.Sent = min(t.sendq.end.From(t.sendq.start), max(room, 0))
	s.Text = t.sendq.views(s.Text, t.sendq.start, f.Sent)
}

// fastAnswered takes the SYN-ACK that answers a SYN of ours. What it does not acknowledge of the SYN's text is sent again at
// once, RFC 7413 §4.2.1, as if it had not been; so it is no new text to ECN.
func (t *TCB) fastAnswered(a *arrival) {
	f := t.opening
	f.over = true
	f.MSS, f.Cookie = int(t.snd.peerMSS), a.Options.Cookie
	if t.snd.nxt.Less(a.Ack) {
		t.snd.nxt, t.snd.fast = a.Ack, true
		f.Acked = a.Ack.From(t.snd.iss + 1)
	}
	if f.Acked < f.Sent {
		t.ecn &^= ecnSends
	}
}

// sentBySYN is how many octets of text our SYN carried.
func (t *TCB) sentBySYN() Seq {
	if t.opening == nil {
		return 0
	}
	return Seq(t.opening.Sent)
}

const (
	// fastOpenLen is the length of our cookies, as on Linux: 64 bits are as hard to guess as RFC 7413 §4.1.2 asks for.
	fastOpenLen = 8
	// fastOpenPeriod is how long the key of cookies serves. A cookie holds in the period that made it and in the next one.
	fastOpenPeriod = time.Hour
	// fastOpenIndex tells a Fast Open cookie from a SYN cookie, whose index has four bits.
	fastOpenIndex = 0xff
)

// fastCookie is the cookie of a client in a period. RFC 7413 §4.1.2: it is bound to the client's address, and a message
// authentication code that nobody else can make.
func (l *Listener) fastCookie(f *Flow, period uint32) FastOpenCookie {
	sum := l.mac(&Flow{Local: f.Local, Remote: f.Remote, Zone: f.Zone}, 0, period, fastOpenIndex, 0)
	return NewFastOpenCookie(sum[:fastOpenLen])
}

// arriveFast takes a SYN with the option, where Fast Open is on. A cookie that holds makes the connection at once, in
// SYN-RECEIVED, with the text of the SYN. Else t is nil, and offer is what the SYN-ACK is to carry: RFC 7413 §4.2.2, a cookie
// where there was none that holds, and nothing where only the room is lacking.
func (l *Listener) arriveFast(now time.Duration, f *Flow, s *Segment, c *Config) (t *TCB, offer FastOpenCookie) {
	period := uint32(now / fastOpenPeriod)
	fresh := l.fastCookie(f, period)
	valid := s.Options.Cookie == fresh
	if valid {
		fresh = FastOpenCookie{}
	} else if period > 0 && s.Options.Cookie.n == fastOpenLen {
		valid = s.Options.Cookie == l.fastCookie(f, period-1)
	}
	if !valid || l.fastFull {
		return nil, fresh
	}
	iss, offset := l.iss(now, f)
	t = Accept(now, iss, s, c)
	t.SetTSOffset(offset)
	t.snd.fast = true
	t.set(timerUser, now+heldTimeout)
	if fresh.n > 0 {
		t.opening = &fastOpen{offer: fresh}
	}
	if a := (arrival{Segment: s, seq: s.Seq + 1, len: s.TextLen()}); a.len > 0 {
		t.storeNext(now, &a, minSeq(a.seq+Seq(a.len), t.rcv.edge))
	}
	return t, fresh
}

// SetFastFull tells whether there is room for one more connection that a SYN with a Fast Open cookie makes and whose handshake
// is not complete. RFC 7413 §5.1 has the number of those limited, and counts one that was reset for a while more, as
// somebody may have stolen the cookie. While there is no room, such a SYN begins an ordinary handshake.
func (l *Listener) SetFastFull(full bool) { l.fastFull = full }
