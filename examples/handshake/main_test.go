package main

import (
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
)

// Each story is told to its end, in the order of RFC 9293, whatever the clock.
func TestStories(t *testing.T) {
	want := map[string][]string{
		"plain":              {"SYN-SENT .*--> <SEQ=0><CTL=SYN>", "<-- <SEQ=0><ACK=1><CTL=SYN,ACK> +SYN-RECEIVED", "FIN-WAIT-1 .*FIN,ACK", "CLOSE-WAIT", "LAST-ACK", "TIME-WAIT", "CLOSED"},
		"lost-SYN":           {"<SEQ=0><CTL=SYN> +\\(lost\\)", "1.0.. s  SYN-SENT .*again: RTO", "TIME-WAIT", "CLOSED"},
		"lost-SYN-ACK":       {"SYN,ACK> +\\(lost\\)", "again: RTO", "ESTABLISHED", "CLOSED"},
		"lost-FIN":           {"FIN,ACK> +\\(lost\\)", "FIN-WAIT-1 .*again: tail loss probe", "CLOSE-WAIT", "CLOSED"},
		"simultaneous-open":  {"SYN-SENT .*-->", "<-- .*SYN-SENT", "SYN-RECEIVED +\n", "ESTABLISHED", "ESTABLISHED"},
		"simultaneous-close": {"FIN-WAIT-1 +-->", "<-- .*FIN-WAIT-1", "CLOSING", "TIME-WAIT"},
		"refused":            {"SYN-SENT", "RST,ACK"},
	}
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			var text strings.Builder
			synctest.Test(t, func(t *testing.T) {
				if err := tell(&text, s); err != nil {
					t.Error(err)
				}
			})
			rest := text.String()
			for _, w := range want[s.name] {
				at := regexp.MustCompile(strings.ReplaceAll(w, "+\n", "")).FindStringIndex(rest)
				if at == nil {
					t.Fatalf("no %q in what is left of\n%s", w, text.String())
				}
				rest = rest[at[1]:]
			}
		})
	}
}
