// Package messages finds in the source what ckpt can say to a user, so that a test can
// hold docs/troubleshooting.md to it. It reads syntax only (go/ast): it is quick, and
// needs nothing built.
package messages

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Sort is why a message is said, which decides where it is explained.
type Sort string

const (
	Refusal Sort = "refusal" // failure.Unsupportedf: this cannot be done here
	Damage  Sort = "damage"  // failure.Damagedf: the image contradicts itself
	Usage   Sort = "usage"   // the command line is wrong
	Failure Sort = "failure" // any other error that says why by itself
	Step    Sort = "step"    // an error that only says at what another came up: "read X: ERR"
	Hint    Sort = "hint"    // what the user can do
	Warning Sort = "warning" // the log's, on standard error unless --log-level is error
)

// Message is one thing that ckpt can say.
type Message struct {
	Sort Sort
	// Text as the page has it: what is put in at run time stands in capitals, named as
	// in the source ("file PATH: it has SIZE bytes"), or … where that has no name.
	Text string
	At   []string // FILE:LINE of all places that say it, the files below the module's root
}

// outside are folders that are no part of ckpt.
var outside = []string{"e2e", "ci", "kind/kindtest", "docs"}

// Collect gives all messages of the module whose source lies in root, each once for
// every sort, in the order of their texts.
func Collect(root fs.FS) ([]Message, error) {
	c := &collector{set: token.NewFileSet(), folders: map[string]*folder{}, found: map[said][]string{}, makers: map[string][]maker{}, sorts: map[token.Pos]Sort{}}
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains(outside, p) || p != "." && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(p) != ".go" || strings.HasSuffix(p, "_test.go") || strings.HasSuffix(p, ".pb.go"):
			return nil
		}
		text, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(c.set, p, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		c.add(path.Dir(p), f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	// Functions that make messages of what they are given may call one another. Those that
	// call themselves come to no end.
	for known, round := -1, 0; known != len(c.found)+c.count() && round < rounds; round++ {
		known = len(c.found) + c.count()
		for _, dir := range slices.Sorted(maps.Keys(c.folders)) {
			c.folder(c.folders[dir])
		}
	}
	var out []Message
	for m, at := range c.found {
		slices.Sort(at)
		out = append(out, Message{m.sort, m.text, at})
	}
	slices.SortFunc(out, func(a, b Message) int {
		if n := strings.Compare(a.Text, b.Text); n != 0 {
			return n
		}
		return strings.Compare(string(a.Sort), string(b.Sort))
	})
	return out, nil
}

// rounds is more than how often a message is handed on from function to function.
const rounds = 8

type said struct {
	sort Sort
	text string
}

type collector struct {
	set     *token.FileSet
	folders map[string]*folder
	found   map[said][]string  // where
	sorts   map[token.Pos]Sort // of errors that are marked where they are made
	makers  map[string][]maker // by folder and name: functions whose parameters become part of a message
}

// folder is the source of a package.
type folder struct {
	path   string
	funcs  map[string][]*ast.FuncDecl // methods of several types may have one name
	values map[string][]ast.Expr      // what package constants, variables, and fields of literals are
	files  []*ast.File
}

// maker is a function that makes messages: what it is called with is put into text.
type maker struct {
	sort   Sort
	text   text
	params []string
	rest   bool // the last parameter takes any number
}

func (c *collector) count() (n int) {
	for _, m := range c.makers {
		n += len(m)
	}
	return n
}

func (c *collector) add(dir string, f *ast.File) {
	d := c.folders[dir]
	if d == nil {
		d = &folder{path: dir, funcs: map[string][]*ast.FuncDecl{}, values: map[string][]ast.Expr{}}
		c.folders[dir] = d
	}
	d.files = append(d.files, f)
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			d.funcs[n.Name.Name] = append(d.funcs[n.Name.Name], n)
		case *ast.KeyValueExpr:
			if k, ok := n.Key.(*ast.Ident); ok {
				d.values["."+k.Name] = append(d.values["."+k.Name], n.Value)
			}
		}
		return true
	})
	for _, decl := range f.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range g.Specs {
			v, ok := spec.(*ast.ValueSpec)
			if !ok {
				continue
			}
			for i, name := range v.Names {
				if i < len(v.Values) {
					d.values[name.Name] = append(d.values[name.Name], v.Values[i])
				}
			}
		}
	}
}

func (c *collector) folder(d *folder) {
	for _, f := range d.files {
		for _, decl := range f.Decls {
			s := &scope{c: c, d: d}
			if fn, ok := decl.(*ast.FuncDecl); ok {
				s.fn, s.params = fn, parameters(fn)
			}
			s.walk(decl)
		}
	}
}

func parameters(fn *ast.FuncDecl) (names []string) {
	for _, field := range fn.Type.Params.List {
		for _, n := range field.Names {
			names = append(names, n.Name)
		}
		if len(field.Names) == 0 {
			names = append(names, "_")
		}
	}
	return names
}

// say notes a message, or that the function it stands in makes messages of what it
// is given.
func (s *scope) say(sort Sort, t text, at token.Pos) {
	if marked, ok := s.c.sorts[at]; ok {
		sort = marked
	}
	if t.open() {
		m := maker{sort, t, s.params, s.kindOf(len(s.params)-1) == "...string"}
		key := s.d.path + "." + s.fn.Name.Name
		if !slices.ContainsFunc(s.c.makers[key], func(o maker) bool { return o.sort == sort && o.text.equal(t) }) {
			s.c.makers[key] = append(s.c.makers[key], m)
		}
		return
	}
	if sort == Failure && t.wraps() {
		sort = Step
	}
	shown := t.String()
	if !strings.ContainsFunc(shown, func(r rune) bool { return r >= 'a' && r <= 'z' }) {
		return // all of it comes from elsewhere
	}
	p := s.c.set.Position(at)
	m, where := said{sort, shown}, fmt.Sprintf("%s:%d", p.Filename, p.Line)
	if !slices.Contains(s.c.found[m], where) {
		s.c.found[m] = append(s.c.found[m], where)
	}
}
