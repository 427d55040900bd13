package tcp_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/seed87e66d9f/waybill/tcp/tcptest"
)

// rfcFigures are the figures of RFC 9293 §3.5 and §3.6, letter by letter.
var rfcFigures = []struct{ name, text string }{
	{"figure 6", `
       TCP Peer A                                           TCP Peer B

   1.  CLOSED                                               LISTEN

   2.  SYN-SENT    --> <SEQ=100><CTL=SYN>               --> SYN-RECEIVED

   3.  ESTABLISHED <-- <SEQ=300><ACK=101><CTL=SYN,ACK>  <-- SYN-RECEIVED

   4.  ESTABLISHED --> <SEQ=101><ACK=301><CTL=ACK>       --> ESTABLISHED

   5.  ESTABLISHED --> <SEQ=101><ACK=301><CTL=ACK><DATA> --> ESTABLISHED

     Figure 6: Basic Three-Way Handshake for Connection Synchronization`},
	{"figure 7", `
       TCP Peer A                                       TCP Peer B

   1.  CLOSED                                           CLOSED

   2.  SYN-SENT     --> <SEQ=100><CTL=SYN>              ...

   3.  SYN-RECEIVED <-- <SEQ=300><CTL=SYN>              <-- SYN-SENT

   4.               ... <SEQ=100><CTL=SYN>              --> SYN-RECEIVED

   5.  SYN-RECEIVED --> <SEQ=100><ACK=301><CTL=SYN,ACK> ...

   6.  ESTABLISHED  <-- <SEQ=300><ACK=101><CTL=SYN,ACK> <-- SYN-RECEIVED

   7.               ... <SEQ=100><ACK=301><CTL=SYN,ACK> --> ESTABLISHED

             Figure 7: Simultaneous Connection Synchronization`},
	{"figure 8", `
       TCP Peer A                                           TCP Peer B

   1.  CLOSED                                               LISTEN

   2.  SYN-SENT    --> <SEQ=100><CTL=SYN>               ...

   3.  (duplicate) ... <SEQ=90><CTL=SYN>               --> SYN-RECEIVED

   4.  SYN-SENT    <-- <SEQ=300><ACK=91><CTL=SYN,ACK>  <-- SYN-RECEIVED

   5.  SYN-SENT    --> <SEQ=91><CTL=RST>               --> LISTEN

   6.              ... <SEQ=100><CTL=SYN>               --> SYN-RECEIVED

   7.  ESTABLISHED <-- <SEQ=400><ACK=101><CTL=SYN,ACK>  <-- SYN-RECEIVED

   8.  ESTABLISHED --> <SEQ=101><ACK=401><CTL=ACK>      --> ESTABLISHED

                 Figure 8: Recovery from Old Duplicate SYN`},
	{"figure 9", `
         TCP Peer A                                      TCP Peer B

     1.  (REBOOT)                              (send 300,receive 100)

     2.  CLOSED                                           ESTABLISHED

     3.  SYN-SENT --> <SEQ=400><CTL=SYN>              --> (??)

     4.  (!!)     <-- <SEQ=300><ACK=100><CTL=ACK>     <-- ESTABLISHED

     5.  SYN-SENT --> <SEQ=100><CTL=RST>              --> (Abort!!)

     6.  SYN-SENT                                         CLOSED

     7.  SYN-SENT --> <SEQ=400><CTL=SYN>              -->

                  Figure 9: Half-Open Connection Discovery`},
	{"figure 10", `
         TCP Peer A                                         TCP Peer B

   1.  (REBOOT)                                  (send 300,receive 100)

   2.  (??)    <-- <SEQ=300><ACK=100><DATA=10><CTL=ACK> <-- ESTABLISHED

   3.          --> <SEQ=100><CTL=RST>                   --> (ABORT!!)

        Figure 10: Active Side Causes Half-Open Connection Discovery`},
	{"figure 11", `
       TCP Peer A                                    TCP Peer B

   1.  LISTEN                                        LISTEN

   2.       ... <SEQ=Z><CTL=SYN>                -->  SYN-RECEIVED

   3.  (??) <-- <SEQ=X><ACK=Z+1><CTL=SYN,ACK>   <--  SYN-RECEIVED

   4.       --> <SEQ=Z+1><CTL=RST>              -->  (return to LISTEN!)

   5.  LISTEN                                        LISTEN

   Figure 11: Old Duplicate SYN Initiates a Reset on Two Passive Sockets`},
	{"figure 12", `
       TCP Peer A                                           TCP Peer B

   1.  ESTABLISHED                                          ESTABLISHED

   2.  (Close)
       FIN-WAIT-1  --> <SEQ=100><ACK=300><CTL=FIN,ACK>  --> CLOSE-WAIT

   3.  FIN-WAIT-2  <-- <SEQ=300><ACK=101><CTL=ACK>      <-- CLOSE-WAIT

   4.                                                       (Close)
       TIME-WAIT   <-- <SEQ=300><ACK=101><CTL=FIN,ACK>  <-- LAST-ACK

   5.  TIME-WAIT   --> <SEQ=101><ACK=301><CTL=ACK>      --> CLOSED

   6.  (2 MSL)
       CLOSED

                      Figure 12: Normal Close Sequence`},
	{"figure 13", `
       TCP Peer A                                           TCP Peer B

   1.  ESTABLISHED                                          ESTABLISHED

   2.  (Close)                                              (Close)
       FIN-WAIT-1  --> <SEQ=100><ACK=300><CTL=FIN,ACK>  ... FIN-WAIT-1
                   <-- <SEQ=300><ACK=100><CTL=FIN,ACK>  <--
                   ... <SEQ=100><ACK=300><CTL=FIN,ACK>  -->

   3.  CLOSING     --> <SEQ=101><ACK=301><CTL=ACK>      ... CLOSING
                   <-- <SEQ=301><ACK=101><CTL=ACK>      <--
                   ... <SEQ=101><ACK=301><CTL=ACK>      -->

   4.  TIME-WAIT                                            TIME-WAIT
       (2 MSL)                                              (2 MSL)
       CLOSED                                               CLOSED

                   Figure 13: Simultaneous Close Sequence`},
}

// textbookFigures are drawn as textbooks draw them: a client, a server that listens, and netstat's names of states.
var textbookFigures = []struct{ name, text string }{
	{"three-way open", `
  Client                                                       Server
  CLOSED                                                       LISTEN
  SYN_SENT     -->  <SEQ=1000><CTL=SYN>                   -->  SYN_RCVD
  ESTABLISHED  <--  <SEQ=5000><ACK=1001><CTL=SYN,ACK>     <--  SYN_RCVD
  ESTABLISHED  -->  <SEQ=1001><ACK=5001><CTL=ACK>         -->  ESTABLISHED`},
	{"four-way close", `
  Client                                                       Server
  CLOSED                                                       LISTEN
  SYN_SENT     -->  <SEQ=x><CTL=SYN>                      -->  SYN_RCVD
  ESTABLISHED  <--  <SEQ=y><ACK=x+1><CTL=SYN,ACK>         <--  SYN_RCVD
  ESTABLISHED  -->  <SEQ=x+1><ACK=y+1><CTL=ACK>           -->  ESTABLISHED
  ESTABLISHED  -->  <SEQ=x+1><ACK=y+1><CTL=ACK><DATA=100> -->  ESTABLISHED
  ESTABLISHED  <--  <SEQ=y+1><ACK=x+101><CTL=ACK><DATA=9> <--  ESTABLISHED
  (Close)
  FIN_WAIT_1   -->  <SEQ=x+101><ACK=y+10><CTL=FIN,ACK>    -->  CLOSE_WAIT
  FIN_WAIT_2   <--  <SEQ=y+10><ACK=x+102><CTL=ACK>        <--  CLOSE_WAIT
                                                               (Close)
  TIME_WAIT    <--  <SEQ=y+10><ACK=x+102><CTL=FIN,ACK>    <--  LAST_ACK
  TIME_WAIT    -->  <SEQ=x+102><ACK=y+11><CTL=ACK>        -->  CLOSED
  2 MSL
  CLOSED                                                       CLOSED`},
	{"three-way close", `
  Client                                                       Server
  ESTABLISHED                                                  ESTABLISHED
  (Close)
  FIN_WAIT_1   -->  <SEQ=1><ACK=1><CTL=FIN,ACK>           -->  CLOSE_WAIT
                                                               (Close)
  TIME_WAIT    <--  <SEQ=1><ACK=2><CTL=FIN,ACK>           <--  LAST_ACK
  TIME_WAIT    -->  <SEQ=2><ACK=2><CTL=ACK>               -->  CLOSED`},
	{"nobody listens", `
  Client                                                       Server
  CLOSED                                                       CLOSED
  SYN_SENT     -->  <SEQ=7><CTL=SYN>                      -->  CLOSED
  CLOSED       <--  <SEQ=0><ACK=8><CTL=RST,ACK>           <--  CLOSED`},
	{"abort", `
  Client                                                       Server
  ESTABLISHED                                                  ESTABLISHED
  (Abort)
  CLOSED       -->  <SEQ=100><ACK=300><CTL=RST,ACK>       -->  (Abort!!)
  CLOSED                                                       CLOSED`},
	{"the SYN is lost", `
  Client                                                       Server
  CLOSED                                                       LISTEN
  SYN_SENT     -->  <SEQ=1><CTL=SYN>                      ...  (lost)
  SYN_SENT     -->  <SEQ=1><CTL=SYN>                      -->  SYN_RCVD
  ESTABLISHED  <--  <SEQ=9><ACK=2><CTL=SYN,ACK>           <--  SYN_RCVD`},
	{"the SYN-ACK is lost", `
  Client                                                       Server
  CLOSED                                                       LISTEN
  SYN_SENT     -->  <SEQ=1><CTL=SYN>                      -->  SYN_RCVD
  (lost)       ...  <SEQ=9><ACK=2><CTL=SYN,ACK>           <--  SYN_RCVD
  ESTABLISHED  <--  <SEQ=9><ACK=2><CTL=SYN,ACK>           <--  SYN_RCVD
  ESTABLISHED  -->  <SEQ=2><ACK=10><CTL=ACK>              -->  ESTABLISHED`},
	{"a wrap of the sequence numbers", `
  Client                                                       Server
  CLOSED                                                       LISTEN
  SYN_SENT     -->  <SEQ=4294967295><CTL=SYN>             -->  SYN_RCVD
  ESTABLISHED  <--  <SEQ=4294967290><ACK=0><CTL=SYN,ACK>  <--  SYN_RCVD
  ESTABLISHED  -->  <SEQ=0><ACK=4294967291><CTL=ACK>      -->  ESTABLISHED
  ESTABLISHED  <--  <SEQ=4294967291><ACK=0><CTL=ACK><DATA=9>  <--  ESTABLISHED
  ESTABLISHED  -->  <SEQ=0><ACK=4><CTL=ACK>               -->  ESTABLISHED`},
}

func TestRFCFigures(t *testing.T) {
	for _, f := range rfcFigures {
		t.Run(f.name, func(t *testing.T) { tcptest.Figure(t, f.text) })
	}
}

func TestTextbookFigures(t *testing.T) {
	for _, f := range textbookFigures {
		t.Run(f.name, func(t *testing.T) { tcptest.Figure(t, f.text) })
	}
}

// stray are the fields that may be changed and the figure still holds, each with the reason.
var stray = map[string]string{
	"figure 8, 300 in line 4.  SYN-SENT    <-- <SEQ=300><ACK=91><CTL=SYN,ACK>  <-- SYN-RECEIVED": "an initial sequence number that is not used later",
	"figure 10, 10 in line 2.  (??)    <-- <SEQ=300><ACK=100><DATA=10><CTL=ACK> <-- ESTABLISHED": "how much the user sends, and nobody acknowledges",
	"figure 12, 2 in line 6.  (2 MSL)": "more time than 2 MSL ends TIME-WAIT as well",
}

var (
	anyState  = regexp.MustCompile(`CLOSED|\bLISTEN\b|SYN-SENT|SYN-RECEIVED|ESTABLISHED|FIN-WAIT-[12]|CLOSE-WAIT|CLOSING|LAST-ACK|TIME-WAIT`)
	anyNumber = regexp.MustCompile(`(SEQ=|ACK=|DATA=|send |receive |\()(\d+|X|Z\+1|Z)\b`)
	anyCTL    = regexp.MustCompile(`CTL=([A-Z,]+)`)
	anyArrow  = regexp.MustCompile(`-->|<--|\.\.\.`)
	anyCall   = regexp.MustCompile(`\(Close\)|\(duplicate\)|<DATA>`)
)

// changes yields the text with one field changed, in every way, and names the field.
func changes(text string, yield func(changed, field string)) {
	each := func(re *regexp.Regexp, group int, others func(string) []string) {
		for _, m := range re.FindAllStringSubmatchIndex(text, -1) {
			at, end := m[2*group], m[2*group+1]
			for _, o := range others(text[at:end]) {
				changed := text[:at] + o + text[end:]
				line, _, _ := strings.Cut(text[strings.LastIndexByte(text[:at], '\n')+1:], "\n")
				yield(changed, text[at:end]+" in line "+strings.TrimSpace(line))
			}
		}
	}
	each(anyState, 0, otherStates)
	each(anyNumber, 2, otherNumbers)
	each(anyCTL, 1, otherFlags)
	each(anyArrow, 0, func(a string) []string { return without([]string{"-->", "<--", "..."}, a) })
	each(anyCall, 0, func(string) []string { return []string{""} })
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		turned := strings.NewReplacer("-->", "<--", "<--", "-->").Replace(l)
		if turned != l {
			yield(strings.Join(append(append(append([]string{}, lines[:i]...), turned), lines[i+1:]...), "\n"), "the direction in line "+strings.TrimSpace(l))
		}
	}
}

func without(list []string, s string) []string {
	var r []string
	for _, l := range list {
		if l != s {
			r = append(r, l)
		}
	}
	return r
}

func otherStates(s string) []string {
	return without([]string{"CLOSED", "LISTEN", "SYN-SENT", "SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2",
		"CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT"}, s)
}

// otherNumbers is the next number and the one before: of a name, the name plus one; of Z+1, Z and Z+2.
func otherNumbers(s string) []string {
	switch s {
	case "X", "Z":
		return []string{s + "+1", s + "-1"}
	case "Z+1":
		return []string{"Z", "Z+2"}
	}
	n, _ := strconv.Atoi(s)
	return []string{strconv.Itoa(n - 1), strconv.Itoa(n + 1)}
}

// otherFlags adds or takes away each of the control bits that the figures use.
func otherFlags(s string) []string {
	var r []string
	for _, f := range []string{"SYN", "FIN", "RST", "ACK"} {
		have := strings.Split(s, ",")
		if rest := without(have, f); len(rest) < len(have) {
			r = append(r, strings.Join(rest, ","))
		} else {
			r = append(r, s+","+f)
		}
	}
	return r
}

// TestChangedFigures tests the tester: an RFC figure with one field changed does not hold.
func TestChangedFigures(t *testing.T) {
	total := 0
	found := map[string]bool{}
	for _, f := range rfcFigures {
		changes(f.text, func(changed, field string) {
			total++
			if tcptest.Run(changed) != nil {
				return
			}
			field = f.name + ", " + field
			if found[field] = true; stray[field] == "" {
				t.Errorf("passes with another value for %s:\n%s", field, changed)
			}
		})
	}
	for field := range stray {
		if !found[field] {
			t.Errorf("listed as a field that may change, but it may not: %s", field)
		}
	}
	if total < 500 {
		t.Errorf("%d changes were tried, so the patterns of the fields miss most", total)
	}
	t.Logf("%d changes", total)
}
