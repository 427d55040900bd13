package acd

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
)

var (
	ours   = netip.MustParseAddr("198.51.100.7")
	theirs = netip.MustParseAddr("198.51.100.8")
	mac    = ethernet.Addr{2, 0, 0x5e, 0x10, 0, 1}
	other  = ethernet.Addr{2, 0, 0x5e, 0x10, 0, 2}
)

// fixed is a detector whose random times are all d.
func fixed(d time.Duration) *Detector { return &Detector{Rand: func() uint64 { return uint64(d) }} }

// run lets time pass until the detector waits for nothing, and notes what it sends and is sure of.
func run(d *Detector, from time.Duration) (log []string) {
	for {
		at, ok := d.Deadline()
		if !ok {
			return log
		}
		at = max(at, from)
		for a, ok := d.Sure(at); ok; a, ok = d.Sure(at) {
			log = append(log, fmt.Sprintf("%v sure of %v", at, a))
		}
		for p, ok := d.Next(at); ok; p, ok = d.Next(at) {
			kind := "announce"
			if p.Probe {
				kind = "probe"
			}
			log = append(log, fmt.Sprintf("%v %s %v", at, kind, p.Addr))
		}
	}
}

// RFC 5227 §2.1.1 and §2.3: three probes, a second or two apart, two seconds of silence; two announcements, two seconds apart.
func TestProbeAndAnnounce(t *testing.T) {
	d := fixed(500 * time.Millisecond)
	d.Probe(time.Second, ours)
	want := []string{"1.5s probe 198.51.100.7", "3s probe 198.51.100.7", "4.5s probe 198.51.100.7", "6.5s sure of 198.51.100.7"}
	if got := run(d, 0); !slices.Equal(got, want) {
		t.Errorf("while it asks: %q, want %q", got, want)
	}
	d.Announce(7*time.Second, ours, true)
	want = []string{"7s announce 198.51.100.7", "9s announce 198.51.100.7"}
	if got := run(d, 0); !slices.Equal(got, want) {
		t.Errorf("when it has it: %q, want %q", got, want)
	}
}

func TestRandomTimesAreInTheirRange(t *testing.T) {
	for _, r := range []uint64{0, 1, 1 << 40, 1<<64 - 1} {
		d := &Detector{Rand: func() uint64 { return r }}
		d.Probe(0, ours)
		last := time.Duration(-1)
		for range probeNum {
			at, _ := d.Deadline()
			if last < 0 && at >= probeWait || last >= 0 && (at-last < probeMin || at-last > probeMax) {
				t.Errorf("random bits %#x: a probe at %v after one at %v", r, at, last)
			}
			if _, ok := d.Next(at); !ok {
				t.Fatalf("random bits %#x: nothing to send at %v", r, at)
			}
			last = at
		}
	}
}

// RFC 5227 §2.1.1: what takes an address that is asked for.
func TestConflictWhileProbing(t *testing.T) {
	zero := netip.IPv4Unspecified()
	for _, c := range []struct {
		name string
		arp  ethernet.ARP
		want Verdict
	}{
		{"a reply", ethernet.ARP{Op: ethernet.OpReply, SenderHW: other, SenderIP: ours, TargetIP: zero}, Taken},
		{"a request from it", ethernet.ARP{Op: ethernet.OpRequest, SenderHW: other, SenderIP: ours, TargetIP: theirs}, Taken},
		{"an announcement", ethernet.ARP{Op: ethernet.OpRequest, SenderHW: other, SenderIP: ours, TargetIP: ours}, Taken},
		{"another's probe", ethernet.ARP{Op: ethernet.OpRequest, SenderHW: other, SenderIP: zero, TargetIP: ours}, Taken},
		{"our own probe, come back", ethernet.ARP{Op: ethernet.OpRequest, SenderHW: mac, SenderIP: zero, TargetIP: ours}, Fine},
		{"another's question for it", ethernet.ARP{Op: ethernet.OpRequest, SenderHW: other, SenderIP: theirs, TargetIP: ours}, Fine},
		{"a probe for another", ethernet.ARP{Op: ethernet.OpRequest, SenderHW: other, SenderIP: zero, TargetIP: theirs}, Fine},
		{"another's announcement", ethernet.ARP{Op: ethernet.OpRequest, SenderHW: other, SenderIP: theirs, TargetIP: theirs}, Fine},
	} {
		d := fixed(0)
		d.Probe(0, ours)
		a, got := d.Heard(time.Second, &c.arp, mac)
		_, waits := d.Deadline()
		if got != c.want || waits == (got == Taken) || got == Taken && a != ours {
			t.Errorf("%s: verdict %d on %v, want %d; still asked for: %v", c.name, got, a, c.want, waits)
		}
	}
}

// RFC 5227 §2.4 (b) and (c).
func TestDefence(t *testing.T) {
	claim := ethernet.ARP{Op: ethernet.OpReply, SenderHW: other, SenderIP: ours, TargetIP: theirs}
	for _, c := range []struct {
		yield bool
		want  []Verdict
	}{{true, []Verdict{Defend, Defend, Yield, Fine}}, {false, []Verdict{Defend, Defend, Endure, Defend}}} {
		d := fixed(0)
		d.Announce(0, ours, c.yield)
		run(d, 0)
		for k, at := range []time.Duration{20 * time.Second, 30 * time.Second, 39 * time.Second, 50 * time.Second} {
			a, got := d.Heard(at, &claim, mac)
			if got != c.want[k] || (a == ours) != (got != Fine) {
				t.Errorf("yielding %v: a conflict at %v: verdict %d on %v, want %d", c.yield, at, got, a, c.want[k])
			}
			if sent := run(d, at); (len(sent) == 1) != (got == Defend) {
				t.Errorf("yielding %v: a conflict at %v: sent %q after verdict %d", c.yield, at, sent, got)
			}
		}
	}
}

// RFC 5227 §2.1.1 and §2.3 on what the packets say.
func TestPackets(t *testing.T) {
	p := Packet{ours, true}
	if got, want := p.ARP(mac), (ethernet.ARP{Op: ethernet.OpRequest, SenderHW: mac, SenderIP: netip.IPv4Unspecified(), TargetIP: ours}); got != want {
		t.Errorf("a probe is %+v, want %+v", got, want)
	}
	p.Probe = false
	if got, want := p.ARP(mac), (ethernet.ARP{Op: ethernet.OpRequest, SenderHW: mac, SenderIP: ours, TargetIP: ours}); got != want {
		t.Errorf("an announcement is %+v, want %+v", got, want)
	}
}

func TestEndAndRepeat(t *testing.T) {
	d := fixed(0)
	d.Announce(0, ours, false)
	d.Announce(0, theirs, false)
	run(d, 0)
	d.End(theirs)
	if !d.Repeat(time.Minute, ours) || d.Repeat(time.Minute, theirs) {
		t.Error("it does not know what is its own")
	}
	if got := run(d, 0); len(got) != announceNum || got[0] != "1m0s announce 198.51.100.7" {
		t.Errorf("announced once more: %q, want %v twice", got, ours)
	}
}

func TestBounded(t *testing.T) {
	d := fixed(0)
	a := ours
	for n := range 2 * maxAddrs {
		if d.Probe(0, a) != (n < maxAddrs) {
			t.Errorf("address %d is asked for: %v", n, n >= maxAddrs)
		}
		a = a.Next()
	}
	if len(d.addrs) != maxAddrs {
		t.Errorf("%d addresses are asked for, want %d", len(d.addrs), maxAddrs)
	}
}

// RFC 3927 §2.1: the first and the last 256 addresses are reserved; another host has another sequence.
func TestCandidates(t *testing.T) {
	seen := map[netip.Addr]bool{}
	for n := range uint32(2000) {
		a := Candidate(mac, n)
		if b := a.As4(); b[0] != 169 || b[1] != 254 || b[2] == 0 || b[2] == 255 {
			t.Fatalf("attempt %d is %v", n, a)
		}
		seen[a] = true
	}
	if len(seen) < 1900 {
		t.Errorf("2,000 attempts are %d addresses", len(seen))
	}
	if a, b := Candidate(mac, 0), Candidate(other, 0); a == b || !seen[a] {
		t.Errorf("the first addresses of two stations are %v and %v, which do not follow from the station", a, b)
	}
}
