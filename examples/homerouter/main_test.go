package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
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
	if role, addr, ok := strings.Cut(os.Getenv(roleEnv), " "); ok {
		if err := play(role, addr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

var update = flag.Bool("update", false, "write the golden files anew")

func seededHome(server string) func() *home {
	return func() *home {
		h := &home{server: server}
		h.Random = scene.Seeded(1)
		return h
	}
}

// TestHomework: what is printed is what is in testdata, to the word. Time is the bubble's, so that each step has one.
func TestHomework(t *testing.T) {
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			var got bytes.Buffer
			synctest.Test(t, func(t *testing.T) {
				if err := homework(t.Context(), &got, seededHome("198.51.100.10:80"), []string{s.name}); err != nil {
					t.Error(err)
				}
			})
			file := "testdata/" + s.name + ".txt"
			if *update {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			w, g := strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")
			for i := range max(len(w), len(g)) {
				if i >= len(w) || i >= len(g) || w[i] != g[i] {
					t.Fatalf("line %d of %s is\n%s\nwant\n%s\n(-update writes it anew)", i+1, file, at(g, i), at(w, i))
				}
			}
		})
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(the end)"
}

// TestHomeworkFollowsEvents: a router with other rules makes another homework, with nothing of the port forward in it.
func TestHomeworkFollowsEvents(t *testing.T) {
	tell := func(server string) (text string) {
		synctest.Test(t, func(t *testing.T) {
			var b bytes.Buffer
			if err := homework(context.Background(), &b, seededHome(server), []string{"forward"}); err != nil && server == "198.51.100.10:80" {
				t.Error(err)
			}
			text = b.String()
		})
		return text
	}
	if got := tell("198.51.100.10:80"); !strings.Contains(got, "becomes 198.51.100.10:80") || !strings.Contains(got, "  server\n") {
		t.Errorf("the server does not appear:\n%s", got)
	}
	if got := tell("198.51.100.30:80"); !strings.Contains(got, "becomes 198.51.100.30:80") || !strings.Contains(got, "out by printer") ||
		strings.Contains(got, "becomes 198.51.100.10:80") {
		t.Errorf("the port is forwarded to the printer, and the homework says\n%s", got)
	}
}
