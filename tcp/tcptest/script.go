package tcptest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// Script plays a trace and ends the test at the first line that does not hold. One end of the connection is real, a TCB
// or a Listener of package tcp in virtual time; the other end is the script, which says what arrives, what must be sent
// and when, what the user calls and what the calls return.
//
//	func TestFastRetransmit(t *testing.T) {
//		tcptest.Script(t, `
//			config Congestion=reno NoSACK=true
//			0     established mss=1000 rtt=100ms       # the handshake, unseen
//			+0    write 4000 = 4000
//			      > .  1:3001(3*1000) ack 1
//			      > P. 3001:4001(1000) ack 1
//			+0.1  < .  1:1(0) ack 1 win 65535          # three duplicates: the first is lost
//			      < .  1:1(0) ack 1 win 65535
//			      < .  1:1(0) ack 1 win 65535
//			      > .  1:1001(1000) ack 1              (fast retransmit)
//			      info Ssthresh=2000`)
//	}
//
// # Lines
//
// A line has a time, and an arrival, a departure or a call. What follows # is a comment. Without a time a line is at the
// instant of the one before it; +0.1 and +100ms are so much later; 0.1 and 100ms are so much after the beginning. Time is
// exact: a departure at +0.2~0.01 alone may be 10 ms early or late, and at * it comes whenever it does.
//
// Each departure must be written down. One that no line expects, before the next arrival or call or at the end, is a
// failure, and so is one that differs in any flag, number, option or the order of options.
//
// # Segments
//
//	< S 0:0(0) win 65535 <mss 1460,sackOK,TS val 7 ecr 0,nop,wscale 7>      arrives
//	> S. 0:0(0) ack 1 win 65535 <...>                                       departs
//
// Flags are S F R P U, E and W for ECE and CWR, and a dot for ACK. The sequence numbers follow, from and to and in
// parentheses the octets between, relative to the initial sequence number of the side which they count; both ends begin
// close below 2³², so that they wrap. A run of segments that are alike is written 1:3001(3*1000); of the segments of a run
// with P only the last has it. A run of acknowledgements is written ack 1001..3001/1000. Then may follow
//
//	win 1000       the field as it stands; a departure without it has any
//	urg 5          the urgent pointer
//	ecn ce         the IP header's ECN bits: ect0, ect1, ce; not-ect where nothing stands
//	size 1460      a super-segment's packets
//	<nop,nop,TS>   options in their order; a departure without has none, with <...> any
//	(RTO)          why it departs: tcp.Cause in words
//
// The options are mss n, nop, eol, sackOK, wscale n, TS val n ecr n, sack 1:1001 2001:3001 …, FO with a cookie in hexadecimal
// or without, and kind n with octets in hexadecimal; FO * in an arrival is the cookie that departed last. A star stands for any number; TS alone for any timestamps, or in an arrival for what a peer would say that
// has a clock of milliseconds. What arrives runs through Segment.Decode, what departs through Segment.Encode.
//
// # Calls
//
//	config MTU=1480 Nagle=true Congestion=reno    fields of tcp.Config, before the connection is there
//	open                                          an active OPEN
//	fastopen [cookie=0123…] [mss=1460] [write=100]  an active OPEN with TCB.FastOpen, and what is written before the SYN
//	fastopened true cookie= mss=0 sent=0 acked=0 timeout=false   its outcome
//	listen [backlog=1] [hold] [fastopen]          a passive one; decide accept|reject|ignore; full on|off; fastfull on|off
//	accept [= none]                               the listener has, or has not, made a connection
//	established [passive] [rtt=100ms] [mss=1460] [win=65535] [wscale=7] [sack] [ts]
//	write 1000 = 1000     read 1000 = 500     read 10 = eof
//	close  closeread  release  abort              the verbs of TCB
//	nodelay on|off   usertimeout 10s   keepalive 10s 1s 3   buffers 1000 0   mtu 1480 0
//	icmp too-big 1 mtu 1000                       a tcp.Notice that quotes the segment at 1: tcp.Reason in words
//	state FIN-WAIT-1
//	info Cwnd=10*1460 SRTT=100ms~1ms Ssthresh>0   fields of tcp.Info: = != < <= > >=
//	event opened readable                         what the last arrival or call, and the time since, brought
//	drop paws                                     which check refused the last arrival; none
//	quiet                                         time passes, and nothing departs
//
// Octets that are written and octets that arrive follow a pattern, and both what departs and what read returns are
// compared with it.
func Script(t testing.TB, text string) {
	t.Helper()
	if err := RunScript(text); err != nil {
		t.Fatal(err)
	}
}

// RunScript is Script for use outside of a test: it returns what does not hold, or nil.
func RunScript(text string) error {
	cues, err := parseScript(text)
	if err != nil {
		return err
	}
	s := newScene()
	for i := range cues {
		if err := s.play(&cues[i]); err != nil {
			return cues[i].fail(err)
		}
	}
	if err := s.unexpected(); err != nil {
		return cues[len(cues)-1].fail(fmt.Errorf("after the last line: %w", err))
	}
	return nil
}

// Where sequence numbers begin, in both directions: a little below 2³², so that they wrap in most scripts.
const (
	scriptISS tcp.Seq = 1<<32 - 5000
	scriptIRS tcp.Seq = 1<<32 - 3000
)

// patience bounds how long a departure at * is waited for: longer than any timer of a connection but keep-alive's.
const patience = 3 * time.Hour

// maxTimers bounds how often timers expire within one line.
const maxTimers = 100000

// scene is a script that is being played.
type scene struct {
	actor
	base    time.Duration // the instant of the line before
	ours    tcp.Seq       // the real end's initial sequence number
	theirs  tcp.Seq       // the script's
	sent    []departure   // what no line has expected yet
	event   tcp.Event     // news since the last arrival or call
	drop    tcp.Drop
	lastVal uint32             // the timestamp that the real end sent last
	cookie  tcp.FastOpenCookie // and the Fast Open cookie
	wrote   int64              // octets that write took
	read    int64              // octets that read gave
}

// departure is a segment that the real end has sent.
type departure struct {
	at  time.Duration
	seg tcp.Segment
}

func newScene() *scene {
	s := &scene{ours: scriptISS, theirs: scriptIRS}
	s.config = tcp.Config{MTU: 1480}
	return s
}

// play plays one line.
func (s *scene) play(c *cue) error {
	if c.verb == ">" {
		return s.expect(c)
	}
	at, err := c.at(s.base)
	if err != nil {
		return err
	}
	if at < s.now {
		return fmt.Errorf("it is %v already", s.now)
	}
	if err := s.advance(at, false); err != nil {
		return err
	}
	if err := s.unexpected(); err != nil && (!reports[c.verb] || c.verb == "quiet") {
		return err
	}
	s.base = at
	if c.verb == "<" {
		return s.arrivals(c)
	}
	call, ok := table()[c.verb]
	if !ok {
		return fmt.Errorf("there is no call %q", c.verb)
	}
	if !reports[c.verb] {
		s.event = 0
	}
	if err := call(s, c.args); err != nil {
		return err
	}
	s.settle()
	return nil
}

// unexpected is the error that a departure is which no line has expected.
func (s *scene) unexpected() error {
	if len(s.sent) == 0 {
		return nil
	}
	d := &s.sent[0]
	return fmt.Errorf("no line expects what was sent at %v:\n\t%s", d.at, s.show(&d.seg))
}

// advance lets time pass, and with it the timers of the real end; until something departs, if first.
func (s *scene) advance(to time.Duration, first bool) error {
	for range maxTimers {
		if s.settle(); first && len(s.sent) > 0 {
			return nil
		}
		at, ok := s.deadline()
		if !ok || at > to {
			s.now = max(s.now, to)
			return nil
		}
		s.now = max(s.now, at)
		s.event |= s.expire()
	}
	return fmt.Errorf("timers expire without end; it is %v", s.now)
}

// settle takes all that the real end has to send now.
func (s *scene) settle() {
	for {
		seg, ok := s.next()
		if !ok {
			return
		}
		if seg.Flags.Has(tcp.SYN) {
			s.ours = seg.Seq
		}
		if seg.Options.HasTimestamps {
			s.lastVal = seg.Options.TSVal
		}
		if seg.Options.Cookie.Len() > 0 {
			s.cookie = seg.Options.Cookie
		}
		s.sent = append(s.sent, departure{s.now, seg})
	}
}

// expect is a line with a departure.
func (s *scene) expect(c *cue) error {
	want, slack := time.Duration(0), patience
	to := s.now + patience
	if !c.when.any {
		at, err := c.at(s.base)
		if err != nil {
			return err
		}
		want, slack, to = at, c.when.tolerance, at+c.when.tolerance
	} else {
		want = s.now
	}
	for i := range c.seg.count {
		if len(s.sent) == 0 {
			if err := s.advance(to, true); err != nil {
				return err
			}
		}
		if len(s.sent) == 0 {
			return fmt.Errorf("nothing was sent%s until %v", c.seg.which(i), s.now)
		}
		d := s.sent[0]
		s.sent = s.sent[1:]
		shown := s.show(&d.seg)
		if diff := s.compare(c.seg, i, &d.seg); diff != "" {
			return fmt.Errorf("sent at %v%s:\n\t%s\n\tthe difference: %s", d.at, c.seg.which(i), shown, diff)
		}
		if (d.at - want).Abs() > slack {
			return fmt.Errorf("sent at %v%s, %v after the line before, and not at %v:\n\t%s", d.at, c.seg.which(i), d.at-s.base, want, shown)
		}
		if i == c.seg.count-1 {
			s.base = d.at
		}
	}
	return nil
}

// arrivals is a line with an arrival, or a run of them.
func (s *scene) arrivals(c *cue) error {
	s.event = 0
	for i := range c.seg.count {
		seg, err := s.arrival(c.seg, i)
		if err != nil {
			return err
		}
		ev := s.arrive(&seg)
		s.event |= ev & 0xffff
		s.drop = ev.Drop()
		s.settle()
	}
	return nil
}

var errNoConnection = errors.New("there is no connection")
