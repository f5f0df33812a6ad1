package messages

import (
	"go/ast"
	"go/token"
	"slices"
)

// deep is how far the search for the words of an expression goes.
const deep = 6

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
		return inner.texts(e.X)
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return inner.sums(e)
		}
	case *ast.Ident:
		return inner.identifier(e.Name)
	case *ast.SelectorExpr:
		return inner.known(s.d.values["."+e.Sel.Name])
	case *ast.CompositeLit:
		return inner.known(e.Elts)
	case *ast.CallExpr:
		pkg, name := callee(e)
		switch {
		case name == "Sprintf":
			return inner.formatted(e)
		case name == "append" && pkg == "":
			return inner.known(e.Args)
		}
		return slices.DeleteFunc(inner.results(pkg, name, 0), text.empty)
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
		left = []text{s.argument(e.X)}
	}
	if len(right) == 0 {
		right = []text{s.argument(e.Y)}
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
	if i := slices.Index(s.params, name); i >= 0 && s.fn != nil {
		if s.isString(i) {
			return []text{{{param: i + 1}}}
		}
		return nil
	}
	if s.fn == nil || s.fn.Body == nil {
		return s.constant(name)
	}
	local := false
	ast.Inspect(s.fn.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, l := range n.Lhs {
				if id, ok := l.(*ast.Ident); !ok || id.Name != name {
					continue
				}
				local = true
				if len(n.Lhs) == len(n.Rhs) {
					if sum, ok := n.Rhs[i].(*ast.BinaryExpr); !ok || n.Tok == token.DEFINE || !mentions(sum, name) {
						out = append(out, s.texts(n.Rhs[i])...)
					}
				} else if call, ok := n.Rhs[0].(*ast.CallExpr); ok {
					pkg, f := callee(call)
					out = append(out, s.results(pkg, f, i)...)
				}
			}
		case *ast.ValueSpec:
			for i, id := range n.Names {
				if id.Name == name {
					local = true
					if i < len(n.Values) {
						out = append(out, s.texts(n.Values[i])...)
					}
				}
			}
		}
		return true
	})
	if !local {
		return s.constant(name)
	}
	return out
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

// results are what a function of the module gives as its result i.
func (s *scope) results(pkg, name string, i int) (out []text) {
	d := s.d
	if p := s.c.packagePath(pkg); p != "" {
		d = s.c.folders[p]
	}
	for _, fn := range d.funcs[name] {
		if fn.Body == nil {
			continue
		}
		in := &scope{c: s.c, d: d, fn: fn, params: parameters(fn), depth: s.depth + 1}
		for _, e := range returned(fn.Body, i) {
			for _, t := range in.texts(e) {
				out = append(out, t.closed(in.params))
			}
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
