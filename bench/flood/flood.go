package main

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/link"
)

// flood is an attack under way.
type flood struct {
	*attack
	*scene
	pace       int
	sent       atomic.Int64
	stop, over chan struct{}
}

// station is the attacker's, locally administered.
var station = ethernet.Addr{2, 0, 0, 0, 0, 0x66}

const batch = 128 // packets that the attacker sends at once

// run sends the attack's packets until stop is closed. Where there is no room it waits for some: the attack is as fast as
// its wire and the router let it be.
func (f *flood) run() {
	defer close(f.over)
	if f.busy {
		for !f.stopped() {
			for t := time.Now(); time.Since(t) < time.Millisecond; {
			}
		}
		return
	}
	q, room := f.attacker.Queues()[0], 0
	if f.attacker.Caps().Ethernet {
		room = ethernet.HeaderLen
	}
	packets := make([]link.Packet, batch)
	for i := range packets {
		packets[i].Head = f.packet(room)
		if room > 0 {
			h := ethernet.Header{Dst: f.station, Src: station, Type: ethernet.TypeIPv4}
			h.Encode(packets[i].Head)
		}
	}
	start, n := time.Now(), uint32(0)
	for !f.stopped() {
		for i := range packets {
			f.number(packets[i].Head[room:], n)
			n++
		}
		for out := packets; len(out) > 0; {
			k, err := q.Write(out)
			f.sent.Add(int64(k))
			if out = out[k:]; err == nil {
				continue
			}
			if !errors.Is(err, link.ErrFull) {
				return
			}
			select {
			case <-q.Ready():
			case <-f.stop:
				return
			}
		}
		for f.pace > 0 && float64(f.sent.Load()) > time.Since(start).Seconds()*float64(f.pace) && !f.stopped() {
			time.Sleep(time.Millisecond)
		}
	}
}

func (f *flood) stopped() bool {
	select {
	case <-f.stop:
		return true
	default:
		return false
	}
}

// listen takes what comes back.
func (f *flood) listen() {
	packets := make([]link.Packet, batch)
	for {
		if _, err := f.attacker.Queues()[0].Read(packets); err != nil {
			return
		}
	}
}
