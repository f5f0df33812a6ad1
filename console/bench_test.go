package console

import (
	"bytes"
	"fmt"
	"testing"
)

// BenchmarkScreen is what a program writes that prints a lot of short lines.
func BenchmarkScreen(b *testing.B) {
	var in bytes.Buffer
	for i := range 20000 {
		fmt.Fprintf(&in, "%d\r\n", i)
	}
	s := NewScreen(Size{Rows: 24, Cols: 80})
	defer s.Close()
	b.SetBytes(int64(in.Len()))
	for b.Loop() {
		s.Write(in.Bytes())
	}
}
