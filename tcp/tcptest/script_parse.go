package tcptest

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// cue is a line of a script.
type cue struct {
	number int // of the line in the text, from 1
	text   string
	when   moment
	verb   string // "<", ">", or a call
	args   []string
	seg    *pattern // of an arrival or a departure
}

// moment is the time of a line.
type moment struct {
	any       bool // *
	relative  bool
	d         time.Duration
	tolerance time.Duration
}

// pattern is a segment, or a run of them, as a script writes it.
type pattern struct {
	flags             tcp.Flags
	seq, end          int64
	count, length     int // segments, and octets in each
	hasAck            bool
	ack, ackTo, ackBy int64 // a run of acknowledgements where ackBy is not 0
	window            int   // -1: any
	urgent            int
	ecn               uint8
	size              int // -1: any
	anyOptions        bool
	options           []string
	cause             string // "": any
}

// maxRun bounds a run of segments, and maxOctets what one line sends, writes or reads.
const (
	maxRun    = 100000
	maxOctets = 1 << 24
)

var (
	scriptTime   = regexp.MustCompile(`^(\*|\+?\d[\w.µ]*(~\d[\w.µ]*)?)$`)
	scriptFlags  = regexp.MustCompile(`^[SFRPUEW]*\.?$`)
	scriptSeq    = regexp.MustCompile(`^(-?\d+):(-?\d+)\((?:(\d+)\*)?(\d+)\)$`)
	scriptAck    = regexp.MustCompile(`^(-?\d+)(?:\.\.(-?\d+)/(\d+))?$`)
	scriptList   = regexp.MustCompile(`<([^<>]*)>\s*(?:\(([^()]*)\))?$`)
	scriptReason = regexp.MustCompile(`\s\(([^()]*)\)$`)
)

// flagLetters are tcpdump's.
var flagLetters = []struct {
	letter string
	flag   tcp.Flags
}{{"S", tcp.SYN}, {"F", tcp.FIN}, {"R", tcp.RST}, {"P", tcp.PSH}, {"U", tcp.URG}, {"E", tcp.ECE}, {"W", tcp.CWR}, {".", tcp.ACK}}

// ecnNames are the codepoints of RFC 3168 §5.
var ecnNames = []string{"not-ect", "ect1", "ect0", "ce"}

// parseScript reads a script.
func parseScript(text string) ([]cue, error) {
	var cues []cue
	for i, l := range strings.Split(text, "\n") {
		l, _, _ = strings.Cut(l, "#")
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		c := cue{number: i + 1, text: l, when: moment{relative: true}}
		if err := c.parse(l); err != nil {
			return nil, c.fail(err)
		}
		cues = append(cues, c)
	}
	if len(cues) == 0 {
		return nil, errors.New("tcptest: no line of a script in the text")
	}
	return cues, nil
}

// fail puts the line in front of what is wrong with it.
func (c *cue) fail(err error) error {
	return fmt.Errorf("tcptest: line %d does not hold: %s\n\t%w", c.number, c.text, err)
}

// at is the instant of a line that follows one at base.
func (c *cue) at(base time.Duration) (time.Duration, error) {
	switch {
	case c.when.any:
		return 0, errors.New("* is a time for departures alone")
	case c.when.relative:
		return base + c.when.d, nil
	}
	return c.when.d, nil
}

func (c *cue) parse(l string) (err error) {
	word, rest, _ := strings.Cut(l, " ")
	if scriptTime.MatchString(word) {
		if c.when, err = parseMoment(word); err != nil {
			return err
		}
		word, rest, _ = strings.Cut(strings.TrimSpace(rest), " ")
	}
	if c.verb = word; word == "<" || word == ">" {
		c.seg, err = parsePattern(strings.TrimSpace(rest))
		return err
	}
	if word == "" {
		return errors.New("a time alone")
	}
	c.args = strings.Fields(rest)
	return nil
}

func parseMoment(word string) (m moment, err error) {
	if word == "*" {
		return moment{any: true}, nil
	}
	word, m.relative = strings.CutPrefix(word, "+")
	at, slack, loose := strings.Cut(word, "~")
	if m.d, err = parseDuration(at); err == nil && loose {
		m.tolerance, err = parseDuration(slack)
	}
	return m, err
}

// parseDuration reads seconds, or a duration as Go writes it.
func parseDuration(s string) (time.Duration, error) {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		s += "s"
	}
	return time.ParseDuration(s)
}

// parsePattern reads a segment.
func parsePattern(text string) (*pattern, error) {
	p := &pattern{window: -1, size: -1, count: 1}
	if m := scriptList.FindStringSubmatchIndex(text); m != nil {
		p.parseOptions(text[m[2]:m[3]])
		if m[4] >= 0 {
			p.cause = text[m[4]:m[5]]
		}
		text = text[:m[0]]
	} else if m := scriptReason.FindStringSubmatchIndex(text); m != nil {
		p.cause, text = text[m[2]:m[3]], text[:m[0]]
	}
	f := strings.Fields(text)
	if len(f) < 2 || len(f)%2 != 0 || !scriptFlags.MatchString(f[0]) {
		return nil, errors.New("a segment begins with its flags and sequence numbers, such as P. 1:1001(1000)")
	}
	for _, x := range flagLetters {
		if strings.Contains(f[0], x.letter) {
			p.flags |= x.flag
		}
	}
	if err := p.parseSeq(f[1]); err != nil {
		return nil, err
	}
	for i := 2; i < len(f); i += 2 {
		if err := p.parseField(f[i], f[i+1]); err != nil {
			return nil, fmt.Errorf("%s %s: %w", f[i], f[i+1], err)
		}
	}
	if p.hasAck != p.flags.Has(tcp.ACK) {
		return nil, errors.New("ack and the dot of the flags go together")
	}
	return p, nil
}

func (p *pattern) parseOptions(list string) {
	if list == "..." {
		p.anyOptions = true
		return
	}
	for _, o := range strings.Split(list, ",") {
		p.options = append(p.options, strings.Join(strings.Fields(o), " "))
	}
}

func (p *pattern) parseSeq(s string) error {
	m := scriptSeq.FindStringSubmatch(s)
	if m == nil {
		return fmt.Errorf("%q are no sequence numbers", s)
	}
	p.seq, _ = strconv.ParseInt(m[1], 10, 64)
	p.end, _ = strconv.ParseInt(m[2], 10, 64)
	p.length, _ = strconv.Atoi(m[4])
	if m[3] != "" {
		p.count, _ = strconv.Atoi(m[3])
	}
	if p.count < 1 || p.count > maxRun || p.length > 65535 || p.count*p.length > maxOctets || p.end-p.seq != int64(p.count)*int64(p.length) {
		return fmt.Errorf("from %d to %d are not %s octets", p.seq, p.end, strings.Trim(s[strings.IndexByte(s, '('):], "()"))
	}
	return nil
}

func (p *pattern) parseField(key, v string) (err error) {
	switch key {
	case "ack":
		return p.parseAck(v)
	case "win":
		p.window, err = parseBelow(v, 65536)
	case "urg":
		p.urgent, err = parseBelow(v, 65536)
	case "size":
		p.size, err = parseBelow(v, 65536)
	case "ecn":
		for i, n := range ecnNames {
			if n == v {
				p.ecn = uint8(i)
				return nil
			}
		}
		err = fmt.Errorf("one of %s", strings.Join(ecnNames, ", "))
	default:
		err = errors.New("there are ack, win, urg, ecn and size")
	}
	return err
}

func (p *pattern) parseAck(v string) error {
	m := scriptAck.FindStringSubmatch(v)
	if m == nil {
		return errors.New("neither a number nor a run such as 1001..3001/1000")
	}
	p.hasAck = true
	p.ack, _ = strconv.ParseInt(m[1], 10, 64)
	if m[2] == "" {
		return nil
	}
	p.ackTo, _ = strconv.ParseInt(m[2], 10, 64)
	p.ackBy, _ = strconv.ParseInt(m[3], 10, 64)
	if p.count > 1 || p.length > 0 || p.ackBy < 1 || p.ackTo < p.ack || (p.ackTo-p.ack)%p.ackBy != 0 || (p.ackTo-p.ack)/p.ackBy >= maxRun {
		return errors.New("no run of acknowledgements")
	}
	p.count = int((p.ackTo-p.ack)/p.ackBy) + 1
	return nil
}

// which names one segment of a run.
func (p *pattern) which(i int) string {
	if p.count == 1 {
		return ""
	}
	return fmt.Sprintf(" (segment %d of %d)", i+1, p.count)
}

func parseBelow(v string, limit int) (int, error) {
	n, err := strconv.Atoi(v)
	if err == nil && (n < 0 || n >= limit) {
		err = fmt.Errorf("not below %d", limit)
	}
	return n, err
}
