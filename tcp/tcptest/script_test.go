package tcptest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestScript plays one connection from the first SYN to the last acknowledgement, with every kind of line.
func TestScript(t *testing.T) {
	Script(t, `
		listen
		< S 0:0(0) win 2016 <mss 1000,sackOK,TS val 9 ecr 0>
		> S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK,TS val 0 ecr 9>
		accept = none
		50ms < . 1:1(0) ack 1 win 2016 <nop,nop,TS>
		accept
		event opened progress
		+0.01 write 3000 = 3000
		> . 1:1977(2*988) ack 1 <nop,nop,TS val 60 ecr *> (data)
		info InFlight=1976 SRTT=50ms~1us SndUna=1 RcvNxt=1 State=ESTABLISHED Timestamps=true Err=none Unsent>0
		+0.05 < P. 1:1001(1000) ack 1977 win 2016 <nop,nop,TS>
		event readable progress
		* > . 1977:2965(988) ack 1001 <nop,nop,TS>
		> P. 2965:3001(36) ack 1001 <nop,nop,TS>
		read 10 = 10
		read 2000 = 990
		+50ms~10ms < . 1001:1001(0) ack 2965..3001/36 win 2016 <nop,nop,TS>
		close
		> F. 3001:3001(0) ack 1001 <nop,nop,TS>
		+0.05 < F. 1001:1001(0) ack 3002 win 2016 <nop,nop,TS>
		> . 3002:3002(0) ack 1002 <nop,nop,TS>
		read 10 = eof
		state TIME-WAIT
		release
		+60 quiet
		state LISTEN`)
}

// TestScriptFastRetransmit is the script of the documentation.
func TestScriptFastRetransmit(t *testing.T) {
	Script(t, `
		config Congestion=reno NoSACK=true
		0     established mss=1000 rtt=100ms       # the handshake, unseen
		+0    write 4000 = 4000
		      > .  1:3001(3*1000) ack 1
		      > P. 3001:4001(1000) ack 1
		+0.1  < .  1:1(0) ack 1 win 65535          # three duplicates: the first is lost
		      < .  1:1(0) ack 1 win 65535
		      < .  1:1(0) ack 1 win 65535
		      > .  1:1001(1000) ack 1              (fast retransmit)
		      info Ssthresh=2000`)
}

// TestScriptFails has scripts that do not hold, each for one reason, and asks that the failure names the line and what was
// sent or found.
func TestScriptFails(t *testing.T) {
	const opened = "established rtt=100ms mss=1000\n"
	for _, x := range []struct {
		name, script string
		line         string
		want         []string
	}{
		{"other flags", opened + "close\n> . 1:1(0) ack 1", "line 3", []string{"> F. 1:1(0) ack 1", "flags"}},
		{"no PSH", opened + "write 10 = 10\n> . 1:11(10) ack 1", "line 3", []string{"> P. 1:11(10) ack 1", "flags"}},
		{"other sequence number", opened + "write 10 = 10\n> P. 2:12(10) ack 1", "line 3", []string{"> P. 1:11(10)", "sequence number"}},
		{"other length", opened + "write 10 = 10\n> P. 1:12(11) ack 1", "line 3", []string{"1:11(10)", "length"}},
		{"other acknowledgement", opened + "write 10 = 10\n> P. 1:11(10) ack 2", "line 3", []string{"ack 1", "acknowledgement"}},
		{"other window", opened + "write 10 = 10\n> P. 1:11(10) ack 1 win 5", "line 3", []string{"win 65535", "window"}},
		{"other cause", opened + "write 10 = 10\n> P. 1:11(10) ack 1 (RTO)", "line 3", []string{"(data)", "cause"}},
		{"other ECN", opened + "write 10 = 10\n> P. 1:11(10) ack 1 ecn ect0", "line 3", []string{"ECN"}},
		{"no options expected", "open\n> S 0:0(0)", "line 2", []string{"<mss 1460,sackOK,TS val 0 ecr 0,nop,wscale 7>", "options"}},
		{"order of options", "open\n> S 0:0(0) <mss 1460,TS,sackOK,nop,wscale 7>", "line 2", []string{"options"}},
		{"too early", opened + "write 10 = 10\n+0.1 > P. 1:11(10) ack 1", "line 3", []string{"sent at 100ms", "not at 200ms"}},
		{"too late", opened + "write 10 = 10\n> P. 1:11(10) ack 1\n+0.2 > P. 1:11(10) ack 1", "line 4", []string{"nothing was sent until 300ms"}},
		{"outside of the tolerance", opened + "write 10 = 10\n> P. 1:11(10) ack 1\n+0.28~0.01 > P. 1:11(10) ack 1", "line 4", []string{"nothing was sent"}},
		{"never", opened + "* > . 1:1(0) ack 1", "line 2", []string{"nothing was sent"}},
		{"one that no line expects", opened + "write 10 = 10\nwrite 10 = 10", "line 3", []string{"no line expects", "> P. 1:11(10) ack 1"}},
		{"one behind the last line", opened + "write 10 = 10", "line 2", []string{"after the last line", "> P. 1:11(10) ack 1"}},
		{"one while all is quiet", opened + "write 10 = 10\n> P. 1:11(10) ack 1\n+1 quiet", "line 4", []string{"sent at 400ms"}},
		{"a run that is shorter", opened + "write 1500 = 1500\n> P. 1:2001(2*1000) ack 1", "line 3", []string{"segment 2 of 2", "1001:1501(500)"}},
		{"other state", opened + "state CLOSED", "line 2", []string{"ESTABLISHED"}},
		{"other field", opened + "info SndWnd=1", "line 2", []string{"SndWnd is 65535"}},
		{"other duration", opened + "info SRTT>1s", "line 2", []string{"SRTT is 100ms"}},
		{"other text", opened + "info State=CLOSED", "line 2", []string{"State is ESTABLISHED"}},
		{"unknown field", opened + "info Nonsense=1", "line 2", []string{"no Nonsense"}},
		{"other result of Write", opened + "buffers 0 5\nwrite 10 = 10", "line 3", []string{"write took 5"}},
		{"other result of Read", opened + "read 10 = 10", "line 2", []string{"read gave 0"}},
		{"other news", opened + "< P. 1:11(10) ack 1\nevent opened", "line 3", []string{"[readable]"}},
		{"other check", opened + "< P. 90000:90010(10) ack 1\ndrop paws", "line 3", []string{`"window"`}},
		{"backwards", opened + "0.05 quiet", "line 2", []string{"100ms already"}},
		{"nobody accepted", "listen\naccept", "line 2", []string{"false"}},
		{"nothing is held", "listen\ndecide accept", "line 2", []string{"no SYN is held"}},
		{"no connection", "write 10 = 10", "line 1", []string{"no connection"}},
		{"a handshake that does not end", "config NoScale=true\nestablished nonsense", "line 2", []string{"nonsense"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			err := RunScript(x.script)
			if err == nil {
				t.Fatal("the script holds")
			}
			for _, w := range append(x.want, x.line+" does not hold") {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in the failure:\n%v", w, err)
				}
			}
		})
	}
}

// TestScriptSyntax has lines that say nothing.
func TestScriptSyntax(t *testing.T) {
	for _, script := range []string{
		"", "# a comment alone", "+1", "nonsense", "* < . 1:1(0) ack 1", "> 1:1(0)", "> X 1:1(0)", "> . 1:1(0)",
		"> S 0:0(0) ack 1", "> S 0:1(0)", "> S 0:0", "> S 0:3(2*2)", "> S 0:0(0) win", "> S 0:0(0) win 65536", "> S 0:0(0) win -1",
		"> S 0:0(0) ecn 4", "> S 0:0(0) ttl 4", "> . 1:1(0) ack 5..1/2", "> . 1:1(0) ack 1..4/2", "> . 1:2(1) ack 1..5/2",
		"> . 1:1(0) ack 1..5/0", "> S 0:0(0*0)", "> S 0:0(100001*0)",
		"open\n< S. 0:0(0) ack 1 <mss>", "open\n< S. 0:0(0) ack 1 <mss 65536>", "open\n< S. 0:0(0) ack 1 <wscale 256>",
		"open\n< S. 0:0(0) ack 1 <nonsense>", "open\n< S. 0:0(0) ack 1 <>", "open\n< S. 0:0(0) ack 1 <TS val x ecr 1>",
		"open\n< S. 0:0(0) ack 1 <sack 1>", "open\n< S. 0:0(0) ack 1 <kind 300>", "open\n< S. 0:0(0) ack 1 <kind 30 xy>",
		"open\n< S. 0:0(0) ack 1 <TS,TS,TS,TS,TS>",
		"config Nonsense=1", "config MTU", "config MTU=x", "config MinRTO=x", "config Nagle=x", "config DefaultMSS=70000",
		"config Congestion=nonsense", "open\n> S 0:0(0) <...>\nconfig MTU=5", "open extra\nopen", "listen nonsense", "listen backlog=x",
		"decide accept", "listen\ndecide nonsense", "full maybe", "write 10", "established rtt=x",
		"established\nwrite x = 1", "established\nread 10 = 10 10", "established\nkeepalive 1", "established\nkeepalive a b c",
		"established\nmtu 1", "established\nmtu a b", "established\nicmp refused", "established\nicmp nonsense 1",
		"established\nicmp refused x", "established\nicmp too-big 1 mtu x", "established\nnodelay", "established\nclose now",
		"established\nusertimeout x", "established\ninfo", "established\ninfo Cwnd", "established\ninfo Cwnd=x",
		"established\ninfo Cwnd=1~x", "established\nevent", "established\nevent nonsense",
	} {
		if err := RunScript(script); err == nil {
			t.Errorf("%q is understood", script)
		}
	}
}

// FuzzScript plays whatever the fuzzer makes of scripts: nothing that a script says brings the runner, or the connection
// behind it, down.
func FuzzScript(f *testing.F) {
	files, err := filepath.Glob("../testdata/scripts/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatal("no scripts to begin with", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, script := range strings.Split(string(text), "\n== ")[1:] {
			_, script, _ = strings.Cut(script, "\n")
			f.Add(script)
		}
	}
	f.Fuzz(func(_ *testing.T, script string) {
		if len(script) < 2000 {
			_ = RunScript(script)
		}
	})
}
