package table

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	tab := New("A device")
	for _, c := range []string{"netstack", "netstack, polled", "ceiling", "waybill", "waybill"} {
		tab.Column(c)
	}
	tab.Ratio("waybill : peer", "waybill", "netstack", "netstack, polled")
	tab.Ratio("waybill : ceiling", "waybill", "ceiling")
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
			tab.Add(v.row, "unit", v.column, f)
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
	tab.Print(&b)
	if b.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", b.String(), want)
	}
	if got := tab.Median("up, 1", "netstack, polled"); got != 6 {
		t.Errorf("the median of 4, 8, 1 and 100 is %v, want 6", got)
	}
	if got := tab.Median("up, 1", "nobody") + tab.Median("nothing", "netstack"); got != 0 {
		t.Errorf("the medians of what was not measured add up to %v", got)
	}
}
