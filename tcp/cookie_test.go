package tcp

import (
	"testing"
	"time"
)

// cookieListener keeps nothing but cookies.
func cookieListener() *Listener { return testListener(-1) }

// TestC123CookieKeepsOptions: RFC 4987 §3.6, with timestamps for what does not fit.
func TestC123CookieKeepsOptions(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    Options
		want Info
	}{
		{"all", Options{MSS: 1460, HasScale: true, WindowScale: 14, SACKPermitted: true, HasTimestamps: true},
			Info{PeerMSS: 1460, Scaled: true, SndScale: 14, SACK: true, Timestamps: true}},
		{"a scale of 0", Options{MSS: 1440, HasScale: true, SACKPermitted: true, HasTimestamps: true},
			Info{PeerMSS: 1440, Scaled: true, SACK: true, Timestamps: true}},
		{"C75 a scale of 15", Options{MSS: 8960, HasScale: true, WindowScale: 15, HasTimestamps: true},
			Info{PeerMSS: 8940, Scaled: true, SndScale: 14, Timestamps: true}},
		{"no scale", Options{MSS: 1461, SACKPermitted: true, HasTimestamps: true},
			Info{PeerMSS: 1460, SACK: true, Timestamps: true}},
		{"nothing but timestamps", Options{MSS: 1, HasTimestamps: true}, Info{PeerMSS: 64, Timestamps: true}},
		{"no timestamps", Options{MSS: 535, HasScale: true, WindowScale: 7, SACKPermitted: true}, Info{PeerMSS: 216}},
		{"the largest MSS", Options{MSS: 65535}, Info{PeerMSS: 65475}},
		{"no MSS", Options{HasTimestamps: true}, Info{PeerMSS: 536, Timestamps: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for ms := range 40 { // the low bits of the clock are given up for the options
				now := time.Minute + time.Duration(ms)*time.Millisecond
				l, f := cookieListener(), testFlow(1)
				syn := &Segment{Seq: peerISS, Flags: SYN, Window: 65000, Options: tc.o}
				sa, c, e := l.Arrive(now, f, syn, listenConfig)
				if sa.Flags != SYN|ACK || sa.Ack != 301 || c != nil || e != 0 || l.Len() != 0 {
					t.Fatalf("SYN: answer %q, %v, event %v, %d half-open", answerOf(sa), c, e, l.Len())
				}
				if off := int32(uint32(now/time.Millisecond) + 5000 - sa.Options.TSVal); tc.o.HasTimestamps && (off < 0 || off > 31) {
					t.Errorf("TSval is %d ms behind the clock, want 0 to 31 (RFC 7323 §5.3)", off)
				}
				if o := sa.Options; !tc.o.HasTimestamps && (o.HasScale || o.SACKPermitted || o.HasTimestamps) {
					t.Fatalf("the SYN-ACK offers %+v, which the cookie does not remember", o)
				}
				if _, ok := l.Deadline(); ok {
					t.Error("a timer runs for a cookie")
				}
				_, c, e = l.Arrive(now, f, peerACK(sa), listenConfig)
				if c == nil || !e.Has(Opened) {
					t.Fatalf("the acknowledgement opens nothing: dropped for %v", e.Drop())
				}
				i := c.Info()
				got := Info{PeerMSS: i.PeerMSS, Scaled: i.Scaled, SndScale: i.SndScale, SACK: i.SACK, Timestamps: i.Timestamps}
				if got != tc.want || i.State != Established || i.RcvNxt != 301 || i.SndNxt != sa.Seq+1 {
					t.Fatalf("connection %+v, want %+v", i, tc.want)
				}
			}
		})
	}
}

// TestA2CookieForged: A2. Whatever the cookie is bound to is changed, one at a time.
func TestA2CookieForged(t *testing.T) {
	for _, tc := range []struct {
		name  string
		forge func(l *Listener, f *Flow, s *Segment)
	}{
		{"acknowledgement", func(_ *Listener, _ *Flow, s *Segment) { s.Ack += 1 << 9 }},
		{"MSS", func(_ *Listener, _ *Flow, s *Segment) { s.Ack = (s.Ack - 1 ^ 1) + 1 }},
		{"period", func(_ *Listener, _ *Flow, s *Segment) { s.Ack = (s.Ack - 1 ^ cookieParity) + 1 }},
		{"sequence number", func(_ *Listener, _ *Flow, s *Segment) { s.Seq++ }},
		{"local address", func(_ *Listener, f *Flow, _ *Segment) { f.Local[15]++ }},
		{"remote address", func(_ *Listener, f *Flow, _ *Segment) { f.Remote[0]++ }},
		{"local port", func(_ *Listener, f *Flow, _ *Segment) { f.LocalPort++ }},
		{"remote port", func(_ *Listener, f *Flow, _ *Segment) { f.RemotePort++ }},
		{"interface", func(_ *Listener, f *Flow, _ *Segment) { f.Zone++ }},
		{"secret", func(l *Listener, _ *Flow, _ *Segment) { l.c.Secret[31]++ }},
		{"options", func(_ *Listener, _ *Flow, s *Segment) { s.Options.TSEcr ^= cookieSACK }},
		{"timestamps taken out", func(_ *Listener, _ *Flow, s *Segment) { s.Options = Options{} }},
		{"SYN, ACK", func(_ *Listener, _ *Flow, s *Segment) { s.Flags |= SYN }},
		{"nothing", func(*Listener, *Flow, *Segment) {}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, f := cookieListener(), testFlow(1)
			sa, _, _ := l.Arrive(0, f, peerSYN(), listenConfig)
			s := peerACK(sa)
			tc.forge(l, f, s)
			reply, c, e := l.Arrive(0, f, s, listenConfig)
			if tc.name == "nothing" {
				if c == nil {
					t.Error("the true one opens nothing")
				}
				return
			}
			drop := DropCookie
			if s.Flags.Has(SYN) {
				drop = DropListenACK
			}
			wantDrop(t, e, drop)
			wantAnswer(t, reply, "<SEQ="+s.Ack.String()+"><CTL=RST>")
			if c != nil {
				t.Error("a forged acknowledgement made a connection")
			}
		})
	}
}

// TestA2CookieGuesses: A2. The MAC has at least 24 bits, so that none of 10⁵ guesses is likely to hold.
func TestA2CookieGuesses(t *testing.T) {
	l, f := cookieListener(), testFlow(1)
	l.Arrive(0, f, plainSYN(), listenConfig)
	for n := range Seq(100_000) {
		if _, c, _ := l.Arrive(0, f, &Segment{Seq: 301, Ack: n * 0x9e3779b1, Flags: ACK}, listenConfig); c != nil {
			t.Fatalf("guess %d holds", n)
		}
	}
}

func TestA2CookieAge(t *testing.T) {
	for _, tc := range []struct {
		age  time.Duration
		want bool
	}{{0, true}, {63 * time.Second, true}, {64 * time.Second, true}, {128 * time.Second, false}, {129 * time.Second, false}, {time.Hour, false}} {
		for _, start := range []time.Duration{0, 30 * time.Second, 64 * time.Second} {
			l, f := cookieListener(), testFlow(1)
			sa, _, _ := l.Arrive(start, f, plainSYN(), listenConfig)
			l.Arrive(start+tc.age, testFlow(2), plainSYN(), listenConfig) // so that cookies are about
			if _, c, _ := l.Arrive(start+tc.age, f, peerACK(sa), listenConfig); (c != nil) != tc.want {
				t.Errorf("made at %v, %v old: accepted %v, want %v", start, tc.age, c != nil, tc.want)
			}
		}
	}
}

// TestCookieOnlyAfterOverflow: A2. packetdrill reset_for_ack_when_no_syn_cookies_in_use.
func TestCookieOnlyAfterOverflow(t *testing.T) {
	f := testFlow(1)
	sa, _, _ := cookieListener().Arrive(0, f, plainSYN(), listenConfig)
	l := testListener(1)
	_, c, e := l.Arrive(0, f, peerACK(sa), listenConfig)
	wantDrop(t, e, DropListenACK)
	if c != nil {
		t.Error("a cookie was accepted though none was handed out")
	}
	l.Arrive(0, testFlow(2), plainSYN(), listenConfig) // fills the backlog
	if _, c, _ = l.Arrive(0, f, peerACK(sa), listenConfig); c != nil {
		t.Error("a cookie was accepted though none was handed out")
	}
	l.Arrive(0, testFlow(3), plainSYN(), listenConfig) // gets a cookie
	if _, c, _ = l.Arrive(0, f, peerACK(sa), listenConfig); c == nil {
		t.Error("no cookie was accepted after the overflow")
	}
	forged := &Segment{Seq: 301, Ack: 8, Flags: ACK}
	_, _, e = l.Arrive(2*cookiePeriod-1, f, forged, listenConfig)
	wantDrop(t, e, DropCookie)
	_, _, e = l.Arrive(2*cookiePeriod, f, forged, listenConfig)
	wantDrop(t, e, DropListenACK)
}

// TestCookieFlags: packetimpact tcp_syncookie, for a cookie and for a record.
func TestCookieFlags(t *testing.T) {
	for g := range Flags(64) {
		want := g.Has(ACK) && g&(SYN|RST) == 0
		for _, backlog := range []int{-1, 1} {
			l, f := testListener(backlog), testFlow(1)
			sa, _, _ := l.Arrive(0, f, plainSYN(), listenConfig)
			s := peerACK(sa)
			s.Flags = g
			if _, c, _ := l.Arrive(0, f, s, listenConfig); (c != nil) != want {
				t.Errorf("backlog %d, %v: opened %v, want %v", backlog, g, c != nil, want)
			}
		}
	}
}

func TestCookieFull(t *testing.T) {
	l, f := cookieListener(), testFlow(1)
	sa, _, _ := l.Arrive(0, f, plainSYN(), listenConfig)
	l.SetFull(true)
	reply, c, e := l.Arrive(0, f, peerACK(sa), listenConfig)
	wantAnswer(t, reply, "")
	wantDrop(t, e, DropBacklog)
	l.SetFull(false)
	if _, c2, _ := l.Arrive(0, f, peerACK(sa), listenConfig); c != nil || c2 == nil {
		t.Errorf("connections %v and %v, want none and one", c, c2)
	}
}

// TestCookieBesideRecord: the first SYN got a cookie, the second one a record, and the peer took the cookie.
func TestCookieBesideRecord(t *testing.T) {
	l, f := testListener(1), testFlow(1)
	l.Arrive(0, testFlow(2), plainSYN(), listenConfig)
	sa, _, _ := l.Arrive(0, f, plainSYN(), listenConfig)
	l.Drop(testFlow(2))
	l.Arrive(time.Second, f, plainSYN(), listenConfig)
	if l.Len() != 1 {
		t.Fatalf("%d half-open, want 1", l.Len())
	}
	_, c, _ := l.Arrive(time.Second, f, peerACK(sa), listenConfig)
	if c == nil || l.Len() != 0 {
		t.Errorf("connection %v and %d half-open, want one and none", c, l.Len())
	}
}
