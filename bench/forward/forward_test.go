package main

import (
	"os"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
)

// TestEachAnswers measures everything for a moment: each of the routers lets all of it pass.
func TestEachAnswers(t *testing.T) {
	if !netns.Enter(t, 3*time.Minute) {
		return
	}
	o := options{rounds: 1, length: 100 * time.Millisecond, bin: t.TempDir(), only: []string{"up", "down", "rr"}, profile: t.TempDir()}
	if err := build(t.Context(), o.bin); err != nil {
		t.Fatal(err)
	}
	tab, err := o.measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routers {
		for _, w := range workloads {
			if v := tab.Median(w.String(), r.column); v <= 0 {
				t.Errorf("%s, %v: %v %s", r.column, w, v, w.Unit)
			}
		}
	}
	for _, name := range []string{"waybill-1.prof", "waybill-NAT-1.prof"} {
		if f, err := os.Stat(o.profile + "/" + name); err != nil || f.Size() == 0 {
			t.Errorf("no profile %s: %v", name, err)
		}
	}
}
