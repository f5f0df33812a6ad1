package diff

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// facts are what an image says of something, by name.
type facts map[string]string

func (f facts) text(what, is string) {
	if is != "" {
		f[what] = is
	}
}

// only leaves out the fields of these paths.
func only(paths ...string) func(string) bool {
	return func(path string) bool { return slices.Contains(paths, path) }
}

// changes are the facts that differ, by name. Of a thing that one side alone has
// ("fd 3"), the details ("fd 3: pos") are not told.
func changes(a, b facts) []Change {
	out := []Change{}
	all := maps.Clone(a)
	maps.Copy(all, b)
	for _, what := range slices.SortedFunc(maps.Keys(all), byName) {
		of, _, detail := strings.Cut(what, ": ")
		if a[what] == b[what] || detail && (a[of] == "") != (b[of] == "") {
			continue
		}
		out = append(out, Change{what, a[what], b[what]})
	}
	return out
}

// byName sorts numbers within names by their values: "fd 2" before "fd 10".
func byName(a, b string) int {
	as, bs := strings.Fields(a), strings.Fields(b)
	for i := range min(len(as), len(bs)) {
		x, errA := strconv.ParseUint(strings.Trim(as[i], ":"), 10, 64)
		y, errB := strconv.ParseUint(strings.Trim(bs[i], ":"), 10, 64)
		order := cmp.Compare(as[i], bs[i])
		if errA == nil && errB == nil {
			order = cmp.Compare(x, y)
		}
		if order != 0 {
			return order
		}
	}
	return cmp.Compare(len(as), len(bs))
}

// message adds every field of m that is set, by its name in the image's format,
// but those of which skip is true. skip gets a field's name with the messages
// around it ("timers.real"). Elements of a list are numbered.
func (f facts) message(prefix string, m proto.Message, skip func(path string) bool) {
	f.fields(prefix, "", m.ProtoReflect(), skip)
}

func (f facts) fields(prefix, within string, m protoreflect.Message, skip func(string) bool) {
	if !m.IsValid() {
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		path := strings.TrimPrefix(within+"."+string(fd.Name()), ".")
		if skip(path) {
			return true
		}
		name := prefix + strings.ReplaceAll(string(fd.Name()), "_", " ")
		switch {
		case fd.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				f[name+" "+k.String()] = scalar(fd.MapValue(), v)
				return true
			})
		case fd.IsList() && fd.Kind() == protoreflect.MessageKind:
			for i := range v.List().Len() {
				f.fields(fmt.Sprintf("%s %d: ", name, i), path, v.List().Get(i).Message(), skip)
			}
		case fd.IsList():
			var all []string
			for i := range v.List().Len() {
				all = append(all, scalar(fd, v.List().Get(i)))
			}
			f[name] = strings.Join(all, " ")
		case fd.Kind() == protoreflect.MessageKind:
			f.fields(name+": ", path, v.Message(), skip)
		default:
			f[name] = scalar(fd, v)
		}
		return true
	})
}

// scalar is a value on one line.
func scalar(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch fd.Kind() {
	case protoreflect.BytesKind:
		return bytesText(v.Bytes())
	case protoreflect.EnumKind:
		if e := fd.Enum().Values().ByNumber(v.Enum()); e != nil {
			return strings.ToLower(string(e.Name()))
		}
	}
	return v.String()
}

// bytesText is text, or what tells one value from another.
func bytesText(b []byte) string {
	const most = 32
	text := strings.TrimRight(string(b), "\x00")
	switch {
	case utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return text
	case len(b) <= most:
		return fmt.Sprintf("%x", b)
	}
	return fmt.Sprintf("%d bytes with the sum %08x", len(b), crc32.ChecksumIEEE(b))
}
