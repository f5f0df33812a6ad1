package unixsock

import (
	"encoding/base64"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// An answer of Linux 6.18: a listener with one waiting, who waits, a pair of
// which one has shut down writing, and a datagram socket.
const captured = "WAAAABQAAgABAAAA7g0AAAEBCgBu4gEAzAMAAAAAAAANAAAAY2FwLnNvY2sAAAAADAABALFAmAAAAOAPCAADAG/iAQAMAAQAAQAAAAUAAAAFAAYAAAAAADwA" +
	"AAAUAAIAAQAAAO4NAAABAQEAceIBAM0DAAAAAAAACAACAHDiAQAMAAQAAwAAAAAAAAAFAAYAAQAAADwAAAAUAAIAAQAAAO4NAAABAQEAb+IBAM4DAAAAAAAACAACAAAAAAAMAAQAAAAA" +
	"AAAAAAAFAAYAAAAAADwAAAAUAAIAAQAAAO4NAAABAQEAcOIBAM8DAAAAAAAACAACAHHiAQAMAAQAAAAAAAADAAAFAAYAAgAAAEAAAAAUAAIAAQAAAO4NAAABAgcAcuIBANADAAAAAAAA" +
	"CQAAAABhYgBjAAAADAAEAAAAAAAAAAAABQAGAAAAAAA="

func answer(t testing.TB) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(captured)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParse(t *testing.T) {
	got := table{}
	done, interrupted, err := parse(answer(t), got)
	if done || interrupted || err != nil {
		t.Errorf("done %v, interrupted %v, %v", done, interrupted, err)
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

func TestParseEnd(t *testing.T) {
	end := []byte{20, 0, 0, 0, unix.NLMSG_DONE, 0, unix.NLM_F_DUMP_INTR, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if done, interrupted, err := parse(end, table{}); !done || !interrupted || err != nil {
		t.Errorf("done %v, interrupted %v, %v", done, interrupted, err)
	}
	refused := []byte{20, 0, 0, 0, unix.NLMSG_ERROR, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff}
	_, _, err := parse(refused, table{})
	if !errors.Is(err, unix.ENOENT) || !errors.Is(err, failure.ErrUnsupported) || len(failure.Hints(err)) != 1 {
		t.Errorf("got %v", err)
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
	f.Add(answer(f))
	f.Add([]byte{20, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff})
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _, _ = parse(b, table{})
	})
}
