package main

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	tab := newTable("A device")
	tab.column("netstack", peer)
	tab.column("netstack, polled", peer)
	tab.column("ceiling", ceiling)
	tab.column("waybill", ours)
	tab.column("waybill", ours)
	for _, v := range []struct {
		row, column string
		figures     []float64
	}{
		{"up, 1", "netstack", []float64{9, 1, 2}},              // an odd number: 2
		{"up, 1", "netstack, polled", []float64{4, 8, 1, 100}}, // an even one: 6, which is the better
		{"up, 1", "waybill", []float64{12}},
		{"up, 1", "ceiling", []float64{16}},
		{"rr, 1", "netstack", []float64{1000}},
		{"rr, 1", "waybill", []float64{1234567}},
		{"crr, 1", "waybill", []float64{1}},
	} {
		for _, f := range v.figures {
			tab.add(v.row, "unit", v.column, f)
		}
	}
	want := `
### A device

|  | netstack | netstack, polled | ceiling | waybill | waybill : peer | waybill : ceiling |
|---|---:|---:|---:|---:|---:|---:|
| up, 1 (unit) | 2.00 | 6.00 | 16.00 | 12.00 | 2.00 | 0.75 |
| rr, 1 (unit) | 1,000 | – | – | 1,234,567 | 1234.57 | – |
| crr, 1 (unit) | – | – | – | 1.00 | – | – |
`
	var b strings.Builder
	tab.print(&b)
	if b.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", b.String(), want)
	}
}
