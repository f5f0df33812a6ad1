package messages

import (
	"go/ast"
	"go/token"
	"slices"
)

// deep is how far the search for the words of an expression goes.
const deep = 4

// many is how many texts one expression can be; of more, nothing is told.
const many = 16

// texts are what a string, or a slice of some, can be; none where nothing is known of it.
func (s *scope) texts(e ast.Expr) []text {
	if s.depth > deep {
		return nil
	}
	inner := *s
	inner.depth++
	switch e := e.(type) {
	case *ast.BasicLit:
		if t, ok := literal(e); ok && t != "" {
			return []text{words(t)}
		}
	case *ast.ParenExpr:
		return s.texts(e.X)
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return s.sums(e)
		}
	case *ast.Ident:
		return inner.identifier(e.Name)
	case *ast.SelectorExpr:
		return inner.known(s.d.values["."+e.Sel.Name])
	case *ast.CompositeLit:
		return s.known(e.Elts)
	case *ast.CallExpr:
		pkg, name := callee(e)
		switch {
		case name == "Quote": // as a shell takes it: the words are those given
			return nil
		case name == "Sprintf":
			return s.formatted(e)
		case name == "append" && pkg == "":
			return s.known(e.Args)
		}
		return inner.results(e, 0)
	}
	return nil
}

func (s *scope) known(es []ast.Expr) (out []text) {
	for _, e := range es {
		out = append(out, s.texts(e)...)
	}
	return out
}

// sums are the words of a + b, as long as one of them is known.
func (s *scope) sums(e *ast.BinaryExpr) (out []text) {
	left, right := s.texts(e.X), s.texts(e.Y)
	if len(left) == 0 && len(right) == 0 {
		return nil
	}
	if len(left) == 0 {
		left = []text{{{name: named(e.X)}}}
	}
	if len(right) == 0 {
		right = []text{{{name: named(e.Y)}}}
	}
	for _, l := range left {
		for _, r := range right {
			out = append(out, append(slices.Clone(l), r...))
		}
	}
	return out
}

// identifier is what is given to a variable, or a constant, of that name.
func (s *scope) identifier(name string) (out []text) {
	i := slices.Index(s.params, name)
	if i >= 0 && s.kindOf(i) != "" {
		out = []text{{{param: i + 1}}}
	}
	if s.fn == nil || s.fn.Body == nil {
		return s.constant(name)
	}
	local := i >= 0
	ast.Inspect(s.fn.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, l := range n.Lhs {
				if id, ok := l.(*ast.Ident); !ok || id.Name != name {
					continue
				}
				local = true
				if len(n.Lhs) == len(n.Rhs) {
					if n.Tok == token.DEFINE || !mentions(n.Rhs[i], name) {
						out = append(out, s.orName(n.Rhs[i], name)...)
					}
				} else if call, ok := n.Rhs[0].(*ast.CallExpr); ok {
					out = append(out, s.results(call, i)...)
				} else {
					out = append(out, text{{name: placeholder(name)}})
				}
			}
		case *ast.ValueSpec:
			for i, id := range n.Names {
				if id.Name == name {
					local = true
					if i < len(n.Values) {
						out = append(out, s.orName(n.Values[i], name)...)
					}
				}
			}
		}
		return true
	})
	switch {
	case local:
		return out
	case s.outer != nil && s.depth <= deep:
		outer := *s.outer
		outer.depth = s.depth + 1
		for _, t := range outer.identifier(name) {
			out = append(out, t.closed(outer.params))
		}
		return out
	}
	return s.constant(name)
}

func mentions(e ast.Expr, name string) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		found = found || ok && id.Name == name
		return true
	})
	return found
}

func (s *scope) constant(name string) []text {
	if s.depth > deep {
		return nil
	}
	top := &scope{c: s.c, d: s.d, depth: s.depth + 1}
	return top.known(s.d.values[name])
}

// orName are the texts of e, or its name where nothing else is known of it. An empty string
// is known, and says nothing.
func (s *scope) orName(e ast.Expr, name string) []text {
	if ts := s.texts(e); len(ts) > 0 {
		return ts
	}
	if t, ok := literal(e); ok && t == "" {
		return nil
	}
	if id, ok := e.(*ast.Ident); ok && id.Name == "nil" {
		return nil
	}
	return []text{{{name: placeholder(name)}}}
}

// results are what a function of the module gives as its result i; none where no words
// of the source are in them.
func (s *scope) results(call *ast.CallExpr, i int) (out []text) {
	pkg, name := callee(call)
	d := s.d
	if p := s.c.packagePath(pkg); p != "" {
		d = s.c.folders[p]
	}
	for _, fn := range d.funcs[name] {
		if fn.Body == nil || s.depth >= deep || s.fn == fn {
			continue
		}
		in := &scope{c: s.c, d: d, fn: fn, params: parameters(fn), depth: s.depth + 1}
		for _, e := range returned(fn.Body, i) {
			for _, t := range in.orName(e, named(e)) {
				m := maker{text: t, params: in.params, rest: in.kindOf(len(in.params)-1) == "...string"}
				out = append(out, s.filled(m, call)...)
			}
		}
	}
	out = distinct(out)
	if len(out) > many || !slices.ContainsFunc(out, func(t text) bool { return !t.empty() || t.open() }) {
		return nil
	}
	return out
}

func distinct(ts []text) (out []text) {
	for _, t := range ts {
		if !slices.ContainsFunc(out, t.equal) {
			out = append(out, t)
		}
	}
	return out
}

// returned are the results i of a function, without those of functions within.
func returned(body *ast.BlockStmt, i int) (out []ast.Expr) {
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ReturnStmt:
			if i < len(n.Results) {
				out = append(out, n.Results[i])
			}
		}
		return true
	})
	return out
}

// closed names the parameters that a text has in it.
func (t text) closed(params []string) text {
	out := slices.Clone(t)
	for i, p := range out {
		if p.param > 0 {
			out[i] = piece{name: placeholder(params[p.param-1])}
		}
	}
	return out
}
