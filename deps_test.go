package waybill_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/seed87e66d9f/waybill"

// importRules says for each directory what it may import. Everybody may import what of the standard library computes
// and no more (pure, below) and each entry adds to that: paths of this module, of other modules, of the standard
// library, or std, all of it. A directory without an entry fails.
//
// The protocols are values: only stack and link know of goroutines, locks, clocks and devices.
var importRules = parseRules(`
.
internal/checksum     net/netip
ethernet              net/netip internal/checksum
ipv4                  net/netip internal/checksum
ipv6                  net/netip internal/checksum
udp                   net/netip internal/checksum
tcp                   time
tcp/tcptest           std tcp
tcp/tcptest/sim       std tcp
internal/route        net/netip time internal/checksum ethernet ipv4 ipv6 udp
internal/pathmtu      net/netip time
internal/pace         time
internal/bell         std golang.org/x/sys/unix
internal/neighbor     net/netip time internal/checksum ethernet ipv4 ipv6 udp
internal/reassembly   net/netip time internal/checksum ethernet ipv4 ipv6 udp
internal/wheel        net/netip time internal/checksum ethernet ipv4 ipv6 udp
internal/groups       net/netip time internal/checksum ethernet ipv4 ipv6 udp
internal/autoconf     net/netip time internal/checksum ethernet ipv4 ipv6 udp
internal/acd          net/netip time ethernet
firewall              net/netip time internal/checksum internal/pace ethernet ipv4 ipv6 udp tcp
link                  std ethernet internal/checksum internal/pace golang.org/x/sys/unix github.com/songgao/water
stack                 std internal/bell internal/checksum internal/pace internal/route internal/neighbor internal/reassembly internal/wheel internal/autoconf internal/pathmtu internal/acd internal/groups
stack                 ethernet ipv4 ipv6 udp tcp firewall link golang.org/x/net/dns/dnsmessage
splice                std
internal/netns         std
narrate               std ethernet ipv4 ipv6 udp tcp firewall link stack golang.org/x/net/dns/dnsmessage
examples/internal/host std stack link splice tcp golang.org/x/sys/unix
examples/httpserver   std stack tcp examples/internal/host
examples/httpsserver  std stack examples/internal/host
examples/handshake    std stack link ethernet ipv4 ipv6 udp tcp
examples/ftpserver    std stack examples/internal/host
examples/mdns         std stack examples/internal/host golang.org/x/net/dns/dnsmessage
examples/dnsserver    std stack examples/internal/host golang.org/x/net/dns/dnsmessage
examples/ping         std stack examples/internal/host
examples/traceroute   std stack ipv4 ipv6 examples/internal/host
examples/internal/scene std ethernet firewall link narrate stack golang.org/x/net/dns/dnsmessage
examples/homerouter   std link narrate stack examples/internal/scene
examples/internet     std narrate stack examples/internal/scene
examples/proxy        std stack splice examples/internal/host
examples/tunproxy      std stack splice link
`)

// pure is what of the standard library neither does I/O nor knows of time, randomness or other goroutines.
var pure = strings.Fields(`errors fmt io strconv strings bytes slices maps sort cmp iter math math/bits unicode/utf8
	encoding/binary encoding/hex container/heap container/list unique
	crypto/sha256 crypto/sha1 crypto/md5 crypto/hmac crypto/aes crypto/cipher crypto/subtle hash hash/crc32 hash/fnv`)

// timeNames is what of package time a value may use: a Duration, and the units to say one in. The clock is stack's.
var timeNames = strings.Fields("Duration Nanosecond Microsecond Millisecond Second Minute Hour")

// requirements is all that go.mod may require.
var requirements = []string{"github.com/songgao/water", "golang.org/x/net", "golang.org/x/sys"}

// Limits of size, in lines.
const (
	maxFile     = 400
	maxFunction = 60
)

func parseRules(text string) map[string][]string {
	rules := map[string][]string{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 0 {
			rules[f[0]] = append(rules[f[0]], f[1:]...)
		}
	}
	return rules
}

// source is one file of the module.
type source struct {
	dir  string // from the root, "." for the root itself
	name string // path from the root
	fset *token.FileSet
	file *ast.File
}

// at is a finding, with its place.
func (s *source) at(p token.Pos, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", s.name, s.fset.Position(p).Line, fmt.Sprintf(format, args...))
}

func parse(name string, text any) (*source, error) {
	s := &source{dir: filepath.ToSlash(filepath.Dir(name)), name: name, fset: token.NewFileSet()}
	var err error
	s.file, err = parser.ParseFile(s.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	return s, err
}

// sources parses every file of the module that is not a test. A directory with its own go.mod is another module.
func sources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, nested := os.Stat(filepath.Join(path, "go.mod"))
			hidden := d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_")
			if path != "." && (nested == nil || hidden) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		s, err := parse(path, nil)
		if err != nil {
			t.Error(err)
			return nil
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTree(t *testing.T) {
	all := sources(t)
	for _, c := range []struct {
		name  string
		check func(s *source) []string
	}{
		{"imports", checkImports}, {"clock", checkClock}, {"size", checkSize}, {"documented", checkDocs}, {"numbers", checkNumbers},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, s := range all {
				for _, finding := range c.check(s) {
					t.Error(finding)
				}
			}
		})
	}
	t.Run("package comments", func(t *testing.T) {
		documented := map[string]bool{}
		for _, s := range all {
			documented[s.dir] = documented[s.dir] || s.file.Doc != nil
		}
		for dir, ok := range documented {
			if !ok {
				t.Errorf("%s: no package comment", dir)
			}
		}
	})
}

// checkImports holds the imports of s against importRules.
func checkImports(s *source) []string {
	allowed, ok := importRules[s.dir]
	if !ok {
		return []string{s.at(s.file.Package, "directory %s is not in importRules", s.dir)}
	}
	var findings []string
	for _, i := range s.file.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		first, _, _ := strings.Cut(path, "/")
		local, ours := strings.CutPrefix(path, module+"/")
		standard := !strings.Contains(first, ".") && path != "C"
		if i.Name != nil && i.Name.Name == "." {
			findings = append(findings, s.at(i.Pos(), "dot import of %q", path))
		}
		if ours && slices.Contains(allowed, local) || !ours && slices.Contains(allowed, path) ||
			standard && (slices.Contains(pure, path) || slices.Contains(allowed, "std")) {
			continue
		}
		findings = append(findings, s.at(i.Pos(), "%s may not import %q", s.dir, path))
	}
	return findings
}

// checkClock finds, in packages that may import time but not all of std, what of it is not a Duration.
func checkClock(s *source) []string {
	name := ""
	for _, i := range s.file.Imports {
		if i.Path.Value == `"time"` {
			name = "time"
			if i.Name != nil {
				name = i.Name.Name
			}
		}
	}
	if name == "" || slices.Contains(importRules[s.dir], "std") {
		return nil
	}
	var findings []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == name && !slices.Contains(timeNames, sel.Sel.Name) {
				findings = append(findings, s.at(sel.Pos(), "time.%s: only stack and link have a clock", sel.Sel.Name))
			}
		}
		return true
	})
	return findings
}

// checkSize finds a file or a function that is too long.
func checkSize(s *source) []string {
	var findings []string
	if n := s.fset.File(s.file.Package).LineCount(); n > maxFile {
		findings = append(findings, s.at(s.file.Package, "file of %d lines, the limit is %d", n, maxFile))
	}
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > maxFunction {
				findings = append(findings, s.at(f.Pos(), "function %s of %d lines, the limit is %d", f.Name.Name, n, maxFunction))
			}
		}
	}
	return findings
}

// checkDocs finds exported names without a comment.
func checkDocs(s *source) []string {
	if s.file.Name.Name == "main" {
		return nil
	}
	var findings []string
	missing := func(n *ast.Ident) {
		if n.IsExported() {
			findings = append(findings, s.at(n.Pos(), "%s has no comment", n.Name))
		}
	}
	for _, d := range s.file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Doc == nil && (d.Recv == nil || ast.IsExported(receiver(d))) {
				missing(d.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
						missing(spec.Name)
					}
				case *ast.ValueSpec:
					if d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
						for _, n := range spec.Names {
							missing(n)
						}
					}
				}
			}
		}
	}
	return findings
}

// receiver is the name of the type that f is a method of.
func receiver(f *ast.FuncDecl) string {
	x := f.Recv.List[0].Type
	for {
		switch e := x.(type) {
		case *ast.StarExpr:
			x = e.X
		case *ast.IndexExpr:
			x = e.X
		case *ast.IndexListExpr:
			x = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}

// checkNumbers finds the MTU that everybody takes for granted: it is the device's to say.
func checkNumbers(s *source) []string {
	if strings.HasPrefix(s.dir, "examples/") {
		return nil
	}
	var findings []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.INT {
			if v, err := strconv.ParseInt(l.Value, 0, 64); err == nil && v == 1500 {
				findings = append(findings, s.at(l.Pos(), "a constant %s: an MTU is asked for, not assumed", l.Value))
			}
		}
		return true
	})
	return findings
}

func TestModuleRequires(t *testing.T) {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	got, version := readModule(string(text))
	slices.Sort(got)
	if !slices.Equal(got, requirements) {
		t.Errorf("go.mod requires %v, want %v: anything else lives in a module of its own", got, requirements)
	}
	if version != "1.25.0" {
		t.Errorf("go.mod says go %s, want 1.25.0: more would force it on importers", version)
	}
}

// readModule is what a go.mod requires, and its go version. Any other directive counts as a requirement, by its name.
func readModule(text string) (required []string, version string) {
	block := ""
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "//")
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || f[0] == "module":
		case f[0] == ")":
			block = ""
		case f[len(f)-1] == "(":
			block = f[0]
		case block == "require":
			required = append(required, f[0])
		case block == "" && f[0] == "require" && len(f) > 1:
			required = append(required, f[1])
		case f[0] == "go" && len(f) > 1:
			version = f[1]
		default:
			required = append(required, block+f[0])
		}
	}
	return required, version
}

// TestChecksFind breaks each rule once and sees that it is noticed, where it is.
func TestChecksFind(t *testing.T) {
	long := strings.Repeat("\n", maxFunction-2)
	for _, c := range []struct {
		name, file, text string
		check            func(s *source) []string
		want             string // the findings' lines
	}{
		{"unknown directory", "attic/a.go", "package attic", checkImports, "1"},
		{"leaf imports net", "ipv4/a.go", "package ipv4\nimport \"net\"", checkImports, "2"},
		{"leaf imports leaf", "ipv4/a.go", "package ipv4\nimport \"" + module + "/ipv6\"", checkImports, "2"},
		{"leaf imports time", "udp/a.go", "package udp\nimport \"time\"", checkImports, "2"},
		{"leaf imports what it may", "udp/a.go", "package udp\nimport (\"net/netip\"\n\"" + module + "/internal/checksum\")", checkImports, ""},
		{"tcp imports netip", "tcp/a.go", "package tcp\nimport (\n\"time\"\n\"net/netip\")", checkImports, "4"},
		{"tcp imports sync", "tcp/a.go", "package tcp\nimport \"sync\"", checkImports, "2"},
		{"tcp imports ipv4", "tcp/a.go", "package tcp\nimport \"" + module + "/ipv4\"", checkImports, "2"},
		{"values import stack", "internal/route/a.go", "package route\nimport \"" + module + "/stack\"", checkImports, "2"},
		{"link imports ipv4", "link/a.go", "package link\nimport \"" + module + "/ipv4\"", checkImports, "2"},
		{"stack imports a stranger", "stack/a.go", "package stack\nimport \"example.com/x\"", checkImports, "2"},
		{"cgo", "link/a.go", "package link\nimport \"C\"", checkImports, "2"},
		{"dot import", "stack/a.go", "package stack\nimport . \"net\"", checkImports, "2"},
		{"time.Now", "tcp/a.go", "package tcp\nimport \"time\"\nvar a = time.Now()", checkClock, "3"},
		{"time.Time by another name", "tcp/a.go", "package tcp\nimport x \"time\"\nvar a x.Duration\nvar b x.Time", checkClock, "4"},
		{"time.Now where it may be", "stack/a.go", "package stack\nimport \"time\"\nvar a = time.Now()", checkClock, ""},
		{"function of the limit", "a.go", "package a\nfunc f() {\n" + long + "}", checkSize, ""},
		{"function beyond the limit", "a.go", "package a\nfunc f() {\n\n" + long + "}", checkSize, "2"},
		{"file of the limit", "a.go", "package a" + strings.Repeat("\n", maxFile), checkSize, ""},
		{"file beyond the limit", "a.go", "package a" + strings.Repeat("\n", maxFile+1), checkSize, "1"},
		{"undocumented", "a.go", "package a\nfunc F() {}\ntype T int\nfunc (T) M() {}\nvar V int\nconst C = 1", checkDocs, "2 3 4 5 6"},
		{"undocumented, not exported", "a.go", "package a\nfunc f() {}\ntype t int\nfunc (*t) M() {}\nvar v int", checkDocs, ""},
		{"documented", "a.go", "package a\n// F\nfunc F() {}\n// T\ntype T int\nconst C = 1 // C\n// A group\nconst (\nD = 2\n)", checkDocs, ""},
		{"1500", "a.go", "package a\nvar a = 1500\nvar b = 0x5dc\nvar c = 1_500\nvar d = 15000", checkNumbers, "2 3 4"},
		{"1500 in an example", "examples/b/a.go", "package a\nvar a = 1500", checkNumbers, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := parse(c.file, c.text)
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			findings := c.check(s)
			for _, f := range findings {
				lines = append(lines, strings.Split(f, ":")[1])
			}
			if got := strings.Join(lines, " "); got != c.want {
				t.Errorf("found %q, want findings on lines %q", findings, c.want)
			}
		})
	}
	got, version := readModule("module m\n\ngo 1.26\nrequire a v1\nrequire (\n\tb v2 // indirect\n)\nreplace a => ../a\n")
	if strings.Join(got, " ") != "a b replace" || version != "1.26" {
		t.Errorf("readModule: %q, go %s, want a, b, replace and 1.26", got, version)
	}
}
