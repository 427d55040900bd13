package firewall

import (
	"errors"
	"reflect"
	"testing"
)

// TestText: what is read is written the same, and read again is the same.
func TestText(t *testing.T) {
	for _, c := range []struct{ text, want string }{ // want "": the same as text
		{"", ""},
		{"\n # nothing but a comment\n\t\n", "\n"},
		{"policy in drop", ""},
		{"policy forward reject with prohibited", ""},
		{"allow in", ""},
		{"allow in any from any to any", "allow in"},
		{"allow in tcp from any to any port 80", "allow in tcp to any port 80"},
		{"allow  in\ttcp to port 22,80,8000-8010", "allow in tcp to any port 22,80,8000-8010"},
		{"drop forward from 192.0.2.0/24", ""},
		{"drop log forward on lan via wan tcp,udp from not 192.0.2.0/24,198.51.100.7 port 53 to 2001:db8::/32 port 1-5 state new,invalid limit 10/second burst 20 # why", ""},
		{"count out on wan icmp type echo-request,9 state related", ""},
		{"log in icmp6 type packet-too-big", ""},
		{"reject in limit 5/hour with reset", ""},
		{"allow in state established to 192.0.2.1 from 192.0.2.2/32 47", "allow in 47 from 192.0.2.2 to 192.0.2.1 state established"},
		{"allow in # a # b", ""},
		{"nat on wan", ""},
		{"nat on wan from any to 203.0.113.1,203.0.113.2 filter any", "nat on wan to 203.0.113.1,203.0.113.2 filter any"},
		{"nat on wan from 192.0.2.0/24,2001:db8::/32 filter port", ""},
		{"nat on wan filter address", "nat on wan"},
		{"forward tcp 203.0.113.1:8080 to 198.51.100.2:80", ""},
		{"forward tcp,udp [2001:db8::1]:8000-8010 to [2001:db8::2]:80", ""},
		{"forward udp on wan port 53 to 192.0.2.1:5353", ""},
		{"map 203.0.113.5 to 192.0.2.5 on wan", ""},
		{"clamp mss on wan", ""},
		{"clamp mss 1400 on wan", ""},
	} {
		r, err := Parse(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		want := c.want
		if want == "" {
			want = c.text
		}
		if want != "" && want != "\n" {
			want += "\n"
		}
		if want == "\n" {
			want = ""
		}
		if got := r.String(); got != want {
			t.Errorf("%q is written %q, want %q", c.text, got, want)
		}
		if again, err := Parse(r.String()); err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%q read again: %v, %+v, was %+v", c.text, err, again, r)
		}
		if _, err := compile(r); err != nil {
			t.Errorf("%q: %v", c.text, err)
		}
	}
}

// TestSyntaxErrors: an error names its line and column.
func TestSyntaxErrors(t *testing.T) {
	for _, c := range []struct {
		text         string
		line, column int
	}{
		{"permit in", 1, 1},
		{"allow in\n\n  deny in", 3, 3},
		{"allow", 1, 6},
		{"allow sideways", 1, 7},
		{"allow in tcp to any port 80,x", 1, 29},
		{"allow in tcp to any port 80-79", 1, 26},
		{"allow in tcp to any port 70000", 1, 26},
		{"allow in tcp to any port", 1, 25},
		{"allow in to any port 80", 1, 1}, // of which protocol?
		{"allow in from 192.0.2.1/24", 1, 15},
		{"allow in from 192.0.2.256", 1, 15},
		{"allow in from 192.0.2.1,,192.0.2.2", 1, 25},
		{"allow in from ::ffff:192.0.2.1", 1, 15},
		{"allow in tcp udp", 1, 14},
		{"allow in on wan on lan", 1, 17},
		{"allow in via wan", 1, 1},
		{"allow in icmp type nonsense", 1, 20},
		{"allow in type echo-request", 1, 15},
		{"allow in state newest", 1, 16},
		{"allow in limit 5/week", 1, 18},
		{"allow in limit x/second", 1, 16},
		{"allow in with reset", 1, 1},
		{"reject in with joy", 1, 16},
		{"policy in count", 1, 11},
		{"policy in drop with reset", 1, 16},
		{"nat from 192.0.2.0/24", 1, 5},
		{"nat on wan filter all", 1, 19},
		{"forward tcp 203.0.113.1 to 192.0.2.1:80", 1, 24},
		{"forward tcp 203.0.113.1:80 to 192.0.2.1", 1, 40},
		{"forward icmp 203.0.113.1:80 to 192.0.2.1:80", 1, 1},
		{"forward tcp 203.0.113.1:80 to [2001:db8::1]:80", 1, 1},
		{"forward tcp 203.0.113.1:80 onto 192.0.2.1:80", 1, 28},
		{"map 203.0.113.1 to 2001:db8::1", 1, 20},
		{"clamp mss 0 on wan", 1, 11},
		{"clamp mss 1400 on", 1, 18},
		{"drop in # größer\ndröp in", 2, 1},
		{"drop in on größer from x", 1, 24},
	} {
		_, err := Parse(c.text)
		var e *SyntaxError
		if !errors.As(err, &e) || e.Line != c.line || e.Column != c.column || e.Text == "" {
			t.Errorf("%q: %v, want an error at %d:%d", c.text, err, c.line, c.column)
		}
	}
}

// FuzzText: no text is too strange to be read or refused, and what is read survives being written.
func FuzzText(f *testing.F) {
	f.Add("policy in drop\nallow log forward on lan via wan tcp,47 from not 192.0.2.0/24 to any port 1-2 state new limit 1/hour burst 2 # c")
	f.Add("nat on wan from 192.0.2.0/24 to 203.0.113.1 filter any\nforward tcp [2001:db8::1]:80-90 to [2001:db8::2]:80\nmap 1.2.3.4 to 5.6.7.8 on x\nclamp mss 9 on x")
	f.Add("reject in icmp type echo-request,9 with host\nforward udp on port port 5 to 1.1.1.1:5")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		if err != nil {
			if _, ok := err.(*SyntaxError); !ok {
				t.Fatalf("%q: an error of type %T", text, err)
			}
			return
		}
		if _, err := compile(r); err != nil {
			t.Fatalf("%q is read and then refused: %v", text, err)
		}
		again, err := Parse(r.String())
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%q is written %q and read as %+v (%v), was %+v", text, r.String(), again, err, r)
		}
	})
}
