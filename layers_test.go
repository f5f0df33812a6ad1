// Package ckpt_test holds the code to docs/architecture.md.
package ckpt_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// listed is what `go list -json` tells of a package.
type listed struct {
	ImportPath string
	Imports    []string
	GoFiles    []string
	Dir        string
}

// shared are folders below kind/ that are no kinds but what several of them
// are made of.
var shared = []string{"kind/sockdiag", "kind/sockopt", "kind/ghost", "kind/pipebuf", "kind/watched"}

// rule says which imports are wrong, and why. Paths are those within the module.
type rule struct {
	why   string
	wrong func(from, to string) bool
}

var rules = []rule{
	{"dump and restore both know the order of work; what they share belongs to neither (restore/tree is a model of process trees, and knows neither)",
		func(from, to string) bool {
			return within(from, "dump") && to == "restore" || within(from, "restore") && within(to, "dump") || from == "restore/tree" && (to == "restore" || within(to, "kind"))
		}},
	{"a kind that needs another kind cannot be understood, tested or changed alone; kind/all knows them all",
		func(from, to string) bool { return isKind(from) && isKind(to) }},
	{"kinds know nothing of who calls them: the drivers call kinds",
		func(from, to string) bool {
			return within(from, "kind") && (within(to, "dump") || within(to, "restore") || within(to, "container") || within(to, "cmd"))
		}},
	{"the contracts stand above all kinds",
		func(from, to string) bool { return from == "kind" && strings.HasPrefix(to, "kind/") }},
	{"there is one table of all kinds, in kind/all: the drivers go by it, the command line and docs/kinds.md show it",
		func(from, to string) bool {
			switch {
			case isKind(to):
				return !within(from, "kind")
			case to == "kind/all":
				return !slices.Contains([]string{"dump", "restore", "cmd/ckpt", "ci/kinds"}, from)
			}
			return false
		}},
	{"the image is a format on disk: it outlives the code that fills it, and knows no kind, process or container",
		func(from, to string) bool { return within(from, "image") && to != "failure" }},
	{"who looks into an image needs neither processes nor kinds: it works where nothing can be restored",
		func(from, to string) bool {
			return within(from, "inspect") && !within(to, "inspect") && !slices.Contains([]string{"failure", "image", "kernel"}, to)
		}},
	{"procfs parses text, and tests it with files: it needs nothing else",
		func(from, to string) bool { return from == "procfs" && to != "failure" }},
	{"tracee and kernel are the bottom: the kernel's interface and nothing of ours",
		func(from, to string) bool {
			return slices.Contains([]string{"tracee", "kernel"}, from) && !slices.Contains([]string{"failure", "procfs", "kernel"}, to)
		}},
	{"failure is what everything may use, so it may use nothing",
		func(from, to string) bool { return from == "failure" }},
	{"kindtest is for tests", func(from, to string) bool { return to == "kind/kindtest" }},
	{"the command line is on top", func(from, to string) bool { return within(to, "cmd") }},
	{"e2e runs ckpt from outside", func(from, to string) bool { return within(to, "e2e") && !within(from, "e2e") }},
}

func within(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

// isKind: a folder of its own below kind/.
func isKind(pkg string) bool {
	return strings.HasPrefix(pkg, "kind/") && pkg != "kind/all" && pkg != "kind/kindtest" && !slices.Contains(shared, pkg)
}

func TestLayers(t *testing.T) {
	for _, p := range list(t) {
		from := strings.TrimPrefix(p.ImportPath, "ckpt/")
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, "ckpt/")
			if !ours {
				continue
			}
			for _, r := range rules {
				if r.wrong(from, to) {
					t.Errorf("%s imports %s: %s", from, to, r.why)
				}
			}
		}
	}
}

// TestUnsafe: only the packages that talk to the kernel may, and the files
// that do say so in their names.
func TestUnsafe(t *testing.T) {
	for _, p := range list(t) {
		from := strings.TrimPrefix(p.ImportPath, "ckpt/")
		for _, f := range p.GoFiles {
			if strings.HasSuffix(f, ".pb.go") || !importsUnsafe(t, path.Join(p.Dir, f)) {
				continue
			}
			if from != "tracee" && from != "kernel" {
				t.Errorf("%s/%s imports unsafe: only tracee and kernel hand pointers to the kernel; give them a typed function", from, f)
			}
			if !strings.HasSuffix(f, "_unsafe.go") && !strings.Contains(f, "_unsafe_") {
				t.Errorf("%s/%s imports unsafe: name it *_unsafe.go, so that who looks for memory errors knows where", from, f)
			}
		}
	}
}

func importsUnsafe(t *testing.T, file string) bool {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"unsafe"` })
}

func list(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,GoFiles,Dir", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// TestRules makes sure that the rules can fail.
func TestRules(t *testing.T) {
	tests := []struct {
		from, to string
		wrong    bool
	}{
		{"dump", "restore", true},
		{"restore", "dump", true},
		{"dump", "restore/tree", false},
		{"restore/tree", "restore", true},
		{"kind/epoll", "kind/eventfd", true},
		{"kind/unixsock", "kind/sockopt", false},
		{"kind/epoll", "kind", false},
		{"kind/epoll", "container", true},
		{"kind", "kind/all", true},
		{"kind/all", "kind/epoll", false},
		{"cmd/ckpt", "kind/epoll", true},
		{"container", "kind/all", true},
		{"dump", "kind/all", false},
		{"image", "kind", true},
		{"image", "procfs", true},
		{"image", "failure", false},
		{"inspect/core", "tracee", true},
		{"inspect/core", "image", false},
		{"tracee", "procfs", false},
		{"tracee", "image", true},
		{"kind/eventfd", "kind/kindtest", true},
		{"failure", "kernel", true},
		{"dump", "e2e/harness", true},
	}
	for _, tt := range tests {
		wrong := slices.ContainsFunc(rules, func(r rule) bool { return r.wrong(tt.from, tt.to) })
		if wrong != tt.wrong {
			t.Errorf("%s imports %s: wrong is %v, want %v", tt.from, tt.to, wrong, tt.wrong)
		}
	}
}
