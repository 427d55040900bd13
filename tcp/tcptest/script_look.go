package tcptest

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// table is what the verbs of a script stand for.
func table() map[string]func(*scene, []string) error {
	return map[string]func(*scene, []string) error{
		"config":      (*scene).configure,
		"open":        (*scene).open,
		"listen":      (*scene).listen,
		"accept":      (*scene).accept,
		"decide":      (*scene).decide,
		"full":        (*scene).full,
		"fastopen":    (*scene).fastOpen,
		"fastfull":    (*scene).fastFull,
		"fastopened":  needTCB((*scene).wantFastOpened),
		"established": (*scene).established,
		"write":       needTCB((*scene).write),
		"read":        needTCB((*scene).receive),
		"keepalive":   needTCB((*scene).keepAlive),
		"icmp":        needTCB((*scene).icmp),
		"nodelay":     needTCB((*scene).noDelay),
		"info":        needTCB((*scene).look),
		"close":       plain(func(s *scene) { s.tcb.Close(s.now) }),
		"closeread":   plain(func(s *scene) { s.tcb.CloseRead(s.now) }),
		"release":     plain((*scene).release),
		"abort":       plain(func(s *scene) { s.tcb.Abort() }),
		"usertimeout": timed(func(s *scene, d time.Duration) { s.tcb.SetUserTimeout(s.now, d) }),
		"buffers":     sized(func(s *scene, r, w int) { s.tcb.SetBuffers(s.now, r, w) }),
		"mtu":         sized(func(s *scene, n, text int) { s.tcb.SetMTU(s.now, n, text) }),
		"state":       (*scene).wantState,
		"event":       (*scene).wantEvent,
		"drop":        (*scene).wantDrop,
		"quiet":       func(*scene, []string) error { return nil },
	}
}

func (s *scene) wantState(args []string) error {
	if got := s.state().String(); strings.Join(args, " ") != got {
		return fmt.Errorf("the state is %s", got)
	}
	return nil
}

var eventNames = []struct {
	name  string
	event tcp.Event
}{{"readable", tcp.Readable}, {"writable", tcp.Writable}, {"opened", tcp.Opened}, {"ended", tcp.Ended},
	{"progress", tcp.Progress}, {"soft-error", tcp.SoftError}, {"waiting", tcp.Waiting}}

// wantEvent compares the news with the list of it; "none" is an empty list.
func (s *scene) wantEvent(args []string) error {
	var want tcp.Event
	var got []string
	for _, e := range eventNames {
		for _, a := range args {
			if a == e.name {
				want |= e.event
			}
		}
		if s.event.Has(e.event) {
			got = append(got, e.name)
		}
	}
	if want != s.event || want == 0 && strings.Join(args, " ") != "none" {
		return fmt.Errorf("the news is %v", got)
	}
	return nil
}

func (s *scene) wantDrop(args []string) error {
	if got := s.drop.String(); strings.Join(args, " ") != got {
		return fmt.Errorf("the check that refused it is %q", got)
	}
	return nil
}

var lookAt = regexp.MustCompile(`^(\w+)(!=|<=|>=|=|<|>)([^~]+)(?:~(.+))?$`)

// look compares fields of tcp.Info.
func (s *scene) look(args []string) error {
	if len(args) == 0 {
		return errors.New("nothing to look at")
	}
	info := s.tcb.Info()
	for _, a := range args {
		m := lookAt.FindStringSubmatch(a)
		if m == nil {
			return fmt.Errorf("%q is no comparison", a)
		}
		f := reflect.ValueOf(info).FieldByName(m[1])
		if !f.IsValid() {
			return fmt.Errorf("tcp.Info has no %s", m[1])
		}
		if err := s.lookField(m, f); err != nil {
			return err
		}
	}
	return nil
}

// lookField compares one field: a state, a reason or a name as text, all else as a number.
func (s *scene) lookField(m []string, f reflect.Value) error {
	if said, ok := f.Interface().(fmt.Stringer); ok && f.Kind() == reflect.Uint8 || f.Kind() == reflect.String {
		got := f.String()
		if ok {
			got = said.String()
		}
		if same := strings.ReplaceAll(got, " ", "-") == m[3]; same != (m[2] == "=") {
			return fmt.Errorf("%s is %s", m[1], got)
		}
		return nil
	}
	want, err := fieldNumber(f, m[3])
	if err != nil {
		return err
	}
	slack := int64(0)
	if m[4] != "" {
		if slack, err = fieldNumber(f, m[4]); err != nil {
			return err
		}
	}
	got := s.fieldValue(m[1], f)
	if !compared(m[2], got, want, slack) {
		if d, ok := f.Interface().(time.Duration); ok {
			return fmt.Errorf("%s is %v", m[1], d)
		}
		return fmt.Errorf("%s is %d", m[1], got)
	}
	return nil
}

// fieldValue is a field as a number; sequence numbers relative to the side that counts them.
func (s *scene) fieldValue(name string, f reflect.Value) int64 {
	switch {
	case f.Type() == reflect.TypeFor[tcp.Seq]() && (name == "RcvNxt" || name == "IRS"):
		return relative(tcp.Seq(f.Uint()), s.theirs)
	case f.Type() == reflect.TypeFor[tcp.Seq]():
		return relative(tcp.Seq(f.Uint()), s.ours)
	case f.CanInt():
		return f.Int()
	case f.CanUint():
		return int64(f.Uint())
	case f.Kind() == reflect.Bool && f.Bool():
		return 1
	}
	return 0
}

func compared(op string, got, want, slack int64) bool {
	switch op {
	case "=":
		return got >= want-slack && got <= want+slack
	case "!=":
		return got != want
	case "<":
		return got < want
	case "<=":
		return got <= want
	case ">":
		return got > want
	}
	return got >= want
}

// established is a handshake that the script does not look at: it is played, line by line, as a script of its own.
func (s *scene) established(args []string) error {
	rtt, window, mss, options, ts, passive := "0", "65535", "1460", "", "", false
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		switch k {
		case "passive":
			passive = true
		case "rtt":
			rtt = v
		case "win":
			window = v
		case "mss":
			mss = v
		case "sack":
			options += ",sackOK"
		case "ts":
			options, ts = options+",TS", " <nop,nop,TS>"
		case "wscale":
			options += ",nop,wscale " + v
		default:
			return fmt.Errorf("%q: there are passive, rtt, win, mss, wscale, sack and ts", a)
		}
	}
	lines := fmt.Sprintf("open\n> S 0:0(0) <...>\n+%s < S. 0:0(0) ack 1 win %s <mss %s%s>\n> . 1:1(0) ack 1 <...>",
		rtt, window, mss, options)
	if passive {
		lines = fmt.Sprintf("listen\n< S 0:0(0) win %s <mss %s%s>\n> S. 0:0(0) ack 1 <...>\n+%s < . 1:1(0) ack 1 win %s%s\naccept",
			window, mss, options, rtt, window, ts)
	}
	cues, err := parseScript(lines)
	if err != nil {
		return err
	}
	for i := range cues {
		if err := s.play(&cues[i]); err != nil {
			return fmt.Errorf("%s: %w", cues[i].text, err)
		}
	}
	return s.wantState([]string{"ESTABLISHED"})
}
