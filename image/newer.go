package image

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// AddNewer adds a number to a message of CRIU's: in a field that CRIU 4.1
// has and go-criu does not know yet. A repeated field gets one more.
func AddNewer(m proto.Message, field protowire.Number, value uint64) {
	r := m.ProtoReflect()
	b := protowire.AppendTag(r.GetUnknown(), field, protowire.VarintType)
	r.SetUnknown(protowire.AppendVarint(b, value))
}
