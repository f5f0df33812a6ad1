package image

import "google.golang.org/protobuf/reflect/protoreflect"

// fillRequired gives every required field of m, and of the messages in it, a
// value where it has none.
func fillRequired(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Kind() == protoreflect.MessageKind && !f.IsList() && m.Has(f) {
			fillRequired(m.Mutable(f).Message())
		}
		if f.Cardinality() != protoreflect.Required || m.Has(f) {
			continue
		}
		switch f.Kind() {
		case protoreflect.MessageKind:
			fillRequired(m.Mutable(f).Message())
		case protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString("x"))
		case protoreflect.BytesKind:
			m.Set(f, protoreflect.ValueOfBytes([]byte("x")))
		case protoreflect.BoolKind:
			m.Set(f, protoreflect.ValueOfBool(true))
		case protoreflect.EnumKind:
			m.Set(f, protoreflect.ValueOfEnum(f.Enum().Values().Get(0).Number()))
		case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
			m.Set(f, protoreflect.ValueOfUint32(1))
		case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
			m.Set(f, protoreflect.ValueOfUint64(1))
		case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
			m.Set(f, protoreflect.ValueOfInt32(1))
		default:
			m.Set(f, protoreflect.ValueOfInt64(1))
		}
	}
}
