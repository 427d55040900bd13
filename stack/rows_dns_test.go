package stack

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/link"
)

// answering is a DNS server at the server's IPv4 address that has each query answered by a function, which is given the true
// answer, and says who sends what.
type answering struct {
	client            *Stack
	main, port, addr  *UDPConn // at port 53; at another port; at another address's port 53
	mu                sync.Mutex
	answer            func(query, truth []byte, from netip.AddrPort)
	ports, identities []uint16 // of the queries
}

func newAnswering(t *testing.T) *answering {
	t.Helper()
	a, b := link.Pipe(link.PipeConfig{Ethernet: true, MTU: 1500})
	client := host(t, a, Config{DNS: []netip.AddrPort{netip.AddrPortFrom(server4.Addr(), 53)}}, client4, client6)
	server := host(t, b, Config{}, server4, second4)
	x := &answering{client: client,
		main: bound(t, server, "udp", netip.AddrPortFrom(server4.Addr(), 53).String()),
		port: bound(t, server, "udp", netip.AddrPortFrom(server4.Addr(), 0).String()),
		addr: bound(t, server, "udp", netip.AddrPortFrom(second4.Addr(), 53).String())}
	names := testNames()
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := x.main.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			x.mu.Lock()
			x.ports = append(x.ports, from.Port())
			x.identities = append(x.identities, binary.BigEndian.Uint16(b))
			x.answer(b[:n], names.answer(b[:n], false), from)
			x.mu.Unlock()
		}
	}()
	return x
}

// ask looks a name up whose queries are answered so.
func (x *answering) ask(t *testing.T, answer func(query, truth []byte, from netip.AddrPort)) ([]netip.Addr, error) {
	t.Helper()
	x.mu.Lock()
	x.answer = answer
	x.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := x.client.Resolver().LookupNetIP(ctx, "ip4", "four.example.")
	for k := range got {
		got[k] = got[k].Unmap()
	}
	return got, err
}

// TestA82DNS: what reads the answers of DNS servers is package net's; over sockets of the stack forged and malformed ones are as
// harmless as elsewhere: one from the wrong place, or to another question, is passed over, one that makes no sense fails the
// look-up, and the next one works. And nobody guesses where a query comes from.
func TestA82DNS(t *testing.T) {
	x := newAnswering(t)
	want := []netip.Addr{server4.Addr()}
	forged := func(truth []byte, change func(b []byte)) []byte { // with an address of the attacker's
		b := slices.Clone(truth)
		copy(b[len(b)-4:], []byte{203, 0, 113, 66})
		change(b)
		return b
	}
	nothing := func([]byte) {}
	for name, lie := range map[string]func(query, truth []byte, from netip.AddrPort){
		"another identifier": func(_, truth []byte, from netip.AddrPort) {
			x.main.WriteToUDPAddrPort(forged(truth, func(b []byte) { b[1] ^= 1 }), from)
		},
		"another question": func(_, truth []byte, from netip.AddrPort) {
			x.main.WriteToUDPAddrPort(forged(truth, func(b []byte) { b[13] ^= 1 }), from)
		},
		"a query": func(_, truth []byte, from netip.AddrPort) {
			x.main.WriteToUDPAddrPort(forged(truth, func(b []byte) { b[2] &^= 0x80 }), from)
		},
		"from another port": func(_, truth []byte, from netip.AddrPort) {
			x.port.WriteToUDPAddrPort(forged(truth, nothing), from)
		},
		"from another address": func(_, truth []byte, from netip.AddrPort) {
			x.addr.WriteToUDPAddrPort(forged(truth, nothing), from)
		},
		"cut short": func(_, truth []byte, from netip.AddrPort) {
			for n := range 12 { // RFC 1035 §4.1.1: less than a header
				x.main.WriteToUDPAddrPort(truth[:n], from)
			}
		},
	} {
		got, err := x.ask(t, func(query, truth []byte, from netip.AddrPort) {
			lie(query, truth, from)
			x.main.WriteToUDPAddrPort(truth, from)
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s, and then the true answer: %v, %v, want %v", name, got, err, want)
		}
	}
	for name, record := range map[string]string{ // RFC 1035 §4.1.3, §4.1.4
		"a name that points to itself":   "\xc0\x1e\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xcb\x00\x71\x42",
		"a name that points beyond":      "\xff\xff\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xcb\x00\x71\x42",
		"a label that is too long":       "\x3fa\x00\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xcb\x00\x71\x42",
		"a label of an unknown kind":     "\x80\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xcb\x00\x71\x42",
		"a record that is cut short":     "\xc0\x0c\x00\x01\x00\x01\x00\x00",
		"an alias that points to itself": "\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x02\xc0\x2a",
	} {
		got, err := x.ask(t, func(query, _ []byte, from netip.AddrPort) {
			end := 12 + len("\x04four\x07example\x00") + 4
			b := append(slices.Clone(query[:end]), record...)
			b[2], b[3] = b[2]|0x80, 0 // RFC 1035 §4.1.1: QR, and no error
			copy(b[4:], []byte{0, 1, 0, 1, 0, 0, 0, 0})
			x.main.WriteToUDPAddrPort(b, from)
		})
		if err == nil {
			t.Errorf("%s: %v, want an error", name, got)
		}
	}
	x.mu.Lock()
	x.ports, x.identities = nil, nil
	x.mu.Unlock()
	const asks = 32
	for range asks {
		if got, err := x.ask(t, func(_, truth []byte, from netip.AddrPort) { x.main.WriteToUDPAddrPort(truth, from) }); err != nil || !slices.Equal(got, want) {
			t.Fatalf("an honest answer: %v, %v, want %v", got, err, want)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for name, all := range map[string][]uint16{"ports": x.ports, "identifiers": x.identities} { // RFC 5452 §9.2
		near := 0
		for k := range all[1:] {
			if d := all[k+1] - all[k]; d < 16 || -d < 16 {
				near++
			}
		}
		sorted := slices.Clone(all)
		slices.Sort(sorted)
		if differ := len(slices.Compact(sorted)); differ < asks-3 || near > 4 {
			t.Errorf("of %d queries %d have %s of their own, and %d are near the one before: %v", len(all), differ, name, near, all)
		}
	}
}
