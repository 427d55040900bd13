package waybill_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReadme: the program that README shows is the package's example, letter by letter, every test that README names is
// there, and README names all that ran with a real program.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	program := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(readme)
	if program == nil {
		t.Fatal("README shows no program")
	}
	if got, want := strings.TrimSpace(string(program[1])), exampleBody(t); got != want {
		t.Errorf("README shows\n%s\nand the example is\n%s", got, want)
	}
	tests, looked := map[string]bool{}, map[string]bool{}
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if dir := filepath.Dir(path); strings.HasSuffix(path, "_test.go") && !looked[dir] {
			looked[dir] = true
			maps.Copy(tests, testsOf(t, dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`\bTest[A-Z][A-Za-z0-9]*`).FindAllString(string(readme), -1)
	if len(named) < 30 {
		t.Errorf("README names %d tests", len(named))
	}
	for _, n := range named {
		if !tests[n] {
			t.Errorf("README names %s, which does not exist", n)
		}
	}
	for n := range testsOf(t, "interop") {
		if !slices.Contains(named, n) {
			t.Errorf("%s is in interop, and README does not name it", n)
		}
	}
}

// exampleBody is what stands in stack's Example, without indent and the comment for the expected output.
func exampleBody(t *testing.T) string {
	t.Helper()
	src, err := os.ReadFile("stack/example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, "example_test.go", src, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "Example" {
			body := string(src[files.Position(fn.Body.Lbrace).Offset+1 : files.Position(fn.Body.Rbrace).Offset])
			body, _, _ = strings.Cut(body, "\t// Output:")
			return strings.TrimSpace(strings.ReplaceAll(body, "\n\t", "\n"))
		}
	}
	t.Fatal("stack has no Example")
	return ""
}
