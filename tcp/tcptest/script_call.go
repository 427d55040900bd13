package tcptest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// reports are the calls that look and change nothing.
var reports = map[string]bool{"state": true, "info": true, "event": true, "drop": true, "quiet": true, "accept": true, "fastopened": true}

// congestions are the algorithms by their names.
var congestions = map[string]func(int) tcp.Congestion{"reno": tcp.NewReno, "cubic": tcp.NewCubic}

func (s *scene) configure(args []string) error {
	if s.tcb != nil || s.listener != nil {
		return errors.New("config stands before the connection")
	}
	for _, a := range args {
		name, v, ok := strings.Cut(a, "=")
		if name == "Congestion" {
			if s.config.Congestion, ok = congestions[v]; !ok {
				return fmt.Errorf("there is no algorithm %q", v)
			}
			continue
		}
		f := reflect.ValueOf(&s.config).Elem().FieldByName(name)
		if !ok || !f.IsValid() {
			return fmt.Errorf("%q is no field of tcp.Config with a value", a)
		}
		if err := setField(f, v); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	return nil
}

func setField(f reflect.Value, v string) error {
	n, err := fieldNumber(f, v)
	switch {
	case err != nil:
		return err
	case f.Kind() == reflect.Bool:
		f.SetBool(n != 0)
	case f.CanInt() && !f.OverflowInt(n):
		f.SetInt(n)
	case f.CanUint() && n >= 0 && !f.OverflowUint(uint64(n)):
		f.SetUint(uint64(n))
	default:
		return errors.New("the value does not fit")
	}
	return nil
}

// fieldNumber reads a number as a field of that type is written: a duration, true or false, or a product such as 10*1460.
func fieldNumber(f reflect.Value, v string) (int64, error) {
	if f.Type() == reflect.TypeFor[time.Duration]() {
		d, err := parseDuration(v)
		return int64(d), err
	}
	if f.Kind() == reflect.Bool {
		on, err := strconv.ParseBool(v)
		if on {
			return 1, err
		}
		return 0, err
	}
	product := int64(1)
	for _, factor := range strings.Split(v, "*") {
		n, err := strconv.ParseInt(factor, 10, 64)
		if err != nil {
			return 0, err
		}
		product *= n
	}
	return product, nil
}

func (s *scene) open([]string) error {
	if s.tcb != nil && s.tcb.State() != tcp.Closed {
		return errors.New("there is a connection already")
	}
	s.record, s.wrote, s.read = nil, 0, 0
	s.tcb = tcp.Open(s.now, s.ours, &s.config)
	return nil
}

// fastOpen is an active OPEN with a cookie and its text, which go with the SYN.
func (s *scene) fastOpen(args []string) error {
	n, hexed, mss := 0, "", 0
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		i, err := strconv.Atoi(v)
		switch {
		case k == "cookie":
			hexed = v
		case k == "mss" && err == nil:
			mss = i
		case k == "write" && err == nil:
			n = i
		default:
			return fmt.Errorf("%q: there are cookie, mss and write", a)
		}
	}
	b, err := hex.DecodeString(hexed)
	if err == nil {
		err = s.open(nil)
	}
	if err != nil {
		return err
	}
	s.tcb.FastOpen(tcp.NewFastOpenCookie(b), mss)
	s.wrote = int64(s.tcb.Write(s.now, streamText(1, n)))
	return nil
}

// wantFastOpened compares what became of it.
func (s *scene) wantFastOpened(args []string) error {
	o, ok := s.tcb.FastOpened()
	got := fmt.Sprintf("%v cookie=%x mss=%d sent=%d acked=%d timeout=%v", ok, o.Cookie.AppendTo(nil), o.MSS, o.Sent, o.Acked, o.TimedOut)
	if got != strings.Join(args, " ") {
		return errors.New("FastOpened is " + got)
	}
	return nil
}

func (s *scene) listen(args []string) error {
	c := tcp.ListenConfig{ISS: func(time.Duration, *tcp.Flow) (tcp.Seq, uint32) { return s.ours, 0 }}
	for _, a := range args {
		n, err := strconv.Atoi(strings.TrimPrefix(a, "backlog="))
		switch {
		case a == "hold":
			c.Hold = true
		case a == "fastopen":
			c.FastOpen = true
		case err == nil && strings.HasPrefix(a, "backlog="):
			c.Backlog = n
		default:
			return fmt.Errorf("%q: there are backlog=n, hold and fastopen", a)
		}
	}
	s.listener = tcp.NewListener(c)
	return nil
}

// accept tells whether the listener has made a connection.
func (s *scene) accept(args []string) error {
	if none := len(args) == 2 && args[1] == "none"; none == s.accepted {
		return fmt.Errorf("the listener made a connection: %v", s.accepted)
	}
	s.accepted = false
	return nil
}

func (s *scene) decide(args []string) error {
	verdicts := map[string]tcp.Verdict{"accept": tcp.VerdictAccept, "reject": tcp.VerdictReject, "ignore": tcp.VerdictIgnore}
	v, ok := verdicts[strings.Join(args, " ")]
	if !ok || s.listener == nil {
		return errors.New("accept, reject or ignore, of a SYN that the listener holds")
	}
	if !s.listener.Decide(s.now, &scriptFlow, v) {
		return errors.New("no SYN is held")
	}
	return nil
}

func (s *scene) full(args []string) error {
	on, err := onOff(args)
	if err == nil && s.listener != nil {
		s.listener.SetFull(on)
	}
	return err
}

func (s *scene) fastFull(args []string) error {
	on, err := onOff(args)
	if err == nil && s.listener != nil {
		s.listener.SetFastFull(on)
	}
	return err
}

func onOff(args []string) (bool, error) {
	switch strings.Join(args, " ") {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	return false, errors.New("on or off")
}

// result reads "1000 = 500".
func result(args []string) (n int, want string, err error) {
	if len(args) != 3 || args[1] != "=" {
		return 0, "", errors.New("a call with its result is written: 1000 = 500")
	}
	n, err = parseBelow(args[0], maxOctets)
	return n, args[2], err
}

func (s *scene) write(args []string) error {
	n, want, err := result(args)
	if err != nil {
		return err
	}
	got := s.tcb.Write(s.now, streamText(s.wrote+1, n))
	s.wrote += int64(got)
	if strconv.Itoa(got) != want {
		return fmt.Errorf("write took %d octets", got)
	}
	return nil
}

func (s *scene) receive(args []string) error {
	n, want, err := result(args)
	if err != nil {
		return err
	}
	b := make([]byte, n)
	got := s.tcb.Read(s.now, b)
	outcome := strconv.Itoa(got)
	if got == 0 && n > 0 && s.tcb.EOF() {
		outcome = "eof"
	}
	if outcome != want {
		return fmt.Errorf("read gave %s", outcome)
	}
	if string(b[:got]) != string(streamText(s.read+1, got)) {
		return errors.New("read gave octets that are not those which arrived")
	}
	s.read += int64(got)
	return nil
}

func (s *scene) keepAlive(args []string) error {
	if len(args) != 3 {
		return errors.New("idle time, interval and count")
	}
	idle, err1 := parseDuration(args[0])
	interval, err2 := parseDuration(args[1])
	count, err3 := strconv.Atoi(args[2])
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	s.tcb.SetKeepAlive(s.now, tcp.KeepAlive{Idle: idle, Interval: interval, Count: count})
	return nil
}

// two reads two numbers.
func two(args []string) (a, b int, err error) {
	if len(args) != 2 {
		return 0, 0, errors.New("two numbers")
	}
	a, err1 := strconv.Atoi(args[0])
	b, err2 := strconv.Atoi(args[1])
	return a, b, errors.Join(err1, err2)
}

// icmp is an error that quotes what we sent.
func (s *scene) icmp(args []string) error {
	if len(args) != 2 && !(len(args) == 4 && args[2] == "mtu") {
		return errors.New("a reason, a sequence number, and mtu n where a packet was too large")
	}
	var n tcp.Notice
	name := strings.ReplaceAll(args[0], "-", " ")
	for n.Reason = tcp.Refused; n.Reason.String() != name; n.Reason++ {
		if n.Reason == tcp.TooBig {
			return fmt.Errorf("there is no reason %q", name)
		}
	}
	at, err := strconv.ParseInt(args[1], 10, 32)
	if len(args) == 4 {
		var errMTU error
		n.MTU, errMTU = strconv.Atoi(args[3])
		err = errors.Join(err, errMTU)
	}
	if err != nil {
		return err
	}
	ev := s.tcb.Notify(s.now, s.ours+tcp.Seq(uint32(at)), n)
	s.event, s.drop = ev&0xffff, ev.Drop()
	return nil
}

// needTCB is a call of a connection.
func needTCB(f func(s *scene, args []string) error) func(*scene, []string) error {
	return func(s *scene, args []string) error {
		if s.tcb == nil {
			return errNoConnection
		}
		return f(s, args)
	}
}

// plain is a call of a connection that takes nothing and gives nothing.
func plain(f func(s *scene)) func(*scene, []string) error {
	return needTCB(func(s *scene, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("%v is too much", args)
		}
		f(s)
		return nil
	})
}

// timed is a call of a connection that takes a duration.
func timed(f func(s *scene, d time.Duration)) func(*scene, []string) error {
	return needTCB(func(s *scene, args []string) error {
		d, err := parseDuration(strings.Join(args, " "))
		if err == nil {
			f(s, d)
		}
		return err
	})
}

// sized is a call of a connection that takes two numbers.
func sized(f func(s *scene, a, b int)) func(*scene, []string) error {
	return needTCB(func(s *scene, args []string) error {
		a, b, err := two(args)
		if err == nil {
			f(s, a, b)
		}
		return err
	})
}

func (s *scene) noDelay(args []string) error {
	on, err := onOff(args)
	if err == nil {
		s.tcb.SetNoDelay(on)
	}
	return err
}

func (s *scene) release() { s.event = s.tcb.Release(s.now) & 0xffff }
