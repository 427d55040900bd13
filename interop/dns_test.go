package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/seed87e66d9f/waybill/stack"
)

// maxUDP is what an answer by UDP may take, whatever the client could take: longer ones might be cut into fragments,
// which get lost (RFC 9715 §3, R3).
const maxUDP = 1232

// serveZone answers, from records in the notation of zone files, over UDP and TCP.
func serveZone(t *testing.T, s *stack.Stack, zone string) {
	t.Helper()
	var records []dns.RR
	for z := dns.NewZoneParser(strings.NewReader(zone), "example.", ""); ; {
		r, ok := z.Next()
		if !ok {
			if z.Err() != nil {
				t.Fatal(z.Err())
			}
			break
		}
		records = append(records, r)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_, overTCP := w.RemoteAddr().(*net.TCPAddr)
		if q.Question[0].Qtype == dns.TypeAXFR && overTCP {
			transfer(w, q, records)
			return
		}
		w.WriteMsg(answer(q, records, overTCP))
	})
	packets, err := s.ListenPacket("udp", ":53")
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: listen(t, s, "53"), Handler: handler}} {
		ended := make(chan error, 1)
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { ended <- server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := server.Shutdown(); err != nil {
				t.Error(err)
			}
			if err := <-ended; err != nil {
				t.Errorf("the DNS server ended with %v, want nil after Shutdown", err)
			}
		})
	}
}

func answer(q *dns.Msg, records []dns.RR, overTCP bool) *dns.Msg {
	a := new(dns.Msg).SetReply(q)
	a.Authoritative, a.Compress = true, true
	name, known := q.Question[0].Name, false
	for _, r := range records {
		h := r.Header()
		if h.Name != name {
			continue
		}
		known = true
		if alias, ok := r.(*dns.CNAME); ok {
			name = alias.Target
			a.Answer = append(a.Answer, r)
		} else if h.Rrtype == q.Question[0].Qtype {
			a.Answer = append(a.Answer, r)
		}
	}
	if !known {
		a.Rcode = dns.RcodeNameError
	}
	size := dns.MinMsgSize
	if o := q.IsEdns0(); o != nil {
		a.SetEdns0(maxUDP, false)
		size = max(size, min(int(o.UDPSize()), maxUDP))
	}
	if !overTCP {
		a.Truncate(size)
	}
	return a
}

func transfer(w dns.ResponseWriter, q *dns.Msg, records []dns.RR) {
	soa := records[0] // begins and ends it (RFC 5936 §2.2)
	envelopes := make(chan *dns.Envelope)
	go func() {
		defer close(envelopes)
		for part := range slices.Chunk(append(slices.Clone(records), soa), 100) {
			envelopes <- &dns.Envelope{RR: part}
		}
	}()
	new(dns.Transfer).Out(w, q, envelopes)
	for range envelopes { // where Out gave up
	}
}

// aZone has an answer of each kind: short, long for UDP without EDNS, and long for UDP.
func aZone() string {
	var z strings.Builder
	z.WriteString(`$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 60
alias CNAME host
host A 203.0.113.7
host AAAA 2001:db8::7
`)
	for i := range 100 {
		if i < 10 {
			fmt.Fprintf(&z, "medium TXT \"%03d %s\"\n", i, strings.Repeat("m", 80))
		}
		fmt.Fprintf(&z, "large TXT \"%03d %s\"\n", i, strings.Repeat("l", 200))
	}
	for i := range 5000 {
		fmt.Fprintf(&z, "h%d A 203.0.113.%d\n", i, i%256)
	}
	return z.String()
}

// TestDNSRealClient: dig asks a server on miekg/dns by UDP and by TCP.
func TestDNSRealClient(t *testing.T) {
	s := enter(t, "dig")
	if s == nil {
		return
	}
	serveZone(t, s, aZone())
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			for _, c := range []struct {
				ask  string
				want []string
			}{
				{"host.example A +notcp", []string{"NOERROR", " aa ", "203.0.113.7", "(UDP)", "EDNS: version: 0, flags:; udp: 1232"}},
				{"host.example AAAA +notcp", []string{"NOERROR", "2001:db8::7", "(UDP)"}},
				{"alias.example A +tcp", []string{"alias.example.", "CNAME\thost.example.", "203.0.113.7", "(TCP)"}},
				{"nobody.example A", []string{"NXDOMAIN", "(UDP)"}},
				{"nobody.example A +tcp", []string{"NXDOMAIN", "(TCP)"}},
				// RFC 6891 §4.3: without EDNS 512 octets are the limit. The rest is for TCP.
				{"medium.example TXT +noedns +ignore", []string{" tc ", "(UDP)", "ANSWER: 4,"}},
				{"medium.example TXT +noedns", []string{"retrying in TCP mode", "(TCP)", "ANSWER: 10,", "009 mmm"}},
				{"medium.example TXT +bufsize=1232", []string{"(UDP)", "ANSWER: 10,", "009 mmm"}},
				{"medium.example TXT +bufsize=700 +ignore", []string{" tc ", "(UDP)", "ANSWER: 6,"}},
				{"large.example TXT +bufsize=4096 +ignore", []string{" tc ", "(UDP)", "ANSWER: 5,"}},
				{"large.example TXT +bufsize=4096", []string{"retrying in TCP mode", "(TCP)", "ANSWER: 100,", "099 lll"}},
				{"large.example TXT +tcp", []string{"(TCP)", "ANSWER: 100,", "099 lll"}},
				{"example AXFR", []string{"XFR size: 5115 records", "h4999.example."}},
			} {
				out := tool(t, append([]string{"dig", "@" + f.ours, "+time=20", "+tries=2"}, strings.Fields(c.ask)...)...)
				for _, want := range c.want {
					if !strings.Contains(out, want) {
						t.Errorf("dig %s: no %q in\n%.3000s", c.ask, want, out)
					}
				}
			}
			// Several questions over one connection, the octets of every answer.
			ask, want := []string{"dig", "@" + f.ours, "+tcp", "+keepopen", "+short"}, ""
			for i := range 100 {
				ask = append(ask, fmt.Sprintf("h%d.example", i))
				want += fmt.Sprintf("203.0.113.%d\n", i)
			}
			accepted := s.Stats().Accepted
			if out := tool(t, ask...); digest([]byte(out)) != digest([]byte(want)) {
				t.Errorf("100 questions:\n%s", out)
			}
			if n := s.Stats().Accepted - accepted; n != 1 {
				t.Errorf("100 questions over %d connections, want one", n)
			}
		})
	}
}

// startDNSMasq starts dnsmasq at both addresses of the kernel's, for *.example.
func startDNSMasq(t *testing.T, more ...string) {
	t.Helper()
	daemon(t, append([]string{"dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root", "--log-facility=-",
		"--conf-file=/dev/null", "--pid-file=", "--bind-interfaces", "--listen-address=" + families[0].theirs + "," + families[1].theirs,
		"--local=/example/"}, more...)...)
	awaitPort(t, families[0].theirs+":53")
	awaitPort(t, net.JoinHostPort(families[1].theirs, "53"))
}

// TestDNSRealServer: net.Resolver asks dnsmasq, over sockets of waybill.
func TestDNSRealServer(t *testing.T) {
	s := enterAs(t, stack.Config{DNS: []netip.AddrPort{
		netip.MustParseAddrPort(families[0].theirs + ":5301"), // nobody is there
		netip.AddrPortFrom(netip.MustParseAddr(families[1].theirs), 53),
	}}, "dnsmasq")
	if s == nil {
		return
	}
	var text []string
	args := []string{"--host-record=host.example,203.0.113.7,2001:db8::7", "--cname=alias.example,host.example",
		"--host-record=kernel.example," + families[0].theirs + "," + families[1].theirs}
	for i := range 40 {
		text = append(text, fmt.Sprintf("%03d %s", i, strings.Repeat("x", 150)))
		args = append(args, "--txt-record=large.example,"+text[i])
	}
	startDNSMasq(t, args...)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			t.Run("answers", func(t *testing.T) {
				lookups(t, resolver(s, net.JoinHostPort(f.theirs, "53")), text)
			})
			t.Run("timeout", func(t *testing.T) { silentServer(t, s, f.theirs) })
			t.Run("refused", func(t *testing.T) {
				// An ICMP error ends the wait for an answer.
				_, err := resolver(s, net.JoinHostPort(f.theirs, "5301")).LookupHost(t.Context(), "host.example")
				if dns := (*net.DNSError)(nil); !errors.As(err, &dns) || dns.IsTimeout || !strings.Contains(err.Error(), "connection refused") {
					t.Errorf("nobody at the port: %v, want connection refused", err)
				}
			})
		})
	}
	t.Run("the stack's own", func(t *testing.T) {
		// Of the servers of Config.DNS the first refuses, so the next is asked.
		for range 4 {
			lookups(t, s.Resolver(), text)
		}
		http, err := net.Listen("tcp", net.JoinHostPort("::", "80"))
		if err != nil {
			t.Fatal(err)
		}
		defer http.Close()
		for _, network := range []string{"tcp", "tcp4", "tcp6"} {
			conn, err := s.Dial(network, "kernel.example:80")
			if err != nil {
				t.Errorf("dial %s by name: %v", network, err)
				continue
			}
			conn.Close()
		}
		if _, err := s.Dial("tcp", "nobody.example:80"); err == nil || !strings.Contains(err.Error(), "no such host") {
			t.Errorf("dial a name that does not exist: %v", err)
		}
	})
}

// resolver asks one server, over waybill.
func resolver(s *stack.Stack, server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return s.DialContext(ctx, network, server)
	}}
}

func lookups(t *testing.T, r *net.Resolver, text []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, name := range []string{"host.example.", "alias.example."} {
		for network, want := range map[string]string{"ip4": "203.0.113.7", "ip6": "2001:db8::7"} {
			if got, err := r.LookupNetIP(ctx, network, name); err != nil || len(got) != 1 || got[0].Unmap() != netip.MustParseAddr(want) {
				t.Errorf("%s of %s: %v, %v, want %s", network, name, got, err, want)
			}
		}
	}
	if got, err := r.LookupCNAME(ctx, "alias.example."); err != nil || got != "host.example." {
		t.Errorf("the CNAME of alias.example: %q, %v, want host.example.", got, err)
	}
	_, err := r.LookupHost(ctx, "nobody.example.")
	if dns := (*net.DNSError)(nil); !errors.As(err, &dns) || !dns.IsNotFound {
		t.Errorf("nobody.example: %v, want an error with IsNotFound", err)
	}
	// It is too long for UDP: the answer is truncated, and the resolver asks again by TCP.
	got, err := r.LookupTXT(ctx, "large.example.")
	slices.Sort(got)
	if err != nil || !slices.Equal(got, text) {
		t.Errorf("large.example: %d texts, %v, want %d\n%q", len(got), err, len(text), got)
	}
}

// silentServer asks a server that never answers.
func silentServer(t *testing.T, s *stack.Stack, addr string) {
	silent, err := net.ListenPacket("udp", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = resolver(s, silent.LocalAddr().String()).LookupHost(ctx, "host.example.")
	if dns := (*net.DNSError)(nil); !errors.As(err, &dns) || !dns.IsTimeout {
		t.Errorf("no answer: %v, want an error with IsTimeout", err)
	}
	silent.SetReadDeadline(time.Now().Add(patience))
	if n, _, err := silent.ReadFrom(make([]byte, 512)); err != nil || n == 0 {
		t.Errorf("the silent server was asked %d octets, %v", n, err)
	}
}
