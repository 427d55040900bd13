package tcp

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// A SYN cookie is an ISS from which a connection can be made without having kept its SYN (RFC 4987 §3.6). From the top:
//
//	27 bits  SHA-256 over the secret, the flow, IRS, the period's number, the MSS index and the other options
//	 1 bit   the lowest of the period's number
//	 4 bits  index into cookieMSS
//
// The other options stand in the low bits of the SYN-ACK's TSval, which the peer echoes, so that nothing is lost where
// it has timestamps. Where it has none, neither window scale nor SACK is agreed on:
//
//	 1 bit   SACK-permitted
//	 4 bits  window scale, 15 for none
//
// Of the 2³² acknowledgements that a blind attacker may send, 16 MSS values in 2 periods hold: one in 2²⁷.

// cookiePeriod is how long a secret period lasts. A cookie holds in the period that made it and in the next one, so
// for 64 s at least and 128 s at most. That is longer than a SYN-ACK's retransmissions take: 63 s.
const cookiePeriod = 64 * time.Second

const (
	cookieMSSBits   = 4
	cookieMSSMask   = 1<<cookieMSSBits - 1
	cookieParity    = 1 << cookieMSSBits
	cookieMACMask   = ^uint32(cookieParity | cookieMSSMask)
	cookieSACK      = 1 << 4
	cookieStampMask = 1<<5 - 1 // 32 ms of a timestamp clock of 1 ms
	cookieHasStamp  = 1 << 5   // never sent: it keeps a MAC made with timestamps apart from one without
)

// cookieMSS are the MSS values that a cookie remembers; the peer's is rounded down to one. 0: none was named. The
// others are those of links in use: RFC 9293 §3.7.1's defaults; IPv4 and IPv6 over Ethernet, with PPPoE and inside
// tunnels; 9000 octets; and the loopback's.
var cookieMSS = [1 << cookieMSSBits]uint16{0, 64, 216, 536, 1024, 1220, 1300, 1340, 1360, 1380, 1420, 1440, 1452, 1460, 8940, 65475}

func cookieMSSIndex(mss uint16) uint32 {
	if mss == 0 {
		return 0
	}
	i := len(cookieMSS) - 1
	for i > 1 && cookieMSS[i] > mss {
		i--
	}
	return uint32(i)
}

// cookieOptions puts what a SYN offered beside the MSS into six bits.
func cookieOptions(h *handshake) uint32 {
	if !h.ts {
		return 0
	}
	o := cookieHasStamp | uint32(h.scale)
	if h.sack {
		o |= cookieSACK
	}
	return o
}

// mac is a message authentication code. All that is hashed has one length, so a plain prefix is a sound key.
func (l *Listener) mac(f *Flow, irs Seq, period, index, options uint32) [sha256.Size]byte {
	b := make([]byte, 0, 96) // 82 are used
	b = append(b, l.c.Secret[:]...)
	b = append(b, f.Local[:]...)
	b = append(b, f.Remote[:]...)
	b = binary.BigEndian.AppendUint16(b, f.LocalPort)
	b = binary.BigEndian.AppendUint16(b, f.RemotePort)
	b = binary.BigEndian.AppendUint32(b, f.Zone)
	b = binary.BigEndian.AppendUint32(b, uint32(irs))
	b = binary.BigEndian.AppendUint32(b, period)
	b = append(b, byte(index), byte(options))
	return sha256.Sum256(b)
}

// sign makes a cookie.
func (l *Listener) sign(f *Flow, irs Seq, period, index, options uint32) Seq {
	sum := l.mac(f, irs, period, index, options)
	return Seq(binary.BigEndian.Uint32(sum[:])&cookieMACMask | period<<cookieMSSBits&cookieParity | index)
}

func cookiePeriodAt(now time.Duration) uint32 { return uint32(now / cookiePeriod) }

// cookie answers a SYN of which nothing will be kept.
func (l *Listener) cookie(now time.Duration, f *Flow, s *Segment, c *Config) Segment {
	var h handshake
	h.read(s)
	_, h.tsOffset = l.iss(now, f)
	if c.NoTimestamps {
		h.ts = false
	}
	if !h.ts {
		h.scale, h.sack = noScale, false
	}
	h.ecn = false // there is no room to remember it
	o := cookieOptions(&h)
	h.iss = l.sign(f, h.irs, cookiePeriodAt(now), cookieMSSIndex(h.mss), o)
	l.cookiesUntil = now + 2*cookiePeriod
	reply := h.synAck(now, c)
	if h.ts {
		// The time is put back, never forward: RFC 7323 §5.3 has the peer drop what comes with a smaller timestamp later.
		v := reply.Options.TSVal
		reply.Options.TSVal = v - (v-o)&cookieStampMask
	}
	return reply
}

// openCookie reads the handshake out of an acknowledgement, if it acknowledges a cookie that holds. Since IRS is
// taken to stand just before SEG.SEQ, an acknowledgement that was lost is not made good by the text behind a first
// segment that was lost too: RFC 4987 §3.6 knows that cookies have such a price.
func (l *Listener) openCookie(now time.Duration, f *Flow, s *Segment, c *Config) (h handshake, ok bool) {
	iss := s.Ack - 1
	index := uint32(iss) & cookieMSSMask
	period := cookiePeriodAt(now)
	if (period<<cookieMSSBits^uint32(iss))&cookieParity != 0 {
		period--
	}
	var o uint32
	if s.Options.HasTimestamps && !c.NoTimestamps {
		o = cookieHasStamp | s.Options.TSEcr&cookieStampMask
	}
	if l.sign(f, s.Seq-1, period, index, o) != iss {
		return h, false
	}
	h = handshake{iss: iss, irs: s.Seq - 1, mss: cookieMSS[index], window: s.Window, scale: noScale}
	_, h.tsOffset = l.iss(now, f)
	if o != 0 {
		h.ts, h.tsVal = true, s.Options.TSVal
		h.sack = o&cookieSACK != 0
		h.scale = uint8(o & noScale)
	}
	return h, true
}
