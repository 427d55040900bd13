package tcp_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed87e66d9f/waybill/tcp/tcptest"
)

// TestScripts plays the traces in testdata/scripts. A file holds several, each under a line "== name" that says the rule
// of an RFC, and the row of the conformance checklist where there is one. tcptest.Script describes the notation.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/scripts/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	played := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		topic := strings.TrimSuffix(filepath.Base(file), ".txt")
		// Lines are counted from the top of the file, so each script begins with as many empty ones.
		above := 0
		for i, part := range strings.Split("\n"+string(text), "\n== ") {
			name, script, _ := strings.Cut(part, "\n")
			if i > 0 {
				played++
				t.Run(topic+"/"+name, func(t *testing.T) {
					tcptest.Script(t, strings.Repeat("\n", above)+script)
				})
			}
			above += strings.Count(part, "\n") + 1
		}
	}
	if played < 150 {
		t.Errorf("%d scripts were played, want 150 and more", played)
	}
}
