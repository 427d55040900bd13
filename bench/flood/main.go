// Flood measures what a TCP connection through a router keeps of its rate while somebody floods that router: a client, a
// router with masquerading and a household's rules, a server and an attacker, all waybill, in memory and in one process.
// It is started in the directory of this module:
//
//	go run ./flood                                  three rounds of a second of each attack, as fast as its wire takes it
//	go run ./flood -pace 50000 -only SYN -rounds 1  packets a second
//
// The connection is measured alone and then attacked, and the ratio is each round's own. All share the cores, the attacker as
// well: what a busy loop alone costs is the row "a busy core". Where attacker and connection come by one wire, and more
// comes than the router takes from it, both lose at its tail in proportion, and without a pace hardly anything is left.
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/seed87e66d9f/waybill/bench/internal/table"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "flood:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	rounds, pace int
	length       time.Duration
	only         string
	profile      string
}

// result is what one row has in one round.
type result struct {
	alone, during float64 // octets of the connection, a second, before the attack and in it
	attack        float64 // packets of the attacker, a second
	connections   int     // that the firewall tracks in the end
	drops         map[string]float64
}

func run() error {
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "times that each is measured")
	flag.DurationVar(&o.length, "t", time.Second, "how long each is measured")
	flag.IntVar(&o.pace, "pace", 0, "`packets` a second of the attacker; 0: as many as its wire takes")
	flag.StringVar(&o.only, "only", "", "attacks whose names have this `text`")
	flag.StringVar(&o.profile, "cpuprofile", "", "`file` for a CPU profile of all that is measured")
	flag.Parse()
	if o.rounds < 1 || o.rounds > 100 || o.length < 100*time.Millisecond || o.length > time.Minute {
		return fmt.Errorf("%d rounds of %v: 1 to 100 rounds of 0.1 s to 1 min are possible", o.rounds, o.length)
	}
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	fmt.Println(table.Machine())
	all, err := o.measure()
	if err != nil {
		return err
	}
	o.print(all)
	return nil
}

// measure measures each attack in each round, in turn.
func (o *options) measure() ([][]result, error) {
	all := make([][]result, len(attacks))
	for round := range o.rounds {
		for i := range attacks {
			a := &attacks[i]
			if !strings.Contains(a.where+", "+a.name, o.only) {
				continue
			}
			fmt.Fprintf(os.Stderr, "round %d of %d: %s, %s\n", round+1, o.rounds, a.where, a.name)
			r, err := o.run(a)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", a.where, a.name, err)
			}
			all[i] = append(all[i], r)
		}
	}
	return all, nil
}

// print writes the medians as a table in Markdown.
func (o *options) print(all [][]result) {
	pace := "as fast as its wire takes it"
	if o.pace > 0 {
		pace = fmt.Sprintf("at %d packets a second", o.pace)
	}
	fmt.Printf("Medians of %d rounds of %v, taken in turn. The attacker sends %s.\n\n", o.rounds, o.length, pace)
	fmt.Println("| where | attack | alone, MB/s | attacked, MB/s | of alone | attack, packets/s | tracked | the router's drops, /s |\n|---|---|---:|---:|---:|---:|---:|---|")
	for i, rounds := range all {
		if len(rounds) == 0 {
			continue
		}
		of := func(f func(*result) float64) float64 { return median(rounds, f) }
		fmt.Printf("| %s | %s | %.0f | %.0f | %.2f | %.0f | %.0f | %s |\n", attacks[i].where, attacks[i].name,
			of(func(r *result) float64 { return r.alone / 1e6 }), of(func(r *result) float64 { return r.during / 1e6 }),
			of(func(r *result) float64 { return r.during / r.alone }), of(func(r *result) float64 { return r.attack }),
			of(func(r *result) float64 { return float64(r.connections) }), drops(rounds))
	}
}

func median(rounds []result, of func(*result) float64) float64 {
	var v []float64
	for i := range rounds {
		v = append(v, of(&rounds[i]))
	}
	return table.Median(v)
}

// drops lists the medians of what was dropped, by reason.
func drops(rounds []result) string {
	names := map[string]bool{}
	for _, r := range rounds {
		for n := range r.drops {
			names[n] = true
		}
	}
	var list []string
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if v := median(rounds, func(r *result) float64 { return r.drops[n] }); v > 0 {
			list = append(list, fmt.Sprintf("%s %.0f", n, v))
		}
	}
	return strings.Join(list, ", ")
}
