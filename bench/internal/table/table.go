// Package table collects the figures of several rounds, and prints their medians and ratios as Markdown.
package table

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Table collects figures by row and column.
type Table struct {
	title   string
	rows    []row
	columns []string
	ratios  []ratio
}

type row struct {
	name, unit string
	figures    map[string][]float64 // by column
}

// ratio is a column that compares.
type ratio struct {
	title, column string
	to            []string
}

// New returns a table that has nothing yet but its title.
func New(title string) *Table { return &Table{title: title} }

// Column names a column, if there is none of the name. Columns stand in the order in which they were named.
func (t *Table) Column(name string) {
	if !slices.Contains(t.columns, name) {
		t.columns = append(t.columns, name)
	}
}

// Columns are the names of the columns.
func (t *Table) Columns() []string { return t.columns }

// Ratio adds a column, after those of figures, that compares each median of a column to the best of the others named.
func (t *Table) Ratio(title, column string, to ...string) {
	t.ratios = append(t.ratios, ratio{title, column, to})
}

// Add enters one figure. Rows stand in the order of their first figures.
func (t *Table) Add(name, unit, column string, v float64) {
	i := slices.IndexFunc(t.rows, func(r row) bool { return r.name == name })
	if i < 0 {
		i = len(t.rows)
		t.rows = append(t.rows, row{name, unit, map[string][]float64{}})
	}
	t.rows[i].figures[column] = append(t.rows[i].figures[column], v)
}

// Median is the median of what was entered for a row and a column, 0 for nothing.
func (t *Table) Median(name, column string) float64 {
	i := slices.IndexFunc(t.rows, func(r row) bool { return r.name == name })
	if i < 0 {
		return 0
	}
	return Median(t.rows[i].figures[column])
}

// Print writes the medians and the ratios as a table in Markdown.
func (t *Table) Print(w io.Writer) {
	head := append([]string{""}, t.columns...)
	for _, r := range t.ratios {
		head = append(head, r.title)
	}
	fmt.Fprintf(w, "\n### %s\n\n| %s |\n|---%s\n", t.title, strings.Join(head, " | "), strings.Repeat("|---:", len(head)-1)+"|")
	for _, r := range t.rows {
		cells := []string{r.name + " (" + r.unit + ")"}
		for _, c := range t.columns {
			cells = append(cells, figure(Median(r.figures[c])))
		}
		for _, x := range t.ratios {
			best := 0.0
			for _, c := range x.to {
				best = max(best, Median(r.figures[c]))
			}
			cells = append(cells, quotient(Median(r.figures[x.column]), best))
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
}

// Median is the median of some figures, of an even number the mean of the two in the middle, 0 for none.
func Median(figures []float64) float64 {
	v := slices.Sorted(slices.Values(figures))
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

func quotient(v, of float64) string {
	if v == 0 || of == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", v/of)
}
