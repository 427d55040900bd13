package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/stack"
)

// side is where a host stands.
type side int

const (
	left side = iota
	right
	leftToo
)

func (s side) addr() netip.Prefix { return []netip.Prefix{leftAddr, rightAddr, thirdAddr}[s] }

// cell is one path.
type cell struct {
	loss, reorder float64
	rtt           time.Duration
}

func (c cell) String() string {
	s := fmt.Sprintf("%g %%", c.loss*100)
	if c.reorder > 0 {
		s += fmt.Sprintf(", reordering %g %%", c.reorder*100)
	}
	return s + fmt.Sprintf(", %v", c.rtt)
}

// minQueue is the least that waits at the bottleneck: what a burst of 64 KB needs, and some.
const minQueue = 64 * ourMTU

// path is the cell's with one seed.
func (o *options) path(c cell, seed uint64) path {
	rate := o.rate * 1e6 / 8
	return path{rate: rate, delay: c.rtt / 2, queue: max(int(o.queue*rate*c.rtt.Seconds()), minQueue), loss: c.loss, reorder: c.reorder, seed: seed}
}

// figure is what one run came to.
type figure struct {
	goodput float64 // Mbit/s
	data    laneStats
	loss    float64 // of the data packets, as they fell
}

// once carries one flow for a while. mode says who sends to whom, such as "wk".
func (o *options) once(ctx context.Context, c cell, mode string, seed uint64) (f figure, err error) {
	hosts := [2]*host{}
	for i := range hosts {
		if mode[i] == 'w' {
			capture := ""
			if o.capture != "" {
				capture = fmt.Sprintf("%s-%s-%v-%g-%d.pcapng", o.capture, mode, c.rtt, c.loss*100, seed)
			}
			hosts[i], err = waybillHost(side(i), o.algo, capture)
		} else {
			hosts[i], err = kernelHost(side(i), o.algo)
		}
		if err != nil {
			return f, err
		}
		defer hosts[i].close()
	}
	w := newWire(o.path(c, seed), []port{hosts[0].port}, []port{hosts[1].port})
	var watch func(net.Conn)
	if o.watch && mode[0] == 'w' {
		watch = watchInfo
	}
	n, err := transfer(ctx, hosts[0], hosts[1], tcpPort, transferTime{length: o.length}, watch)
	if e := w.close(); err == nil {
		err = e
	}
	l := w.lanes[0]
	f = figure{goodput: mbits(n, o.length), data: l.laneStats}
	f.loss = float64(l.lost) / float64(max(l.lost+l.packets, 1))
	return f, err
}

func mbits(octets int64, t time.Duration) float64 { return float64(octets) * 8 / 1e6 / t.Seconds() }

// watchInfo prints a connection's state until it is closed.
func watchInfo(c net.Conn) {
	t, ok := c.(*stack.TCPConn)
	start := time.Now()
	for last := uint64(0); ok; time.Sleep(500 * time.Millisecond) {
		i := t.Info()
		if i.State.String() == "CLOSED" {
			return
		}
		fmt.Fprintf(os.Stderr, "%7.3f %s %s pace %d rate %d cwnd %7d ssthresh %7d flight %7d unsent %8d wnd %8d srtt %v rto %v backoff %d again %d, %.1f Mbit/s\n",
			time.Since(start).Seconds(), i.Phase, i.Limit, i.PacingRate*8/1000, i.DeliveryRate*8/1000, i.Cwnd, i.Ssthresh, i.InFlight, i.Unsent, i.SndWnd, i.SRTT, i.RTO, i.Backoff, i.Retransmits,
			float64(i.BytesOut-last)*8/1e6*2)
		last = i.BytesOut
	}
}

// compare runs all cells, and prints their table.
func (o *options) compare(ctx context.Context) error {
	var cells []cell
	for _, r := range o.reorders {
		for _, l := range o.losses {
			for _, d := range o.rtts {
				cells = append(cells, cell{l, r, d})
			}
		}
	}
	for _, m := range o.modes {
		if len(m) != 2 || strings.Trim(m, "kw") != "" {
			return fmt.Errorf("mode %q is not two of k and w", m)
		}
	}
	began := busy()
	runs := make([]map[string][]figure, len(cells))
	err := o.each(ctx, len(cells), func(ctx context.Context, i int, seed uint64) error {
		for _, m := range o.modes { // in turn, so that whatever else the machine does befalls all of them
			f, err := o.once(ctx, cells[i], m, seed)
			if err != nil {
				return fmt.Errorf("%v, %s: %w", cells[i], m, err)
			}
			fmt.Fprintf(os.Stderr, "%v, %s, seed %d: %.2f Mbit/s, %d lost, %d dropped, %d octets needlessly, queue %v, %d late, %v at most\n",
				cells[i], m, seed, f.goodput, f.data.lost, f.data.dropped, f.data.needless, f.data.queued.Round(time.Millisecond), f.data.late, f.data.worst.Round(10*time.Microsecond))
			mu.Lock()
			if runs[i] == nil {
				runs[i] = map[string][]figure{}
			}
			runs[i][m] = append(runs[i][m], f)
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		return err
	}
	o.heading(os.Stdout, began)
	printCells(os.Stdout, cells, runs)
	return nil
}

var mu sync.Mutex // guards the results while cells run in parallel

// each runs f for each cell and each seed, a few at the same time, and returns the first error.
func (o *options) each(ctx context.Context, cells int, f func(ctx context.Context, cell int, seed uint64) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, o.parallel)
	var all sync.WaitGroup
	for k := range o.seeds * cells {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		all.Go(func() {
			defer func() { <-slots }()
			if err := f(ctx, k%cells, o.first+uint64(k/cells)); err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}
