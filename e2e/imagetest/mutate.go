package imagetest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Mutation is one change of an image.
type Mutation struct {
	Name  string // "pstree.img[1].ppid = 0"
	Apply func(*Image)
}

// Mutations are all changes of i that this package knows: each file removed;
// each entry removed, doubled and swapped with the next; files that have no entries
// changed in their bytes; each byte string behind an entry cut; each field of each entry, at any depth, taken out and set to
// values that are as hostile as its type allows, and to those that the same field
// has elsewhere.
func (i *Image) Mutations() []Mutation {
	var out []Mutation
	seen := i.values()
	for _, name := range slices.Sorted(maps.Keys(i.Files)) {
		f := i.Files[name]
		if name != Manifest {
			out = append(out, Mutation{name + " removed", func(i *Image) { delete(i.Files, name) }})
			out = append(out, f.mutations(name)...)
		}
		for n, e := range f.Entries {
			if _, seal := e.Message.ProtoReflect().Interface().(interface{ GetCrc32C() uint32 }); seal {
				continue
			}
			w := walk{fmt.Sprintf("%s[%d]", name, n), func(i *Image) protoreflect.Message { return i.Files[name].Entries[n].Message.ProtoReflect() }, seen, &out}
			w.message(e.Message.ProtoReflect())
		}
	}
	return out
}

func (f *File) mutations(name string) []Mutation {
	if f.From != "" {
		return f.rawMutations(name)
	}
	var out []Mutation
	for n, e := range f.Entries {
		at := fmt.Sprintf("%s[%d]", name, n)
		entries := func(what string, change func([]Entry) []Entry) {
			out = append(out, Mutation{at + what, func(i *Image) { i.Files[name].Entries = change(i.Files[name].Entries) }})
		}
		entries(" removed", func(es []Entry) []Entry { return slices.Delete(es, n, n+1) })
		entries(" doubled", func(es []Entry) []Entry {
			return slices.Insert(es, n, Entry{proto.Clone(e.Message), e.Data})
		})
		if n > 0 {
			entries(" swapped", func(es []Entry) []Entry {
				es[n], es[n-1] = es[n-1], es[n]
				return es
			})
		}
		if len(e.Data) > 0 {
			entries(" without data", func(es []Entry) []Entry {
				es[n].Data = nil
				return es
			})
			entries(" with less data", func(es []Entry) []Entry {
				es[n].Data = e.Data[:len(e.Data)/2]
				return es
			})
		}
	}
	return out
}

// values are those that each field has, by its full name.
func (i *Image) values() map[protoreflect.FullName][]protoreflect.Value {
	out := map[protoreflect.FullName][]protoreflect.Value{}
	var collect func(m protoreflect.Message)
	collect = func(m protoreflect.Message) {
		m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			switch {
			case fd.IsMap():
			case fd.IsList():
				for k := range v.List().Len() {
					if fd.Message() != nil {
						collect(v.List().Get(k).Message())
					} else {
						out[fd.FullName()] = append(out[fd.FullName()], v.List().Get(k))
					}
				}
			case fd.Message() != nil:
				collect(v.Message())
			default:
				out[fd.FullName()] = append(out[fd.FullName()], v)
			}
			return true
		})
	}
	for _, name := range slices.Sorted(maps.Keys(i.Files)) {
		for _, e := range i.Files[name].Entries {
			collect(e.Message.ProtoReflect())
		}
	}
	return out
}

// walk goes through a message and adds its mutations. at finds the message in a
// clone of the image.
type walk struct {
	path string
	at   func(*Image) protoreflect.Message
	seen map[protoreflect.FullName][]protoreflect.Value
	out  *[]Mutation
}

func (w walk) add(what string, change func(m protoreflect.Message)) {
	*w.out = append(*w.out, Mutation{w.path + what, func(i *Image) { change(w.at(i)) }})
}

func (w walk) message(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for k := range fields.Len() {
		fd := fields.Get(k)
		name := "." + string(fd.Name())
		if m.Has(fd) {
			w.add(name+" taken out", func(m protoreflect.Message) { m.Clear(fd) })
		}
		switch {
		case fd.IsMap():
		case fd.IsList():
			w.list(m.Get(fd).List(), fd, name)
		case fd.Message() != nil:
			if !m.Has(fd) {
				w.add(name+" made", func(m protoreflect.Message) { m.Mutable(fd) })
				continue
			}
			deeper := walk{w.path + name, func(i *Image) protoreflect.Message { return w.at(i).Mutable(fd).Message() }, w.seen, w.out}
			deeper.message(m.Get(fd).Message())
		default:
			for _, v := range w.hostile(fd, m.Get(fd)) {
				w.add(fmt.Sprintf("%s = %s", name, text(v)), func(m protoreflect.Message) { m.Set(fd, v) })
			}
		}
	}
}

// list changes the length of a list, and its first, second and last element.
func (w walk) list(l protoreflect.List, fd protoreflect.FieldDescriptor, name string) {
	n := l.Len()
	if n == 0 {
		return
	}
	w.add(name+" cut", func(m protoreflect.Message) { m.Mutable(fd).List().Truncate(n - 1) })
	w.add(name+" doubled", func(m protoreflect.Message) {
		l := m.Mutable(fd).List()
		for k := range n {
			l.Append(l.Get(k))
		}
	})
	if n > 1 {
		w.add(name+" swapped", func(m protoreflect.Message) {
			l := m.Mutable(fd).List()
			a, b := l.Get(0), l.Get(1)
			l.Set(0, b)
			l.Set(1, a)
		})
	}
	for _, k := range slices.Compact([]int{0, min(1, n-1), n - 1}) {
		at := fmt.Sprintf("%s[%d]", name, k)
		if fd.Message() != nil {
			deeper := walk{w.path + at, func(i *Image) protoreflect.Message { return w.at(i).Mutable(fd).List().Get(k).Message() }, w.seen, w.out}
			deeper.message(l.Get(k).Message())
			continue
		}
		for _, v := range w.hostile(fd, l.Get(k)) {
			w.add(fmt.Sprintf("%s = %s", at, text(v)), func(m protoreflect.Message) { m.Mutable(fd).List().Set(k, v) })
		}
	}
}

// hostile are values for a field that is now.
func (w walk) hostile(fd protoreflect.FieldDescriptor, now protoreflect.Value) []protoreflect.Value {
	var out []protoreflect.Value
	add := func(v any) { out = append(out, protoreflect.ValueOf(v)) }
	switch fd.Kind() {
	case protoreflect.BoolKind:
		add(!now.Bool())
	case protoreflect.EnumKind:
		for _, n := range []protoreflect.EnumNumber{-1, 0, 1, 1 << 20} {
			add(n)
		}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		for _, n := range []uint32{0, 1, 1 << 31, math.MaxUint32, uint32(now.Uint()) + 1, uint32(now.Uint()) - 1} {
			add(n)
		}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		for _, n := range []uint64{0, 1, 1 << 40, 1 << 63, math.MaxUint64, now.Uint() + 1, now.Uint() - 1, now.Uint() + 4096, now.Uint() ^ 1<<46} {
			add(n)
		}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		for _, n := range []int32{0, 1, -1, math.MinInt32, math.MaxInt32, int32(now.Int()) + 1} {
			add(n)
		}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		for _, n := range []int64{0, 1, -1, math.MinInt64, math.MaxInt64, now.Int() + 1} {
			add(n)
		}
	case protoreflect.StringKind:
		for _, s := range []string{"", "/", "..", "/../../etc/passwd", now.String() + "/..", now.String() + "\x00x", "\xff", strings.Repeat("/a", 40000)} {
			add(s)
		}
	case protoreflect.BytesKind:
		for _, b := range [][]byte{{}, {0}, []byte("/"), []byte("/../x"), append(slices.Clone(now.Bytes()), 0), now.Bytes()[:len(now.Bytes())/2], []byte(strings.Repeat("a", 80000))} {
			add(b)
		}
	}
	for n, v := range w.seen[fd.FullName()] {
		if n%(1+len(w.seen[fd.FullName()])/4) == 0 { // up to five of them
			out = append(out, v)
		}
	}
	return slices.DeleteFunc(out, now.Equal)
}

// text is a value in a name.
func text(v protoreflect.Value) string {
	s := fmt.Sprintf("%v", v.Interface())
	if _, ok := v.Interface().(string); ok {
		s = fmt.Sprintf("%q", s)
	}
	if len(s) > 40 {
		s = fmt.Sprintf("%s... (%d)", s[:40], len(s))
	}
	return s
}

// Redirected are the changes that let each path in i lead to another file.
func (i *Image) Redirected(path string) []Mutation {
	var out []Mutation
	for _, name := range slices.Sorted(maps.Keys(i.Files)) {
		for n, e := range i.Files[name].Entries {
			w := walk{path: fmt.Sprintf("%s[%d]", name, n), out: &out,
				at: func(i *Image) protoreflect.Message { return i.Files[name].Entries[n].Message.ProtoReflect() }}
			w.redirect(e.Message.ProtoReflect(), path)
		}
	}
	return out
}

func (w walk) redirect(m protoreflect.Message, path string) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := "." + string(fd.Name())
		switch {
		case fd.IsMap():
		case fd.IsList() && fd.Message() != nil:
			for k := range v.List().Len() {
				deeper := walk{fmt.Sprintf("%s%s[%d]", w.path, name, k), func(i *Image) protoreflect.Message { return w.at(i).Mutable(fd).List().Get(k).Message() }, nil, w.out}
				deeper.redirect(v.List().Get(k).Message(), path)
			}
		case fd.IsList():
		case fd.Message() != nil:
			deeper := walk{w.path + name, func(i *Image) protoreflect.Message { return w.at(i).Mutable(fd).Message() }, nil, w.out}
			deeper.redirect(v.Message(), path)
		case fd.Kind() == protoreflect.StringKind && strings.HasPrefix(v.String(), "/"):
			w.add(name+" = "+path, func(m protoreflect.Message) { m.Set(fd, protoreflect.ValueOfString(path)) })
		case fd.Kind() == protoreflect.BytesKind && strings.HasPrefix(string(v.Bytes()), "/"):
			w.add(name+" = "+path, func(m protoreflect.Message) { m.Set(fd, protoreflect.ValueOfBytes([]byte(path))) })
		}
		return true
	})
}
