// Client measures what stands behind a device, with the kernel's sockets:
//
//	up     octets sent to the discarding port
//	down   octets received of the endless one
//	rr     round trips of one octet on connections that stay
//	crr    connect, round trip, reset
//	conns  -n connections that are held open
//
// The sockets' congestion control is set by name: another kernel default, such as bbr with its pacing, would be what
// gets measured. It prints one line of fields divided by tabs: mode, connections, figure, unit, and the rest for people.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/bench/internal/service"
)

const (
	bulkBuffer  = 256 << 10       // a Read or Write
	dialTimeout = 5 * time.Second // of a server that runs on this machine
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

// work is what the flags ask for.
type work struct {
	mode    string
	address string
	dialer  net.Dialer
	until   time.Time
}

// tally is what one connection, or one row of them, has to show.
type tally struct {
	octets int
	trips  []time.Duration
	err    error
}

func run() error {
	mode := flag.String("mode", "up", "up, down, rr, crr or conns")
	length := flag.Duration("t", 3*time.Second, "how long")
	p := flag.Int("P", 1, "connections at once")
	n := flag.Int("n", 10000, "with -mode conns: connections in all")
	host := flag.String("host", "", "address of the server; empty: the usual one")
	flag.Bool("4", true, "over IPv4")
	six := flag.Bool("6", false, "over IPv6")
	congestion := flag.String("cc", "cubic", "congestion control of the sockets")
	flag.Parse()

	port, ok := map[string]int{"up": service.Discard, "down": service.Source, "rr": service.Echo, "crr": service.Echo, "conns": service.Echo}[*mode]
	if !ok || *p < 1 || *n < 1 {
		return fmt.Errorf("mode %q with %d connections makes no sense", *mode, *p)
	}
	if *host == "" {
		*host = service.Addr4.Addr().String()
		if *six {
			*host = service.Addr6.Addr().String()
		}
	}
	w := &work{mode: *mode, address: net.JoinHostPort(*host, strconv.Itoa(port)), dialer: net.Dialer{
		Timeout: dialTimeout, Control: service.Congestion(*congestion),
	}}
	if *mode == "conns" {
		return w.hold(*n, *p, *length)
	}
	return w.measure(*p, *length)
}

// measure runs p workers at once, each with a connection to begin with, and prints what they come to. The time starts
// once all are open: the first SYN may be lost while the kernel takes notice that the interface has a carrier.
func (w *work) measure(p int, length time.Duration) error {
	worker := map[string]func(*net.TCPConn, *tally){"up": w.up, "down": w.down, "rr": w.roundTrips, "crr": w.connects}[w.mode]
	all, conns := make([]tally, p), make([]*net.TCPConn, p)
	for i := range conns {
		var err error
		if conns[i], err = w.dial(); err != nil {
			return err
		}
		conns[i].SetLinger(0) // what is still in the socket in the end must not be in the way of the next run
		defer conns[i].Close()
	}
	start := time.Now()
	w.until = start.Add(length)
	var running sync.WaitGroup
	for i := range all {
		running.Go(func() { worker(conns[i], &all[i]) })
	}
	running.Wait()
	seconds := time.Since(start).Seconds()

	var sum tally
	for i := range all {
		sum.octets += all[i].octets
		sum.trips = append(sum.trips, all[i].trips...)
		sum.err = errors.Join(sum.err, all[i].err)
	}
	if w.mode == "up" || w.mode == "down" {
		fmt.Printf("%s\t%d\t%.3f\tGbit/s\t\n", w.mode, p, float64(sum.octets)*8/seconds/1e9)
		return sum.err
	}
	if len(sum.trips) == 0 {
		return errors.Join(errors.New("no round trip came back"), sum.err)
	}
	slices.Sort(sum.trips)
	at := func(q float64) time.Duration { return sum.trips[int(q*float64(len(sum.trips)-1))] }
	fmt.Printf("%s\t%d\t%.0f\t/s\tp50=%v p99=%v p99.9=%v\n", w.mode, p, float64(len(sum.trips))/seconds, at(.5), at(.99), at(.999))
	return sum.err
}

func (w *work) dial() (*net.TCPConn, error) {
	c, err := w.dialer.Dial("tcp", w.address)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// up writes until the time is over.
func (w *work) up(c *net.TCPConn, t *tally) { t.err = bulk(c.Write, c.SetDeadline, w.until, t) }

// down reads until the time is over.
func (w *work) down(c *net.TCPConn, t *tally) { t.err = bulk(c.Read, c.SetDeadline, w.until, t) }

func bulk(move func([]byte) (int, error), deadline func(time.Time) error, until time.Time, t *tally) error {
	if err := deadline(until); err != nil {
		return err
	}
	b := make([]byte, bulkBuffer)
	for {
		n, err := move(b)
		t.octets += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// roundTrips sends an octet and waits for it to come back, over and over.
func (w *work) roundTrips(c *net.TCPConn, t *tally) {
	if t.err = c.SetDeadline(w.until.Add(dialTimeout)); t.err != nil {
		return
	}
	for start := time.Now(); start.Before(w.until) && t.err == nil; {
		if t.err = roundTrip(c); t.err == nil {
			end := time.Now()
			t.trips = append(t.trips, end.Sub(start))
			start = end
		}
	}
}

func roundTrip(c net.Conn) error {
	var b [1]byte
	if _, err := c.Write(b[:]); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b[:])
	return err
}

// connects opens a connection, makes one round trip and resets it, over and over.
func (w *work) connects(_ *net.TCPConn, t *tally) {
	for t.err == nil {
		start := time.Now()
		if !start.Before(w.until) {
			return
		}
		c, err := w.dial()
		if err != nil {
			t.err = err
			return
		}
		t.err = errors.Join(c.SetDeadline(start.Add(dialTimeout)), roundTrip(c), c.SetLinger(0), c.Close())
		if t.err == nil {
			t.trips = append(t.trips, time.Since(start))
		}
	}
}

// hold opens n connections, p at once, and keeps them for a while.
func (w *work) hold(n, p int, length time.Duration) error {
	conns := make([]net.Conn, n)
	errs := make([]error, p)
	start := time.Now()
	var running sync.WaitGroup
	for k := range p {
		running.Go(func() {
			for i := k; i < n && errs[k] == nil; i += p {
				var c *net.TCPConn
				if c, errs[k] = w.dial(); errs[k] == nil {
					conns[i] = c
				}
			}
		})
	}
	running.Wait()
	took := time.Since(start)
	open := 0
	for _, c := range conns {
		if c != nil {
			open++
		}
	}
	fmt.Printf("conns\t%d\t%d\topen\tafter %v\n", p, open, took)
	time.Sleep(length)
	for _, c := range conns {
		if c != nil {
			errs = append(errs, roundTrip(c), c.Close())
		}
	}
	return errors.Join(errs...)
}
