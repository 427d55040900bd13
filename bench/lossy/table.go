package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// printCells writes the table of compare.
func printCells(w io.Writer, cells []cell, runs []map[string][]figure) {
	fmt.Fprintln(w, "| loss, RTT | kernel → kernel | waybill → kernel | kernel → waybill | waybill : kernel, sending | needless, kernel | needless, waybill | wire late |")
	fmt.Fprintln(w, "|---|---:|---:|---:|---:|---:|---:|---:|")
	for i, c := range cells {
		kk, wk, kw := runs[i]["kk"], runs[i]["wk"], runs[i]["kw"]
		ratio := "–"
		if k, w := goodput(kk), goodput(wk); k > 0 && w > 0 {
			ratio = fmt.Sprintf("%.2f", w/k)
		}
		fmt.Fprintf(w, "| %v | %s | %s | %s | %s | %s | %s | %s |\n", c, mbit(kk), mbit(wk), mbit(kw), ratio, needless(kk), needless(wk),
			late(slices.Concat(kk, wk, kw)))
	}
}

func goodput(f []figure) float64 { return median(f, func(f figure) float64 { return f.goodput }) }

func mbit(f []figure) string {
	if len(f) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", goodput(f))
}

// needless is the median of the octets carried again, and their share of what was carried.
func needless(f []figure) string {
	if len(f) == 0 {
		return "–"
	}
	n := median(f, func(f figure) float64 { return float64(f.data.needless) })
	share := median(f, func(f figure) float64 { return float64(f.data.needless) / float64(max(f.data.octets, 1)) })
	return fmt.Sprintf("%.0f (%.2f ‰)", n, share*1000)
}

// late is the share of packets that the wire delivered a millisecond late, and the worst of them.
func late(f []figure) string {
	var n, of uint64
	var worst time.Duration
	for _, x := range f {
		n, of, worst = n+x.data.late, of+x.data.packets, max(worst, x.data.worst)
	}
	return fmt.Sprintf("%.1f %%, %v", float64(n)*100/float64(max(of, 1)), worst.Round(time.Millisecond))
}

func median[T any](of []T, value func(T) float64) float64 {
	v := make([]float64, len(of))
	for i, x := range of {
		v[i] = value(x)
	}
	slices.Sort(v)
	switch n := len(v); {
	case n == 0:
		return 0
	case n%2 == 0:
		return (v[n/2-1] + v[n/2]) / 2
	default:
		return v[n/2]
	}
}

// printShares writes the table of share.
func printShares(w io.Writer, cells []cell, runs [][][2]float64, lateness []figure) {
	fmt.Fprintln(w, "| loss, RTT | kernel | waybill | the lesser : half of both | waybill : half of both | wire late |")
	fmt.Fprintln(w, "|---|---:|---:|---:|---:|---:|")
	for i, c := range cells {
		r := runs[i]
		fmt.Fprintf(w, "| %v | %.2f | %.2f | %.2f | %.2f | %s |\n", c,
			median(r, func(g [2]float64) float64 { return g[0] }), median(r, func(g [2]float64) float64 { return g[1] }),
			median(r, func(g [2]float64) float64 { return 2 * min(g[0], g[1]) / (g[0] + g[1]) }),
			median(r, func(g [2]float64) float64 { return 2 * g[1] / (g[0] + g[1]) }), late(lateness[i:i+1]))
	}
}

// printDrops writes the table of drop.
func printDrops(w io.Writer, losses []float64, runs []map[string][]float64) {
	fmt.Fprintf(w, "| dropped | %s | waybill : netstack | waybill : kernel |\n|---|---:|---:|---:|---:|---:|\n", strings.Join(senders, " | "))
	for i, l := range losses {
		m := map[string]float64{}
		fmt.Fprintf(w, "| %g %% |", l*100)
		for _, s := range senders {
			m[s] = median(runs[i][s], func(v float64) float64 { return v })
			fmt.Fprintf(w, " %.0f |", m[s])
		}
		ours := m["waybill"]
		fmt.Fprintf(w, " %.2f | %.2f |\n", ours/m["netstack"], ours/m["kernel, veth"])
	}
}

// usage is what the cores have done so far.
type usage struct {
	at        time.Time
	all, idle float64       // of all cores, in ticks
	ours      time.Duration // processor time of this process
}

// busy reads /proc/stat.
func busy() (u usage) {
	u.at = time.Now()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u
	}
	line, _, _ := strings.Cut(string(text), "\n")
	for i, f := range strings.Fields(line)[1:] {
		v, _ := strconv.ParseFloat(f, 64)
		if i < 8 { // guest time is in user time already
			u.all += v
		}
		if i == 3 || i == 4 {
			u.idle += v
		}
	}
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) == nil {
		u.ours = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return u
}

// heading says what was run, and how busy the machine was meanwhile.
func (o *options) heading(w io.Writer, began usage) {
	now := busy()
	t := now.at.Sub(began.at)
	share := 0.0
	if now.all > began.all {
		share = 1 - (now.idle-began.idle)/(now.all-began.all)
	}
	fmt.Fprintf(w, "%s, %g Mbit/s, queue %g BDP, medians of %d seeds of %v, %d cells at a time. Goodput in Mbit/s.\n",
		o.algo, o.rate, o.queue, o.seeds, o.length, o.parallel)
	fmt.Fprintf(w, "%d cores, %.0f %% busy in all, of which this program took %.0f %%; load %s.\n\n",
		runtime.NumCPU(), share*100, float64(now.ours-began.ours)/float64(t)/float64(runtime.NumCPU())*100, load())
}

// load is how many threads wanted a core in the last minutes.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
