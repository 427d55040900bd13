package tcptest

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/seed87e66d9f/waybill/tcp"
)

// figure is a diagram after parsing.
type figure struct{ steps []step }

// step is one line of a diagram.
type step struct {
	number  int       // of the line in the text, from 1
	text    string    // the line without the space around it
	side    [2]column // peer A, peer B
	seg     *drawn    // nil: no segment on this line
	from    int       // the peer that seg comes from
	departs bool      // seg leaves its sender on this line
	arrives bool      // seg reaches its receiver on this line
}

// column is what a line says of one peer.
type column struct {
	named bool
	state tcp.State // where named
	notes []string  // what stands in parentheses, in lower case
}

// drawn is a segment as the figure writes it.
type drawn struct {
	text     string
	seq, ack value
	flags    tcp.Flags
	data     int // octets; anyData: some
}

// anyData is the length of a <DATA> that names none.
const anyData = -1

// maxData keeps the text of a drawn segment within one packet of the largest MTU.
const maxData = 60000

// value is a number, or a name and an offset.
type value struct {
	name string // "": offset alone
	off  tcp.Seq
}

var (
	segmentLine = regexp.MustCompile(`^(.*?)(-->|<--|\.\.\.)?\s*((?:<[A-Za-z][^<>]*>\s*)+)(-->|<--|\.\.\.)?(.*)$`)
	lineNumber  = regexp.MustCompile(`^\s*\d+\.(\s|$)`)
	field       = regexp.MustCompile(`\S+(?: \S+)*`)
	part        = regexp.MustCompile(`<([^<>]*)>`)
	symbol      = regexp.MustCompile(`^([A-Za-z]\w*)(?:([+-])(\d+))?$`)
	bareTime    = regexp.MustCompile(`(?i)^\d+ *MSL\b`)
	word        = regexp.MustCompile(`^[^\s(]+`)
)

// parse reads a diagram.
func parse(text string) (*figure, error) {
	lines := strings.Split(strings.ReplaceAll(text, "\t", "        "), "\n")
	width := 0
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " \r")
		width = max(width, len(lines[i]))
	}
	f := &figure{}
	headed := false
	for i, l := range lines {
		trimmed := strings.TrimSpace(l)
		if n := lineNumber.FindString(l); n != "" {
			l = strings.Repeat(" ", len(n)) + l[len(n):]
		}
		if strings.TrimSpace(l) == "" || strings.HasPrefix(trimmed, "Figure ") {
			continue
		}
		s := step{number: i + 1, text: trimmed}
		err := s.parse(l, width)
		switch {
		case err == nil:
			f.steps = append(f.steps, s)
		case len(f.steps) == 0 && !headed && isHeading(l):
			headed = true
		default:
			return nil, s.fail(err)
		}
	}
	if len(f.steps) == 0 {
		return nil, errors.New("tcptest: no line of a figure in the text")
	}
	return f, nil
}

// isHeading reports whether a line names two peers: there are two columns, and no state.
func isHeading(line string) bool {
	for _, w := range strings.Fields(line) {
		if _, ok := parseState(w); ok {
			return false
		}
	}
	return len(field.FindAllString(line, -1)) == 2 && !strings.ContainsAny(line, "<>()")
}

// fail puts the line in front of what is wrong with it.
func (s *step) fail(err error) error {
	return fmt.Errorf("tcptest: line %d does not hold: %s\n\t%w", s.number, s.text, err)
}

// parse reads a line, of a figure that is width columns wide.
func (s *step) parse(line string, width int) error {
	m := segmentLine.FindStringSubmatch(line)
	if m == nil {
		return s.parseColumns(line, width)
	}
	if err := s.parseArrows(m[2], m[4]); err != nil {
		return err
	}
	var err error
	if s.seg, err = parseSegment(strings.TrimSpace(m[3])); err != nil {
		return err
	}
	if err := s.side[0].parse(m[1]); err != nil {
		return err
	}
	return s.side[1].parse(m[5])
}

// parseColumns reads a line without a segment. One that has a single field belongs to the peer on whose half it stands.
func (s *step) parseColumns(line string, width int) error {
	fields := field.FindAllStringIndex(line, -1)
	switch len(fields) {
	case 1:
		side := 0
		if fields[0][0] > width/2 {
			side = 1
		}
		return s.side[side].parse(line)
	case 2:
		if err := s.side[0].parse(line[:fields[1][0]]); err != nil {
			return err
		}
		return s.side[1].parse(line[fields[1][0]:])
	}
	return errors.New("neither a segment nor two columns")
}

func (s *step) parseArrows(left, right string) error {
	switch left + " " + right {
	case "--> -->":
		s.departs, s.arrives = true, true
	case "--> ...":
		s.departs = true
	case "... -->":
		s.arrives = true
	case "<-- <--":
		s.from, s.departs, s.arrives = 1, true, true
	case "... <--":
		s.from, s.departs = 1, true
	case "<-- ...":
		s.from, s.arrives = 1, true
	default:
		return fmt.Errorf("%q and %q beside the segment are no direction", left, right)
	}
	return nil
}

// parse reads what a line says of one peer: a state and notes, in any order.
func (c *column) parse(text string) error {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		if text[0] == '(' {
			end := strings.IndexByte(text, ')')
			if end < 0 {
				return errors.New("a parenthesis stays open")
			}
			c.notes = append(c.notes, strings.ToLower(strings.TrimSpace(text[1:end])))
			text = text[end+1:]
			continue
		}
		if t := bareTime.FindString(text); t != "" {
			c.notes = append(c.notes, strings.ToLower(t))
			text = text[len(t):]
			continue
		}
		w := word.FindString(text)
		state, ok := parseState(w)
		if !ok {
			return fmt.Errorf("%q is no state", w)
		}
		if c.named {
			return errors.New("two states for one peer")
		}
		c.named, c.state = true, state
		text = text[len(w):]
	}
	return nil
}

// parseState knows the RFC's names, and what textbooks and netstat make of them.
func parseState(name string) (tcp.State, bool) {
	name = strings.ReplaceAll(strings.ToUpper(name), "_", "-")
	switch name {
	case "SYN-RCVD", "SYN-RECV":
		name = "SYN-RECEIVED"
	case "ESTAB":
		name = "ESTABLISHED"
	case "FIN-WAIT1":
		name = "FIN-WAIT-1"
	case "FIN-WAIT2":
		name = "FIN-WAIT-2"
	}
	for s := tcp.Closed; s <= tcp.TimeWait; s++ {
		if s.String() == name {
			return s, true
		}
	}
	return 0, false
}

// parseSegment reads a segment such as <SEQ=300><ACK=101><CTL=SYN,ACK>.
func parseSegment(text string) (*drawn, error) {
	d := &drawn{text: text}
	seen := map[string]bool{}
	for _, m := range part.FindAllStringSubmatch(text, -1) {
		key, v, valued := strings.Cut(m[1], "=")
		if key = strings.ToUpper(key); seen[key] {
			return nil, fmt.Errorf("<%s> stands twice", key)
		}
		seen[key] = true
		if err := d.parsePart(key, v, valued); err != nil {
			return nil, fmt.Errorf("<%s>: %w", m[1], err)
		}
	}
	if !seen["SEQ"] || !seen["CTL"] {
		return nil, errors.New("a segment needs SEQ and CTL")
	}
	if seen["ACK"] != d.flags.Has(tcp.ACK) {
		return nil, errors.New("<ACK=n> and the ACK of CTL go together")
	}
	return d, nil
}

func (d *drawn) parsePart(key, v string, valued bool) (err error) {
	switch {
	case key == "SEQ":
		d.seq, err = parseValue(v)
	case key == "ACK":
		d.ack, err = parseValue(v)
	case key == "CTL":
		d.flags, err = parseFlags(v)
	case key == "DATA" && !valued:
		d.data = anyData
	case key == "DATA":
		d.data, err = strconv.Atoi(v)
		if err == nil && (d.data < 1 || d.data > maxData) {
			err = fmt.Errorf("from 1 to %d octets", maxData)
		}
	default:
		err = errors.New("unknown; there are SEQ, ACK, CTL and DATA")
	}
	return err
}

func parseValue(v string) (value, error) {
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		return value{off: tcp.Seq(n)}, nil
	}
	m := symbol.FindStringSubmatch(v)
	if m == nil {
		return value{}, errors.New("neither a number nor a name")
	}
	r := value{name: m[1]}
	if m[3] == "" {
		return r, nil
	}
	n, err := strconv.ParseUint(m[3], 10, 32)
	if r.off = tcp.Seq(n); m[2] == "-" {
		r.off = -r.off
	}
	return r, err
}

func parseFlags(list string) (tcp.Flags, error) {
	var g tcp.Flags
	for _, name := range strings.Split(list, ",") {
		found := false
		for f := tcp.FIN; f != 0; f <<= 1 {
			if strings.EqualFold(strings.TrimSpace(name), f.String()) {
				g, found = g|f, true
			}
		}
		if !found {
			return 0, fmt.Errorf("%q is no control bit", name)
		}
	}
	return g, nil
}
