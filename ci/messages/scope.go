package messages

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
)

// scope is where an expression stands.
type scope struct {
	c      *collector
	d      *folder
	fn     *ast.FuncDecl // nil outside functions
	params []string
	outer  *scope // of a function within another
	depth  int
}

// walk visits all that stands below n. A function within, if it has a name, is called
// like any other.
func (s *scope) walk(n ast.Node) {
	ast.Inspect(n, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == 1 && len(a.Rhs) == 1 && s.fn != nil {
			name, named := a.Lhs[0].(*ast.Ident)
			if lit, ok := a.Rhs[0].(*ast.FuncLit); ok && named {
				fn := &ast.FuncDecl{Name: name, Type: lit.Type, Body: lit.Body}
				(&scope{c: s.c, d: s.d, fn: fn, params: parameters(fn), outer: s}).walk(lit.Body)
				return false
			}
		}
		s.visit(n)
		return true
	})
}

// visit notes what the node says, if it says anything.
func (s *scope) visit(n ast.Node) {
	switch n := n.(type) {
	case *ast.CallExpr:
		s.call(n)
	case *ast.KeyValueExpr: // of failure.Error
		k, ok := n.Key.(*ast.Ident)
		switch {
		case !ok:
		case k.Name == "Hints":
			s.sayAll(Hint, s.texts(n.Value), n.Pos())
		case k.Name == "What":
			for _, t := range s.texts(n.Value) {
				s.say(Step, append(slices.Clone(t), piece{words: ": "}, piece{name: errName}), n.Pos())
			}
		}
	}
}

func (s *scope) sayAll(sort Sort, ts []text, at token.Pos) {
	for _, t := range ts {
		s.say(sort, t, at)
	}
}

// call notes what a call of one of the functions that make messages says.
func (s *scope) call(n *ast.CallExpr) {
	pkg, name := callee(n)
	switch {
	case pkg == "fmt" && name == "Errorf":
		s.sayAll(Failure, s.formatted(n), n.Pos())
	case pkg == "errors" && name == "New":
		s.sayAll(Failure, s.texts(n.Args[0]), n.Pos())
	case name == "Unsupportedf":
		s.sayAll(Refusal, s.formatted(n), n.Pos())
	case name == "Damagedf":
		s.sayAll(Damage, s.formatted(n), n.Pos())
	case name == "WithHint":
		for _, a := range n.Args[1:] {
			s.sayAll(Hint, s.texts(a), n.Pos())
		}
	case name == "Mark" && len(n.Args) == 2:
		s.marked(n.Args[1], named(n.Args[0]))
	case name == "usage" && len(n.Args) > 0:
		s.marked(n.Args[0], "ERR-USAGE")
		for _, a := range n.Args[1:] {
			s.sayAll(Hint, s.texts(a), n.Pos())
		}
	case name == "Warn" && len(n.Args) > 0:
		s.sayAll(Warning, s.texts(n.Args[0]), n.Pos())
	}
	for _, m := range s.makers(pkg, name) {
		for _, t := range s.filled(m, n) {
			s.say(m.sort, t, n.Pos())
		}
	}
}

// marked notes what an error that is made on the spot is marked as.
func (s *scope) marked(e ast.Expr, sentinel string) {
	sorts := map[string]Sort{"ERR-UNSUPPORTED": Refusal, "ERR-DAMAGED": Damage, "ERR-INCOMPATIBLE": Damage, "ERR-USAGE": Usage}
	if sort, ok := sorts[sentinel]; ok {
		if _, made := e.(*ast.CallExpr); made {
			s.c.sorts[e.Pos()] = sort
		}
	}
}

// callee is the name of what is called, and what stands before the dot.
func callee(n *ast.CallExpr) (before, name string) {
	switch f := n.Fun.(type) {
	case *ast.Ident:
		return "", f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name, f.Sel.Name
		}
		return "_", f.Sel.Name
	}
	return "", ""
}

// makers of that name: of the package that stands before it; else of this one, or of the
// one above, as a kind calls methods of kind.Dump.
func (s *scope) makers(before, name string) []maker {
	if p := s.c.packagePath(before); p != "" {
		return s.c.makers[p+"."+name]
	}
	if s.fn != nil && s.fn.Name.Name == name {
		return nil // it calls itself: what it says of that is said already
	}
	if m := s.c.makers[s.d.path+"."+name]; len(m) > 0 {
		return m
	}
	return s.c.makers[path.Dir(s.d.path)+"."+name]
}

// packagePath is the folder of a package that is imported by that name.
func (c *collector) packagePath(name string) string {
	for p := range c.folders {
		if p == name || len(p) > len(name) && p[len(p)-len(name)-1:] == "/"+name && name != "" {
			return p
		}
	}
	return ""
}

// formatted is what a format and its arguments come to.
func (s *scope) formatted(n *ast.CallExpr) (out []text) {
	all := s.arguments(n.Args[1:], n.Ellipsis.IsValid())
	for _, f := range s.texts(n.Args[0]) {
		for _, args := range all {
			var t text
			for _, p := range f {
				if p.words == "" {
					p.whole = p.whole || p.param > 0 // a part of a format is one
					t = append(t, p)
					continue
				}
				t = append(t, verbs(p.words, args)...)
			}
			out = append(out, t)
		}
	}
	return out
}

// most is how many messages one call of a function may be written out as, for all that can be put in.
const most = 8

// arguments are what can be put into a format, all at once. A parameter of the function
// that is words at a call is put in there.
func (s *scope) arguments(args []ast.Expr, spread bool) [][]text {
	out := [][]text{nil}
	if spread {
		return out
	}
	for _, a := range args {
		with := s.argument(a)
		if len(out)*len(with) > most {
			with = []text{{{name: named(a)}}}
		}
		var next [][]text
		for _, o := range out {
			for _, w := range with {
				next = append(next, append(slices.Clone(o), w))
			}
		}
		out = next
	}
	return out
}

// argument is what an expression can be, in words where they are known.
func (s *scope) argument(e ast.Expr) []text {
	var ts []text
	switch e := e.(type) {
	case *ast.Ident:
		if i := slices.Index(s.params, e.Name); i < 0 || s.kindOf(i) == "string" {
			ts = s.texts(e)
		}
	case *ast.CallExpr:
		ts = s.texts(e)
	default:
		if t, ok := literal(e); ok {
			return []text{words(t)}
		}
	}
	// Many names of one sort of thing are one.
	least := 2
	if len(ts) > 3 {
		least = 3
	}
	if slices.ContainsFunc(ts, func(t text) bool { return t.telling() >= least || t.open() }) {
		return ts
	}
	return []text{{{name: named(e)}}}
}

// kindOf is the type of a parameter that can be words: "string", "[]string" or
// "...string"; else "".
func (s *scope) kindOf(i int) string {
	n := 0
	for _, field := range s.fn.Type.Params.List {
		if n += max(1, len(field.Names)); i >= n {
			continue
		}
		of, kind := field.Type, ""
		switch t := field.Type.(type) {
		case *ast.Ellipsis:
			of, kind = t.Elt, "..."
		case *ast.ArrayType:
			of, kind = t.Elt, "[]"
		}
		if id, ok := of.(*ast.Ident); ok && id.Name == "string" {
			return kind + "string"
		}
		return ""
	}
	return ""
}

// filled is what a maker says when it is called so.
func (s *scope) filled(m maker, n *ast.CallExpr) []text {
	out := []text{nil}
	for _, p := range m.text {
		with := []text{{p}}
		switch i := p.param - 1; {
		case i < 0:
		case i >= len(n.Args):
			with = []text{{{name: placeholder(m.params[i])}}}
		case p.whole:
			with = s.formatted(&ast.CallExpr{Args: n.Args[i:], Ellipsis: n.Ellipsis})
		case m.rest && i == len(m.params)-1 && !n.Ellipsis.IsValid():
			with = s.known(n.Args[i:])
		default:
			with = s.texts(n.Args[i])
			_, written := literal(n.Args[i])
			if !written && !slices.ContainsFunc(with, func(t text) bool { return t.telling() >= 2 || t.open() }) {
				with = []text{{{name: placeholder(m.params[i])}}}
			}
		}
		var next []text
		for _, o := range out {
			for _, w := range with {
				next = append(next, append(slices.Clone(o), w...))
			}
		}
		if out = distinct(next); len(out) > many {
			return nil
		}
	}
	return out
}

func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	t, err := strconv.Unquote(l.Value)
	return t, err == nil
}

// named is the placeholder of an expression: the last name in it that says anything.
func named(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return placeholder(e.Name)
	case *ast.SelectorExpr:
		return placeholder(e.Sel.Name)
	case *ast.StarExpr:
		return named(e.X)
	case *ast.ParenExpr:
		return named(e.X)
	case *ast.IndexExpr:
		return named(e.X)
	case *ast.CallExpr:
		_, name := callee(e)
		if name == "len" {
			return "N"
		}
		if name == "WithoutPath" {
			return errName
		}
		if len(e.Args) == 1 { // a conversion, Quote(path), ...
			return named(e.Args[0])
		}
		if sel, ok := e.Fun.(*ast.SelectorExpr); ok && len(e.Args) == 0 {
			if len(name) > 3 && name[:3] == "Get" {
				return placeholder(name[3:])
			}
			if name == "String" || name == "Name" || name == "Error" {
				return named(sel.X)
			}
			return placeholder(name)
		}
	}
	return nameless
}
