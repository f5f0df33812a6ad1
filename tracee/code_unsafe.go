//go:build amd64

package tracee

import (
	"bytes"
	"unsafe"
)

// In code_amd64.s. The first four are copied, never called.

//lint:ignore U1000 its code is found by codeAddr
func code()

//lint:ignore U1000 by parkAddr
func park()

//lint:ignore U1000 by reaperAddr
func reaper()

//lint:ignore U1000 by orphanAddr
func orphan()

func codeAddr() unsafe.Pointer
func parkAddr() unsafe.Pointer
func reaperAddr() unsafe.Pointer
func orphanAddr() unsafe.Pointer

// text copies the machine code at addr up to its end mark.
func text(addr func() unsafe.Pointer) []byte {
	const most = 1024
	b := unsafe.Slice((*byte)(addr()), most)
	return append([]byte(nil), b[:bytes.Index(b, []byte{0xde, 0xad, 0xbe, 0xef})]...)
}
