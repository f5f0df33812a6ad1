package console

import "bytes"

// The keys that detach, one after the other, as terminals send them: by themselves,
// by kitty's keyboard protocol, and by xterm's modifyOtherKeys.
var (
	ctrlP = [][]byte{{0x10}, []byte("\x1b[112;5u"), []byte("\x1b[27;5;112~")}
	ctrlQ = [][]byte{{0x11}, []byte("\x1b[113;5u"), []byte("\x1b[27;5;113~")}
)

// keys looks for the keys that detach in what is typed. A ctrl-p is kept back until the
// next key tells.
type keys struct{ kept []byte }

// typed gives what is to be passed on of b. What is typed behind the keys is lost.
func (k *keys) typed(b []byte) (pass []byte, detach bool) {
	for len(b) > 0 {
		if k.kept != nil {
			if starts(b, ctrlQ) > 0 {
				k.kept = nil
				return pass, true
			}
			pass = append(pass, k.kept...)
			k.kept = nil
		}
		n := starts(b, ctrlP)
		if n > 0 {
			k.kept = bytes.Clone(b[:n])
		} else {
			n = 1
			pass = append(pass, b[0])
		}
		b = b[n:]
	}
	return pass, false
}

// starts is the length of what of any b begins with; 0: with none.
func starts(b []byte, any [][]byte) int {
	for _, s := range any {
		if bytes.HasPrefix(b, s) {
			return len(s)
		}
	}
	return 0
}
