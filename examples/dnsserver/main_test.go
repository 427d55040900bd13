package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/seed87e66d9f/waybill/examples/internal/host"
)

// patience is how long a test waits for something that comes at once, on a machine that is busy with others.
const patience = 60 * time.Second

// query is a question in the form that it travels in; with EDNS, unless size is 0.
func query(t *testing.T, name string, kind dnsmessage.Type, size int) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	if size > 0 {
		var h dnsmessage.ResourceHeader
		h.SetEDNS0(size, dnsmessage.RCodeSuccess, false)
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnswer(t *testing.T) {
	z, err := parseZone(exampleZone + "\nfour.example A 203.0.113.4 # only\nround.example CNAME about.example\nabout.example CNAME round.example\n" +
		strings.Repeat("medium.example TXT "+strings.Repeat("m", 200)+"\n", 4))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		kind    dnsmessage.Type
		size    int // of EDNS
		overTCP bool
		answers int
		code    dnsmessage.RCode
		cut     bool // TC
	}{
		{"www.example.", dnsmessage.TypeA, 0, false, 1, dnsmessage.RCodeSuccess, false},
		{"wWw.eXample.", dnsmessage.TypeAAAA, 1232, false, 1, dnsmessage.RCodeSuccess, false},
		{"alias.example.", dnsmessage.TypeA, 0, false, 2, dnsmessage.RCodeSuccess, false},
		{"alias.example.", dnsmessage.TypeCNAME, 0, false, 1, dnsmessage.RCodeSuccess, false},
		{"round.example.", dnsmessage.TypeA, 0, false, maxAliases, dnsmessage.RCodeSuccess, false},
		{"four.example.", dnsmessage.TypeAAAA, 0, false, 0, dnsmessage.RCodeSuccess, false},
		{"nobody.example.", dnsmessage.TypeA, 0, false, 0, dnsmessage.RCodeNameError, false},
		{"medium.example.", dnsmessage.TypeTXT, 0, false, 0, dnsmessage.RCodeSuccess, true},
		{"medium.example.", dnsmessage.TypeTXT, 100, false, 0, dnsmessage.RCodeSuccess, true}, // RFC 6891 §6.2.3: less than 512 is 512
		{"medium.example.", dnsmessage.TypeTXT, 1000, false, 4, dnsmessage.RCodeSuccess, false},
		{"long.example.", dnsmessage.TypeTXT, 65535, false, 0, dnsmessage.RCodeSuccess, true},
		{"long.example.", dnsmessage.TypeTXT, 512, true, 10, dnsmessage.RCodeSuccess, false},
	} {
		b := z.answer(query(t, c.name, c.kind, c.size), c.overTCP)
		var m dnsmessage.Message
		if err := m.Unpack(b); err != nil {
			t.Errorf("%s %v: %v", c.name, c.kind, err)
			continue
		}
		if m.ID != 4711 || !m.Response || len(m.Answers) != c.answers || m.RCode != c.code || m.Truncated != c.cut || (len(m.Additionals) == 1) != (c.size > 0) {
			t.Errorf("%s %v: %#v, want %d answers, %v, TC %v, and EDNS where it was asked so", c.name, c.kind, m, c.answers, c.code, c.cut)
		}
		if c.answers > 0 && m.Answers[0].Header.Name.String() != c.name || !c.overTCP && len(b) > maxUDP {
			t.Errorf("%s %v: %d octets, about %v", c.name, c.kind, len(b), m.Answers)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	z, err := parseZone(exampleZone)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if a := z.answer(b, false); len(a) > maxUDP {
			t.Errorf("an answer of %d octets by UDP", len(a))
		}
	})
}

func TestZoneErrors(t *testing.T) {
	for text, want := range map[string]string{
		"a.example A":                                "line 1: want a name",
		"\na.example A ::1":                          "line 2: A ::1",
		"a.example AAAA 1.2.3.4":                     "line 1: AAAA",
		"a.example MX b":                             "line 1: MX b",
		"a..example A 1.2.3.4":                       "line 1",
		"a.example TXT " + strings.Repeat("x", 256):  "line 1",
		"a.example CNAME " + strings.Repeat("x", 64): "line 1",
	} {
		if _, err := parseZone(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// lookups asks a resolver for what zone.txt says.
func lookups(t *testing.T, r *net.Resolver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, name := range []string{"www.example.", "alias.example."} {
		got, err := r.LookupHost(ctx, name)
		slices.Sort(got)
		if want := []string{"2001:db8::80", "203.0.113.80"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, want)
		}
	}
	if got, err := r.LookupTXT(ctx, "long.example."); err != nil || len(got) != 10 { // by TCP, as it is too long
		t.Errorf("long.example: %d texts, %v, want 10", len(got), err)
	}
	_, err := r.LookupHost(ctx, "nobody.example.")
	if dns, ok := err.(*net.DNSError); !ok || !dns.IsNotFound {
		t.Errorf("nobody.example: %v, want no such host", err)
	}
}

// TestOverStacks has the other host in memory ask, in both families. It ends while a connection is open.
func TestOverStacks(t *testing.T) {
	z, err := parseZone(exampleZone)
	if err != nil {
		t.Fatal(err)
	}
	flags := flag.NewFlagSet("", flag.PanicOnError)
	network := host.Register(flags)
	flags.Parse(nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = network.Run(ctx, func(ctx context.Context, h *host.Host) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		ended, listens := make(chan error, 1), make(chan struct{})
		go func() { ended <- serve(ctx, h, z, func() error { close(listens); return nil }) }()
		<-listens
		for _, server := range []string{"198.51.100.2:53", "[2001:db8:51::2]:53"} {
			lookups(t, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return h.Client.DialContext(ctx, network, server)
			}})
			idle, err := h.Client.Dial("tcp", server)
			if err != nil {
				return err
			}
			defer idle.Close()
			q := query(t, "www.example.", dnsmessage.TypeA, 0)
			q = append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)
			if _, err := idle.Write(append(q, q...)); err != nil { // RFC 7766 §6.2.1.1: one behind the other
				return err
			}
			for range 2 {
				length := make([]byte, 2)
				if _, err := io.ReadFull(idle, length); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(idle, make([]byte, binary.BigEndian.Uint16(length))); err != nil {
					t.Fatal(err)
				}
			}
		}
		cancel()
		return <-ended
	})
	if err != nil {
		t.Error(err)
	}
}

// TestProgram runs the program as a user does, and asks by the ports of this machine.
func TestProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "dnsserver.exe")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := exec.Command(program, "-listen", "127.0.0.1:0")
	var complaints bytes.Buffer
	c.Stderr = &complaints
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(patience, func() { c.Process.Kill() }).Stop()
	defer func() { c.Process.Kill() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	words := strings.Fields(strings.ReplaceAll(line, ",", ""))
	if err != nil || len(words) < 4 || words[0] != "serving" || words[2] != words[3] {
		t.Fatalf("it says %q, %v, want the same port twice\n%s", line, err, &complaints)
	}
	lookups(t, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, words[2])
	}})
	if runtime.GOOS == "windows" {
		return // no signals there
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil || complaints.Len() > 0 {
		t.Errorf("ended with %v, want exit status 0\n%s", err, &complaints)
	}
}
