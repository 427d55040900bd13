package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// table collects figures by row and column.
type table struct {
	title   string
	rows    []row
	columns []string
	roles   map[string]role
}

type row struct {
	name, unit string
	figures    map[string][]float64 // by column
}

func newTable(title string) *table { return &table{title: title, roles: map[string]role{}} }

// column names a column, if there is none of the name.
func (t *table) column(name string, r role) {
	if !slices.Contains(t.columns, name) {
		t.columns = append(t.columns, name)
		t.roles[name] = r
	}
}

// add enters one figure. Rows stand in the order of their first figures.
func (t *table) add(name, unit, column string, v float64) {
	i := slices.IndexFunc(t.rows, func(r row) bool { return r.name == name })
	if i < 0 {
		i = len(t.rows)
		t.rows = append(t.rows, row{name, unit, map[string][]float64{}})
	}
	t.rows[i].figures[column] = append(t.rows[i].figures[column], v)
}

// print writes the medians, and how each of ours compares to the best peer and to the ceiling, as a table in Markdown.
func (t *table) print(w io.Writer) {
	head := append([]string{""}, t.columns...)
	for _, c := range t.columns {
		if t.roles[c] == ours {
			head = append(head, c+" : peer")
			if t.has(ceiling) {
				head = append(head, c+" : ceiling")
			}
		}
	}
	fmt.Fprintf(w, "\n### %s\n\n| %s |\n|---%s\n", t.title, strings.Join(head, " | "), strings.Repeat("|---:", len(head)-1)+"|")
	for i := range t.rows {
		r := &t.rows[i]
		cells := []string{r.name + " (" + r.unit + ")"}
		for _, c := range t.columns {
			cells = append(cells, figure(r.median(c)))
		}
		for _, c := range t.columns {
			if t.roles[c] == ours {
				cells = append(cells, ratio(r.median(c), t.best(r, peer)))
				if t.has(ceiling) {
					cells = append(cells, ratio(r.median(c), t.best(r, ceiling)))
				}
			}
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
}

func (t *table) has(want role) bool {
	return slices.ContainsFunc(t.columns, func(c string) bool { return t.roles[c] == want })
}

// best is the highest median of a row among the columns of one role.
func (t *table) best(r *row, of role) (v float64) {
	for _, c := range t.columns {
		if t.roles[c] == of {
			v = max(v, r.median(c))
		}
	}
	return v
}

// median is the median of a row's figures in a column, 0 without any.
func (r *row) median(column string) float64 {
	v := slices.Sorted(slices.Values(r.figures[column]))
	n := len(v)
	switch {
	case n == 0:
		return 0
	case n%2 == 0:
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[n/2]
}

func figure(v float64) string {
	switch {
	case v == 0:
		return "–"
	case v < 100:
		return fmt.Sprintf("%.2f", v)
	}
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func ratio(v, of float64) string {
	if v == 0 || of == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", v/of)
}

// machine describes what the figures are of.
func machine() string {
	var u unix.Utsname
	kernel := "unknown"
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	return fmt.Sprintf("%s, %d cores, Linux %s, %s, load %s.", processor(), runtime.NumCPU(), kernel, runtime.Version(), load())
}

// processor is the processor's model, as /proc/cpuinfo has it.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// load is how many threads wanted a core in the last minute: more than a few tell that the machine does other things.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
