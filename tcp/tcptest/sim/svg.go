package sim

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"math"
	"time"
)

// The drawing's measures, in pixels.
const (
	plotWidth  = 820
	plotHeight = 170
	leftEdge   = 70
	topEdge    = 40
	gap        = 46 // between two plots
	legendLine = 18
)

// colours tell flows apart, on white as on black.
var colours = [...]string{"#2f81f7", "#e5534b", "#2da44e", "#c69026", "#a371f7", "#1b9aaa", "#db61a2", "#8c8c3c"}

// curve is one line of a plot.
type curve struct {
	colour string
	dashed bool
	x      []time.Duration
	y      []float64
}

// plot is one diagram over time.
type plot struct {
	title  string
	unit   string
	curves []curve
}

// SVG draws, over time: each flow's congestion window and what it has in flight, its smoothed round-trip time, its
// goodput, and the queue. The picture stands alone, without a background, and is readable on a light and on a dark one.
func (r *Result) SVG(w io.Writer) error {
	plots := r.plots()
	height := topEdge + len(plots)*(plotHeight+gap) + legendLine
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" `+
		`font-family="sans-serif" font-size="11" fill="#808080">`+"\n", leftEdge+plotWidth+20, height)
	x := leftEdge
	for i := range r.Flows {
		f := &r.Flows[i]
		name := fmt.Sprintf("%s, %.1f Mbit/s", f.Name, f.Goodput*8/1e6)
		fmt.Fprintf(&b, `<rect x="%d" y="8" width="10" height="10" fill="%s"/><text x="%d" y="17">%s</text>`+"\n",
			x, colour(i), x+14, html.EscapeString(name))
		x += 30 + 7*len(name)
		if x > leftEdge+plotWidth-100 {
			break // the legend is full; the curves go on in the same colours
		}
	}
	for i := range plots {
		plots[i].draw(&b, topEdge+i*(plotHeight+gap), r.Config.Duration)
	}
	b.WriteString("</svg>\n")
	_, err := b.WriteTo(w)
	return err
}

func colour(i int) string { return colours[i%len(colours)] }

// plots are the diagrams of r.
func (r *Result) plots() []plot {
	windows := plot{title: "congestion window, and in flight (dashed)", unit: "B"}
	times := plot{title: "smoothed round-trip time", unit: "s"}
	rates := plot{title: "goodput", unit: "bit/s"}
	for i := range r.Flows {
		samples := r.Flows[i].Samples
		cwnd := curve{colour: colour(i)}
		flight := curve{colour: colour(i), dashed: true}
		srtt := curve{colour: colour(i)}
		rate := curve{colour: colour(i)}
		step := max(len(samples)/100, 1) // a hundred steps show a rate, where 500 show noise
		for k, s := range samples {
			cwnd.add(s.At, float64(s.Cwnd))
			flight.add(s.At, float64(s.InFlight))
			srtt.add(s.At, s.SRTT.Seconds())
			if k >= step && k%step == 0 {
				old := samples[k-step]
				rate.add(s.At, float64(s.Octets-old.Octets)*8/(s.At-old.At).Seconds())
			}
		}
		windows.curves = append(windows.curves, flight, cwnd)
		times.curves = append(times.curves, srtt)
		rates.curves = append(rates.curves, rate)
	}
	queue := curve{colour: "#808080"}
	for _, s := range r.Samples {
		queue.add(s.At, float64(s.Forward))
	}
	return []plot{windows, times, {title: "queue", unit: "B", curves: []curve{queue}}, rates}
}

func (c *curve) add(x time.Duration, y float64) { c.x, c.y = append(c.x, x), append(c.y, y) }

// draw writes p with its upper edge at top.
func (p *plot) draw(b *bytes.Buffer, top int, duration time.Duration) {
	most := 0.0
	for _, c := range p.curves {
		for _, y := range c.y {
			most = max(most, y)
		}
	}
	step := tick(most, 4)
	most = max(math.Ceil(most/step), 1) * step
	bottom := float64(top + plotHeight)
	fmt.Fprintf(b, `<text x="%d" y="%d" font-size="12">%s</text>`+"\n", leftEdge, top-6, p.title)
	for y := 0.0; y <= most*1.001; y += step {
		at := bottom - y/most*plotHeight
		fmt.Fprintf(b, `<path d="M%d %.1fh%d" stroke="#808080" stroke-opacity="0.3"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			leftEdge, at, plotWidth, leftEdge-6, at+4, quantity(y, p.unit))
	}
	seconds := max(duration.Seconds(), 1e-9)
	for step, x := tick(seconds, 10), 0.0; x <= seconds*1.001; x += step {
		at := leftEdge + x/seconds*plotWidth
		fmt.Fprintf(b, `<path d="M%.1f %.1fv4" stroke="#808080"/><text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n",
			at, bottom, at, bottom+16, quantity(x, "s"))
	}
	for _, c := range p.curves {
		if len(c.x) < 2 {
			continue
		}
		style := ` stroke-width="1.5"`
		if c.dashed {
			style = ` stroke-dasharray="3 2" stroke-opacity="0.6"`
		}
		fmt.Fprintf(b, `<polyline fill="none" stroke="%s"%s points="`, c.colour, style)
		for i := range c.x {
			fmt.Fprintf(b, "%.1f,%.1f ", leftEdge+c.x[i].Seconds()/seconds*plotWidth, bottom-c.y[i]/most*plotHeight)
		}
		b.WriteString("\"/>\n")
	}
}

// tick is a round distance, of which about n make most.
func tick(most float64, n float64) float64 {
	if most <= 0 {
		return 1
	}
	raw := most / n
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, k := range [...]float64{1, 2, 5} {
		if raw <= k*unit {
			return k * unit
		}
	}
	return 10 * unit
}

// quantity writes v with a unit and its prefix.
func quantity(v float64, unit string) string {
	if v == 0 {
		return "0"
	}
	prefix := ""
	for _, p := range [...]struct {
		factor float64
		name   string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}, {1e-3, "m"}, {1e-6, "µ"}} {
		if v >= p.factor*0.9999 {
			v, prefix = v/p.factor, p.name
			break
		}
	}
	return fmt.Sprintf("%.4g %s%s", v, prefix, unit)
}
