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
	depth  int
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
	args := s.arguments(n.Args[1:], n.Ellipsis.IsValid())
	for _, f := range s.texts(n.Args[0]) {
		if len(f) == 1 && f[0].param > 0 {
			f[0].whole = true
			out = append(out, f)
			continue
		}
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
	return out
}

// arguments names what is put into a format. A parameter of the function that is words
// at a call is put in there.
func (s *scope) arguments(args []ast.Expr, spread bool) (out []text) {
	if spread {
		return nil
	}
	for _, a := range args {
		out = append(out, s.argument(a))
	}
	return out
}

func (s *scope) argument(e ast.Expr) text {
	if id, ok := e.(*ast.Ident); ok {
		if i := slices.Index(s.params, id.Name); i >= 0 && s.isString(i) {
			return text{{param: i + 1}}
		}
		if ts := s.constant(id.Name); len(ts) == 1 {
			return ts[0]
		}
	}
	if t, ok := literal(e); ok {
		return words(t)
	}
	return text{{name: named(e)}}
}

// isString tells whether the parameter is a string.
func (s *scope) isString(i int) bool {
	n := 0
	for _, field := range s.fn.Type.Params.List {
		if n += max(1, len(field.Names)); i < n {
			id, ok := field.Type.(*ast.Ident)
			return ok && id.Name == "string"
		}
	}
	return false
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
			with = nil
			args := s.arguments(n.Args[i+1:], n.Ellipsis.IsValid())
			for _, f := range s.texts(n.Args[i]) {
				if len(f) == 1 && f[0].param > 0 {
					f[0].whole = true
					with = append(with, f)
				} else if len(f) == 1 {
					with = append(with, verbs(f[0].words, args))
				}
			}
		default:
			with = s.texts(n.Args[i])
			if len(with) == 0 {
				with = []text{{{name: placeholder(m.params[i])}}}
			}
		}
		var next []text
		for _, o := range out {
			for _, w := range with {
				next = append(next, append(slices.Clone(o), w...))
			}
		}
		out = next
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
