package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"
)

// share lets waybill and the kernel send through one bottleneck at once, and prints what each of them gets.
func (o *options) share(ctx context.Context) error {
	began := busy()
	cells := make([]cell, len(o.rtts))
	for i, d := range o.rtts {
		cells[i] = cell{loss: o.losses[0], rtt: d}
	}
	runs := make([][][2]float64, len(cells))
	late := make([]figure, len(cells))
	err := o.each(ctx, len(cells), func(ctx context.Context, i int, seed uint64) error {
		got, l, err := o.together(ctx, cells[i], seed)
		if err != nil {
			return fmt.Errorf("%v: %w", cells[i], err)
		}
		fmt.Fprintf(os.Stderr, "%v, seed %d: kernel %.2f, waybill %.2f Mbit/s, %d dropped, %d late, %v at most\n",
			cells[i], seed, got[0], got[1], l.dropped, l.late, l.worst)
		mu.Lock()
		defer mu.Unlock()
		runs[i] = append(runs[i], got)
		late[i].data.late += l.late
		late[i].data.packets += l.packets
		late[i].data.worst = max(late[i].data.worst, l.worst)
		return nil
	})
	if err != nil {
		return err
	}
	o.heading(os.Stdout, began)
	printShares(os.Stdout, cells, runs, late)
	return nil
}

// together runs both senders, the kernel's first by a few milliseconds with odd seeds and waybill's with even ones, and
// returns what each has brought to the receiver after o.warmUp.
func (o *options) together(ctx context.Context, c cell, seed uint64) (got [2]float64, l laneStats, err error) {
	kernel, err := kernelHost(left, o.algo)
	if err != nil {
		return got, l, err
	}
	defer kernel.close()
	ours, err := waybillHost(leftToo, o.algo, "")
	if err != nil {
		return got, l, err
	}
	defer ours.close()
	sink, err := kernelHost(right, o.algo)
	if err != nil {
		return got, l, err
	}
	defer sink.close()
	w := newWire(o.path(c, seed), []port{kernel.port, ours.port}, []port{sink.port})
	var all sync.WaitGroup
	errs := [2]error{}
	for k, from := range []*host{kernel, ours} {
		all.Go(func() {
			if k == int(seed%2) {
				time.Sleep(5 * time.Millisecond)
			}
			var n int64
			n, errs[k] = transfer(ctx, from, sink, tcpPort+k, transferTime{o.warmUp, o.length}, nil)
			got[k] = mbits(n, o.length)
		})
	}
	all.Wait()
	err = w.close()
	for _, e := range errs {
		if err == nil {
			err = e
		}
	}
	return got, w.lanes[0].laneStats, err
}
