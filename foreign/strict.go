package foreign

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Fields that CRIU 4.1.1 writes and the messages of go-criu have not.
const (
	fieldPagemapPages     = 5  // pagemap_entry: image.PageRuns reads it
	fieldInventoryPlugins = 12 // inventory_entry
	fieldInventoryRun     = 13 // inventory_entry: names one run of criu
	fieldXsaveCET         = 9  // user_x86_xsave_entry: shadow stack
	fieldCredsNoNewPrivs  = 18 // creds_entry
	fieldCredsAmbient     = 19 // creds_entry: capabilities, two words
	fieldCoreMembarrier   = 22 // task_core_entry: registrations with membarrier(2)
	fieldFilePidfd        = 22 // file_entry
	fieldMemfdMode        = 9  // memfd_inode_entry: permissions
	typePidfd             = 20 // of file_entry
	fieldCETControl       = 1  // user_x86_cet_entry
	fieldCETStack         = 2  // user_x86_cet_entry
)

// extraFields are those of them that are looked at, by message.
var extraFields = map[protoreflect.FullName][]protowire.Number{
	"pagemap_entry":        {fieldPagemapPages},
	"inventory_entry":      {fieldInventoryPlugins, fieldInventoryRun},
	"user_x86_xsave_entry": {fieldXsaveCET},
	"creds_entry":          {fieldCredsNoNewPrivs, fieldCredsAmbient},
	"task_core_entry":      {fieldCoreMembarrier},
	"file_entry":           {fieldFilePidfd},
	"memfd_inode_entry":    {fieldMemfdMode},
}

// unknownIn names the first field of a message, or of one in it, that nobody
// would look at; "": there is none.
func unknownIn(m proto.Message) (what string) {
	r := m.ProtoReflect()
	name := r.Descriptor().FullName()
	for b := []byte(r.GetUnknown()); len(b) > 0; {
		num, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return fmt.Sprintf("%s, which does not decode", name)
		}
		if !slices.Contains(extraFields[name], num) {
			return fmt.Sprintf("%s, number %d", name, num)
		}
		b = b[n:]
	}
	r.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Kind() != protoreflect.MessageKind:
		case fd.IsList():
			for i := range v.List().Len() {
				if what = unknownIn(v.List().Get(i).Message().Interface()); what != "" {
					break
				}
			}
		default:
			what = unknownIn(v.Message().Interface())
		}
		return what == ""
	})
	return what
}

// numbers are the values of a field that the message's type has not: integers,
// packed or not.
func numbers(m proto.Message, field protowire.Number) (out []uint64) {
	visit(m.ProtoReflect().GetUnknown(), field, func(typ protowire.Type, b []byte) {
		switch typ {
		case protowire.VarintType:
			v, _ := protowire.ConsumeVarint(b)
			out = append(out, v)
		case protowire.Fixed32Type:
			v, _ := protowire.ConsumeFixed32(b)
			out = append(out, uint64(v))
		case protowire.BytesType:
			packed, _ := protowire.ConsumeBytes(b)
			for len(packed) > 0 {
				v, n := protowire.ConsumeVarint(packed)
				if n < 0 {
					return
				}
				out, packed = append(out, v), packed[n:]
			}
		}
	})
	return out
}

// part is a message, or a string, in a field that the message's type has not;
// nil: it is not there, or empty.
func part(m proto.Message, field protowire.Number) (out []byte) {
	visit(m.ProtoReflect().GetUnknown(), field, func(typ protowire.Type, b []byte) {
		if typ == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b)
			out = append(out, v...)
		}
	})
	return out
}

func visit(b []byte, field protowire.Number, fn func(protowire.Type, []byte)) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeField(b)
		if n < 0 {
			return // unknownIn has told of it
		}
		if num == field {
			_, _, tag := protowire.ConsumeTag(b)
			fn(typ, b[tag:n])
		}
		b = b[n:]
	}
}
