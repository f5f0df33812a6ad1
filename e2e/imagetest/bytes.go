package imagetest

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// rawMutations are those of a file that is not made of entries: some of its bytes
// changed, its length, and the numbers in the table at the end of a compressed one.
func (f *File) rawMutations(name string) []Mutation {
	var out []Mutation
	add := func(what string, change func(b []byte) []byte) {
		out = append(out, Mutation{name + what, func(i *Image) {
			b, err := i.contents(f.From)
			if err != nil {
				panic(err) // it was there when the image was read
			}
			i.Files[name].Contents = append([]byte{}, change(b)...)
		}})
	}
	flip := func(at func(n int) int) func(b []byte) []byte {
		return func(b []byte) []byte {
			if len(b) > 0 {
				b[at(len(b))] ^= 0x41
			}
			return b
		}
	}
	add(" changed in front", flip(func(int) int { return 0 }))
	add(" changed in the middle", flip(func(n int) int { return n / 2 }))
	add(" changed at the end", flip(func(n int) int { return n - 1 }))
	add(" cut", func(b []byte) []byte { return b[:len(b)/2] })
	add(" empty", func([]byte) []byte { return nil })
	add(" longer", func(b []byte) []byte { return append(b, 0) })
	add(" a page longer", func(b []byte) []byte { return append(b, make([]byte, 4096)...) })
	if !strings.HasSuffix(name, ".zst") {
		return out
	}
	// The end of the seekable format of zstd: entries of two numbers, of four bytes
	// each; how many there are; one byte of flags; the magic.
	for _, field := range []struct {
		name string
		back int // from the end, in bytes
	}{{"number of frames", 9}, {"size of the last frame", 17}, {"contents of the last frame", 13}, {"flags", 5}} {
		for _, n := range []uint32{0, 1, math.MaxInt32, math.MaxUint32} {
			add(fmt.Sprintf(": %s = %d", field.name, n), func(b []byte) []byte {
				if len(b) >= field.back {
					binary.LittleEndian.PutUint32(b[len(b)-field.back:], n)
				}
				return b
			})
		}
	}
	return out
}
