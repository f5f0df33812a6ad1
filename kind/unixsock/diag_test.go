package unixsock

import (
	"encoding/base64"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// An answer of Linux 6.18: a listener with one waiting, who waits, a pair of
// which one has shut down writing, and a datagram socket.
const captured = "WAAAABQAAgABAAAA7g0AAAEBCgBu4gEAzAMAAAAAAAANAAAAY2FwLnNvY2sAAAAADAABALFAmAAAAOAPCAADAG/iAQAMAAQAAQAAAAUAAAAFAAYAAAAAADwA" +
	"AAAUAAIAAQAAAO4NAAABAQEAceIBAM0DAAAAAAAACAACAHDiAQAMAAQAAwAAAAAAAAAFAAYAAQAAADwAAAAUAAIAAQAAAO4NAAABAQEAb+IBAM4DAAAAAAAACAACAAAAAAAMAAQAAAAA" +
	"AAAAAAAFAAYAAAAAADwAAAAUAAIAAQAAAO4NAAABAQEAcOIBAM8DAAAAAAAACAACAHHiAQAMAAQAAAAAAAADAAAFAAYAAgAAAEAAAAAUAAIAAQAAAO4NAAABAgcAcuIBANADAAAAAAAA" +
	"CQAAAABhYgBjAAAADAAEAAAAAAAAAAAABQAGAAAAAAA="

// messages are those of the answer, without their headers.
func messages(t testing.TB) (out [][]byte) {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(captured)
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		l := binary.LittleEndian.Uint32(b)
		out = append(out, b[unix.SizeofNlMsghdr:l])
		b = b[min(int(l+3)&^3, len(b)):]
	}
	return out
}

func TestParse(t *testing.T) {
	got := table{}
	for _, m := range messages(t) {
		i, err := parse(m)
		if err != nil {
			t.Fatal(err)
		}
		got[i.ino] = i
	}
	want := table{
		123502: {typ: 1, state: stateListen, ino: 123502, name: []byte("cap.sock\x00"), vfsIno: 0x9840b1, pending: []uint32{123503}, inq: 1, outq: 5},
		123503: {typ: 1, state: stateConnected, ino: 123503, hasPeer: true},
		123504: {typ: 1, state: stateConnected, ino: 123504, hasPeer: true, peer: 123505, outq: 768, shutdown: 2},
		123505: {typ: 1, state: stateConnected, ino: 123505, hasPeer: true, peer: 123504, inq: 3, shutdown: 1},
		123506: {typ: 2, state: stateClosed, ino: 123506, name: []byte("\x00ab\x00c")},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(info{})); d != "" {
		t.Errorf("sockets (-want +got):\n%s", d)
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct{ name, path, shown string }{
		{"", "", "(unnamed)"}, {"/run/x\x00", "/run/x", "/run/x"}, {"@x\x00", "@x", "@x"}, {"\x00x\x00y", "", "@x\x00y"}, {"full", "full", "full"},
	} {
		if p := pathOf([]byte(tt.name)); p != tt.path {
			t.Errorf("%q: path %q, want %q", tt.name, p, tt.path)
		}
		if s := shown([]byte(tt.name)); s != tt.shown {
			t.Errorf("%q: shown as %q, want %q", tt.name, s, tt.shown)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range messages(f) {
		f.Add(m)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = parse(b)
	})
}
