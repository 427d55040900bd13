package waybill_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The numbers of RFC 9293, Appendix B.
const (
	lastMUST = 69
	lastSHLD = 31
	lastMAY  = 18
)

var (
	rfcRow  = regexp.MustCompile(`(?m)^\| ((MUST|SHLD|MAY)-(\d+)) \| (.+?) \| (.+) \|$`)
	rfcTest = regexp.MustCompile("`(\\w+)\\.(Test\\w+)`")
)

// TestRFCTable: RFC.md has one line for each MUST and SHLD, and every test that it names exists.
func TestRFCTable(t *testing.T) {
	text, err := os.ReadFile("RFC.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]int{}
	tests := map[string]map[string]bool{}
	for _, row := range rfcRow.FindAllStringSubmatch(string(text), -1) {
		id, cell := row[1], row[5]
		lines[id]++
		named := rfcTest.FindAllStringSubmatch(cell, -1)
		if reason := strings.HasPrefix(cell, "not done, because "); !reason && len(named) == 0 {
			t.Errorf("%s names no test and no reason: %s", id, cell)
		}
		for _, n := range named {
			if tests[n[1]] == nil {
				tests[n[1]] = testsOf(t, n[1])
			}
			if !tests[n[1]][n[2]] {
				t.Errorf("%s: package %s has no %s", id, n[1], n[2])
			}
		}
	}
	for id, n := range lines {
		if n > 1 {
			t.Errorf("%s stands %d times", id, n)
		}
	}
	for kind, last := range map[string]int{"MUST": lastMUST, "SHLD": lastSHLD} {
		for n := 1; n <= last; n++ {
			id := fmt.Sprintf("%s-%d", kind, n)
			if lines[id] == 0 {
				t.Errorf("%s is missing", id)
			}
			delete(lines, id)
		}
	}
	for n := 1; n <= lastMAY; n++ {
		delete(lines, fmt.Sprintf("MAY-%d", n))
	}
	for id := range lines {
		t.Errorf("the RFC has no %s", id)
	}
}

// testsOf lists the test functions of the package in dir.
func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("package %s: %v, %d files of tests", dir, err, len(files))
	}
	names := map[string]bool{}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				names[fn.Name.Name] = true
			}
		}
	}
	return names
}
