package stack

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// guest is a third network of a router, and where the attacker sits.
var guest4, guest6 = netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8:77::1/64")

// synOf is a SYN as an IP packet.
func synOf(src, dst netip.AddrPort) []byte {
	b := datagramOf(src, dst, 64, make([]byte, tcp.HeaderLen-8))
	at := len(b) - tcp.HeaderLen
	s := tcp.Segment{Flags: tcp.SYN, Window: fullWindow}
	var head [tcp.MaxHeaderLen]byte
	copy(b[at:], head[:s.Encode(head[:], tcp.Ports{Src: src.Port(), Dst: dst.Port()})])
	binary.BigEndian.PutUint16(b[at+16:], ^checksum.Sum(b[at:], checksum.Pseudo(src.Addr(), dst.Addr(), ipv4.ProtoTCP, tcp.HeaderLen)))
	if b[0]>>4 == 6 {
		b[6] = ipv4.ProtoTCP
		return b
	}
	b[9], b[10], b[11] = ipv4.ProtoTCP, 0, 0
	binary.BigEndian.PutUint16(b[10:], ^checksum.Sum(b[:ipv4.MinHeaderLen], 0))
	return b
}

// A flood through a router that translates addresses: of what would begin connections, no more than the firewall's rates
// passes, the rest is counted by its reason, and a connection through the same router has each of its octets, exactly.
func TestForwardFlood(t *testing.T) {
	const packets, source, all = 20_000, 25, 100 // at once, four and two times as many
	open := func(to netip.Addr) netip.AddrPort { return netip.AddrPortFrom(to, 80) }
	for _, x := range []struct {
		name   string
		packet func(n int, me, to netip.Addr) []byte
		pass   uint64 // how many connections may begin at once
		reason firewall.Reason
		drop   Drop
	}{
		{"SYNs to an open port", func(n int, me, to netip.Addr) []byte {
			return synOf(netip.AddrPortFrom(me, uint16(1024+n)), open(to))
		}, 4 * source, firewall.SourceRate, Firewalled},
		{"datagrams to ever new places", func(n int, me, to netip.Addr) []byte {
			return datagramOf(netip.AddrPortFrom(me, uint16(1024+n)), open(to), 64, nil)
		}, 4 * source, firewall.SourceRate, Firewalled},
		{"from made-up hosts of its network", func(n int, me, to netip.Addr) []byte {
			return datagramOf(netip.AddrPortFrom(neighbourOf(me, n), uint16(1024+n)), open(to), 64, nil)
		}, 2 * all, firewall.NewRate, Firewalled},
		{"from made-up hosts elsewhere", func(n int, _, to netip.Addr) []byte {
			return synOf(netip.AddrPortFrom(neighbourOf(to, n), 1024), open(to))
		}, 0, 0, ReversePath},
	} {
		t.Run(x.name, func(t *testing.T) {
			farHosts(t, func(t *testing.T, to netip.Addr) {
				pass, reason := x.pass, x.reason
				if to.Is6() && reason == firewall.NewRate { // all hosts of a network of IPv6 are one source
					pass, reason = 4*source, firewall.SourceRate
				}
				synctest.Test(t, func(t *testing.T) {
					wire := link.PipeConfig{MTU: 1500}
					a, router, b := routedHosts(t, wire, wire, Config{Firewall: firewall.Config{SourceRate: source, NewRate: all}})
					near, far := link.Pipe(wire)
					defer near.Close()
					if _, err := router.Attach(labelled{far, "guest"}, guest4, guest6); err != nil {
						t.Fatal(err)
					}
					useRules(t, router, "policy in drop\npolicy forward drop\nallow forward on lan\nallow forward on guest\nnat on wan")
					me := guest4.Addr().Next()
					if to.Is6() {
						me = guest6.Addr().Next()
					}
					c, s := connected(t, a, b, netip.PrefixFrom(to, to.BitLen()))
					start := time.Now()
					sent := transferIn(t, c, s, 100, func(step int) {
						flood := make([]link.Packet, packets/100)
						for i := range flood {
							flood[i].Head = x.packet(step*len(flood)+i, me, to)
						}
						put(t, near.Queues()[0], flood...)
					})
					if sent == 0 || time.Since(start) > time.Second {
						t.Fatalf("%d octets in %v", sent, time.Since(start))
					}
					router.Firewall(func(f *firewall.Firewall) {
						st := f.Stats()
						refused := router.Stats().Drops[x.drop.String()]
						if begun := st.Opened - 1; begun < pass || begun > pass+source || begun+refused != packets {
							t.Errorf("%d connections begin and %d packets are counted as %v; want %d to begin, and the rest of %d counted", begun, refused, x.drop, pass, packets)
						}
						if reason != 0 && st.Dropped[reason] != refused {
							t.Errorf("%d are counted as %q, want %d", st.Dropped[reason], reason, refused)
						}
					})
				})
			})
		})
	}
}

// neighbourOf is a host of the same network.
func neighbourOf(a netip.Addr, n int) netip.Addr {
	b := a.As16()
	b[15] = byte(3 + n%250)
	return netip.AddrFrom16(b).Unmap()
}

// transferIn sends as many steps of 10,000 octets over a connection and compares what arrives; something else is done before
// each. It returns how many octets that were.
func transferIn(t *testing.T, c, s *TCPConn, steps int, before func(step int)) int {
	t.Helper()
	text := random(steps*10_000, 5)
	arrived := make(chan []byte)
	go func() {
		b, err := io.ReadAll(s)
		if err != nil {
			t.Error(err)
		}
		arrived <- b
	}()
	for n := range steps {
		before(n)
		if _, err := c.Write(text[n*10_000:][:10_000]); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
	}
	c.CloseWrite()
	b := <-arrived
	if !bytes.Equal(b, text) {
		t.Errorf("%d octets arrive, want the %d that were sent", len(b), len(text))
	}
	return len(b)
}
