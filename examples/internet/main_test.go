package main

import (
	"bytes"
	"flag"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed87e66d9f/waybill/examples/internal/scene"
)

// The resolver of package net has a channel that is made at its first use, which is not to be in a bubble.
func TestMain(m *testing.M) {
	net.LookupHost("localhost")
	os.Exit(m.Run())
}

var update = flag.Bool("update", false, "write the golden file anew")

func told(t *testing.T, pages int) string {
	t.Helper()
	var b bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		if err := browse(t.Context(), &b, &scene.Scene{Random: scene.Seeded(2)}, pages); err != nil {
			t.Error(err)
		}
	})
	return b.String()
}

// TestPage: what is printed is what is in testdata, to the word.
func TestPage(t *testing.T) {
	const file = "testdata/page.txt"
	got := told(t, 1)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	w, g := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	for i := range w {
		if i == len(g) || w[i] != g[i] {
			t.Fatalf("line %d is\n%s\nwant\n%s\n(-update writes it anew)", i+1, strings.Join(g[i:min(i+1, len(g))], ""), w[i])
		}
	}
	t.Fatalf("after line %d there is more", len(w))
}

// TestServersInTurn: three pages come from three servers, each by a way of its own.
func TestServersInTurn(t *testing.T) {
	got := told(t, 3)
	for _, server := range []string{"203.0.113.131:80", "203.0.113.132:80", "203.0.113.133:80"} {
		if n := strings.Count(got, "\nTCP 203.0.113.129:"); n != 3 {
			t.Errorf("the proxy asks %d times, want 3", n)
		}
		if !strings.Contains(got, " > "+server+"\n") {
			t.Errorf("nobody asks %s in\n%s", server, got)
		}
	}
}
