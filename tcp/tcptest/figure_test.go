package tcptest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

const open = `
    TCP Peer A                                           TCP Peer B
1.  CLOSED                                               LISTEN
2.  SYN-SENT    --> <SEQ=100><CTL=SYN>               --> SYN-RECEIVED
3.  ESTABLISHED <-- <SEQ=300><ACK=101><CTL=SYN,ACK>  <-- SYN-RECEIVED
4.  ESTABLISHED --> <SEQ=101><ACK=301><CTL=ACK>      --> ESTABLISHED
`

// A test of one's own: a reset where the peer should have gone on does not escape it.
func ExampleRun() {
	err := Run(`
	      Client                                           Server
	   1. ESTABLISHED                                      ESTABLISHED
	   2. (Close)
	      FIN-WAIT-1  --> <SEQ=100><ACK=300><CTL=FIN,ACK>  --> CLOSE-WAIT
	   3. CLOSED      <-- <SEQ=300><ACK=101><CTL=RST,ACK>  <-- CLOSED`)
	fmt.Println(err)
	// Output:
	// tcptest: line 6 does not hold: 3. CLOSED      <-- <SEQ=300><ACK=101><CTL=RST,ACK>  <-- CLOSED
	// 	drawn: <SEQ=300><ACK=101><CTL=RST,ACK>
	// 	sent:  <SEQ=300><ACK=101><CTL=ACK>
}

// fake is a test that notes how it was ended.
type fake struct {
	testing.TB
	message string
}

func (f *fake) Helper() {}

func (f *fake) Fatal(args ...any) {
	f.message = fmt.Sprint(args...)
	runtime.Goexit()
}

// end runs Figure with a fake test and returns the message that ended it, or "".
func end(text string) string {
	f := &fake{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		Figure(f, text)
	}()
	<-done
	return f.message
}

func TestFigureEndsTheTest(t *testing.T) {
	if m := end(open); m != "" {
		t.Errorf("a figure that holds ended the test: %s", m)
	}
	m := end(strings.Replace(open, "<SEQ=300><ACK=101>", "<SEQ=300><ACK=102>", 1))
	for _, want := range []string{"line 5", "3.  ESTABLISHED <--", "drawn: <SEQ=300><ACK=102><CTL=SYN,ACK>",
		"sent:  <SEQ=300><ACK=101><CTL=SYN,ACK>"} {
		if !strings.Contains(m, want) {
			t.Errorf("the message lacks %q: %s", want, m)
		}
	}
}

// Each of these does not hold, and the message says why.
func TestWrongFigures(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no text", "\n\n", "no line of a figure"},
		{"no state", "CLOSED   ABSENT", `"ABSENT" is no state`},
		{"two headings", "Client   Server\nHere   There\nCLOSED   CLOSED", `"Here" is no state`},
		{"a state twice", "CLOSED CLOSED   LISTEN\nLISTEN CLOSED   LISTEN", "two states for one peer"},
		{"open parenthesis", "CLOSED   CLOSED\n(Close   LISTEN", "parenthesis"},
		{"three columns", "CLOSED   CLOSED\nCLOSED   CLOSED   CLOSED", "two columns"},
		{"no direction", "CLOSED --> <SEQ=1><CTL=SYN> <-- CLOSED", "no direction"},
		{"no arrow", "CLOSED --> <SEQ=1><CTL=SYN> CLOSED", "no direction"},
		{"in the network for ever", "CLOSED ... <SEQ=1><CTL=SYN> ... CLOSED", "no direction"},
		{"no SEQ", "CLOSED --> <CTL=SYN> --> CLOSED", "needs SEQ and CTL"},
		{"no CTL", "CLOSED --> <SEQ=1> --> CLOSED", "needs SEQ and CTL"},
		{"ACK without the bit", "CLOSED --> <SEQ=1><ACK=2><CTL=SYN> --> CLOSED", "go together"},
		{"the bit without ACK", "CLOSED --> <SEQ=1><CTL=ACK> --> CLOSED", "go together"},
		{"unknown bit", "CLOSED --> <SEQ=1><CTL=XMAS> --> CLOSED", `"XMAS" is no control bit`},
		{"unknown field", "CLOSED --> <SEQ=1><CTL=SYN><TTL=9> --> CLOSED", "<TTL=9>"},
		{"SEQ twice", "CLOSED --> <SEQ=1><SEQ=1><CTL=SYN> --> CLOSED", "<SEQ> stands twice"},
		{"too large a number", "CLOSED --> <SEQ=4294967296><CTL=SYN> --> CLOSED", "neither a number nor a name"},
		{"too much text", "CLOSED --> <SEQ=1><CTL=SYN><DATA=70000> --> CLOSED", "60000"},
		{"begins in the middle", "FIN-WAIT-1    CLOSED", "begins in CLOSED, LISTEN or ESTABLISHED"},
		{"numbers that differ", "(send 3,receive 5)    (send 4,receive 3)", "not what the other receives"},
		{"close nothing", "CLOSED   CLOSED\n(Close)  CLOSED", "there is no connection"},
		{"abort nothing", "CLOSED   CLOSED\n(Abort)  CLOSED", "there is no connection"},
		{"send on nothing", "CLOSED   CLOSED\n(Send 5)  CLOSED", "no connection to send on"},
		{"send nothing", "ESTABLISHED   ESTABLISHED\n(Send 0)  ESTABLISHED", "from 1 to"},
		{"open twice", "ESTABLISHED   ESTABLISHED\n(Open)  ESTABLISHED", "state is ESTABLISHED"},
		{"listen twice", "LISTEN   CLOSED\n(Listen)  CLOSED", "state is LISTEN"},
		{"unknown name", "CLOSED   LISTEN\nSYN-SENT --> <SEQ=X><CTL=SYN> --> SYN-RECEIVED\n" +
			"ESTABLISHED <-- <SEQ=Y><ACK=Z+2><CTL=SYN,ACK> <-- SYN-RECEIVED", "ACK=Z+2"},
		{"silence", "CLOSED   LISTEN\nCLOSED <-- <SEQ=1><CTL=SYN> <-- LISTEN", "nothing"},
		{"never arrives", open + "ESTABLISHED --> <SEQ=101><ACK=301><CTL=ACK><DATA> ... ESTABLISHED", "never arrives"},
		{"not in the network", open + "ESTABLISHED ... <SEQ=101><ACK=301><CTL=ACK> --> ESTABLISHED", "in the network"},
		{"undrawn reset", "CLOSED   CLOSED\nSYN-SENT --> <SEQ=1><CTL=SYN> --> CLOSED\nSYN-SENT   CLOSED", "not drawn"},
		{"no abort", open + "ESTABLISHED --> <SEQ=101><ACK=301><CTL=ACK><DATA> --> (Abort!!)", "aborts"},
		{"no return", open + "ESTABLISHED --> <SEQ=101><ACK=301><CTL=ACK><DATA> --> (return to LISTEN!)", "returns to LISTEN"},
		{"two times", "CLOSED   CLOSED\n(1 s)   (2 s)", "alike"},
		{"too short a wait", open + "(Close)\nFIN-WAIT-1 --> <SEQ=101><ACK=301><CTL=FIN,ACK> --> CLOSE-WAIT\n" +
			"                                                 (Close)\n" +
			"TIME-WAIT <-- <SEQ=301><ACK=102><CTL=FIN,ACK> <-- LAST-ACK\n" +
			"TIME-WAIT --> <SEQ=102><ACK=302><CTL=ACK> --> CLOSED\n(239 s)\nCLOSED    CLOSED", "found: TIME-WAIT"},
	} {
		err := Run(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want an error with %q, got: %v", c.name, c.want, err)
		}
	}
}

// Every part of the notation that the RFC's own figures leave out.
func TestNotation(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"calls", `
			(Listen)                                     (Open)
			LISTEN                                       SYN_SENT
			SYN_RECV    <-- <SEQ=5><CTL=SYN>             <-- SYN_SENT
			SYN_RECV    --> <SEQ=1><ACK=6><CTL=ACK,SYN>  --> ESTAB
			ESTAB       <-- <SEQ=6><ACK=2><CTL=ACK>      <-- ESTAB`},
		{"text with FIN and PSH", open + `
			(Send 5) (Close)
			FIN_WAIT1   --> <SEQ=101><ACK=301><DATA=5><CTL=FIN,PSH,ACK> --> CLOSE-WAIT
			FIN_WAIT2   <-- <SEQ=301><ACK=107><CTL=ACK>                 <-- CLOSE-WAIT`},
		{"an acknowledgement that waits for text", open + `
			ESTABLISHED --> <SEQ=101><ACK=301><CTL=ACK><DATA=5> --> ESTABLISHED
			ESTABLISHED <-- <SEQ=301><ACK=106><CTL=ACK><DATA=7> <-- ESTABLISHED`},
		{"a retransmission", open + `
			ESTABLISHED --> <SEQ=101><ACK=301><CTL=ACK><DATA=5> ... (lost)
			ESTABLISHED --> <SEQ=101><ACK=301><CTL=ACK><DATA=5> --> ESTABLISHED
			ESTABLISHED <-- <SEQ=301><ACK=106><CTL=ACK>         <-- ESTABLISHED`},
		{"reordering", open + `
			ESTABLISHED --> <SEQ=101><ACK=301><CTL=ACK><DATA=5> ...
			ESTABLISHED --> <SEQ=106><ACK=301><CTL=ACK><DATA=5> --> ESTABLISHED
			ESTABLISHED <-- <SEQ=301><ACK=101><CTL=ACK>         <-- ESTABLISHED
			            ... <SEQ=101><ACK=301><CTL=ACK><DATA=5> --> ESTABLISHED
			ESTABLISHED <-- <SEQ=301><ACK=111><CTL=ACK>         <-- ESTABLISHED`},
		{"a duplicate of what was sent", open + `
			ESTABLISHED --> <SEQ=101><ACK=301><CTL=ACK><DATA=5> --> ESTABLISHED
			(duplicate) ... <SEQ=101><ACK=301><CTL=ACK><DATA=5> --> ESTABLISHED
			ESTABLISHED <-- <SEQ=301><ACK=106><CTL=ACK>         <-- ESTABLISHED`},
		{"a challenge", open + `
			(duplicate) ... <SEQ=200><CTL=RST>                  --> ESTABLISHED
			ESTABLISHED <-- <SEQ=301><ACK=101><CTL=ACK>         <-- ESTABLISHED`},
		{"numbers out of the first segment", `
			ESTABLISHED                                         ESTABLISHED
			ESTABLISHED --> <SEQ=8><ACK=9><CTL=ACK><DATA=1>     --> ESTABLISHED`},
		{"a crash in the middle", open + `
			(CRASH)
			CLOSED                                              ESTABLISHED
			            <-- <SEQ=301><ACK=101><CTL=ACK><DATA=5> <-- ESTABLISHED
			CLOSED      --> <SEQ=101><CTL=RST>                  --> (Abort!!)`},
		{"a listener is closed", "LISTEN    CLOSED\n(Close)   (40 ms)\nCLOSED    CLOSED"},
	} {
		if err := Run(c.text); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Any text either holds or does not: nothing panics, and nothing runs for ever.
func FuzzRun(f *testing.F) {
	f.Add(open)
	f.Add("(REBOOT)   (send 300,receive 100)\n(??) <-- <SEQ=300><ACK=100><DATA=10><CTL=ACK> <-- ESTABLISHED")
	f.Add("ESTABLISHED   ESTABLISHED\n(Close)   (30 s)\nFIN-WAIT-1 --> <SEQ=X><ACK=Y><CTL=FIN,ACK> ... (lost)\n(2 MSL)   (Abort)")
	f.Add("LISTEN   LISTEN\n(duplicate) ... <SEQ=Z-1><CTL=SYN><DATA> --> SYN-RECEIVED\n(Send 5) (Open)   (Close) (Listen)")
	f.Fuzz(func(t *testing.T, text string) {
		if err := Run(text); err != nil && !strings.HasPrefix(err.Error(), "tcptest: ") {
			t.Errorf("an error that does not name the package: %v", err)
		}
	})
}

// The text that arrives must be the text that was sent, octet by octet.
func TestReadComparesText(t *testing.T) {
	f, err := parse("ESTABLISHED   ESTABLISHED")
	if err != nil {
		t.Fatal(err)
	}
	g := &game{figure: f, names: map[string]tcp.Seq{}}
	g.peers = [2]*peer{newPeer(g, 0), newPeer(g, 1)}
	if err := g.establish([2]bool{true, true}, [2]tcp.Seq{100, 300}); err != nil {
		t.Fatal(err)
	}
	s := tcp.Segment{Seq: 100, Ack: 300, Flags: tcp.ACK, Window: window, Text: [][]byte{octets(100, 5)}}
	s.Options = tcp.Options{HasTimestamps: true, TSVal: 1}
	if err := g.peers[1].arrive(s); err != nil {
		t.Errorf("the right text: %v", err)
	}
	s.Seq, s.Text = 105, [][]byte{octets(106, 5)}
	if err := g.peers[1].arrive(s); err == nil {
		t.Error("other octets than were sent passed")
	}
}

func TestDuration(t *testing.T) {
	for note, want := range map[string]time.Duration{"2 msl": 2 * msl, "40 ms": 40 * time.Millisecond, "1.5s": 1500 * time.Millisecond,
		"??": 0, "duplicate": 0, "x msl": 0} {
		if got := duration(note); got != want {
			t.Errorf("(%s) takes %s, want %s", note, got, want)
		}
	}
}
