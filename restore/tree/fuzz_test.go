package tree

import (
	"cmp"
	"errors"
	"regexp"
	"slices"
	"testing"

	diff "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/pidns"
)

// rowBytes make a row of a fuzzed tree.
const rowBytes = 8

// rowsOf reads rows of few numbers, so that they have to do with each other.
func rowsOf(b []byte) (rows []Row) {
	for ; len(b) >= rowBytes && len(rows) < 12; b = b[rowBytes:] {
		id := func(n int) pidns.VPID { return pidns.VPID(b[n] % 16) }
		r := Row{VPID: id(0), PPID: id(1), PGID: id(2), SID: id(3), Zombie: b[4]&1 != 0, Subreaper: b[4]&9 == 8, ExitSignal: unix.SIGCHLD, Threads: []pidns.VPID{id(0)}}
		if b[4]&2 != 0 {
			r.Threads = append(r.Threads, id(5))
		}
		if b[4]&4 != 0 {
			r.ByThread = id(6)
		}
		r.VM, r.Files, r.FS = uint64(b[7]&3), uint64(b[7]>>2&3), uint64(b[7]>>4&3)
		if b[7]&0x40 != 0 {
			r.Sighand = r.VM // handlers are shared by those alone who share memory
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Compare(a.VPID, b.VPID) })
	return rows
}

// named: a refusal says which process it is.
var named = regexp.MustCompile(`\b(pid|id) \d+`)

// FuzzCompile: a tree is refused, in words that say whose fault it is, or its
// steps end, and build just that, with the dead lingering or not.
func FuzzCompile(f *testing.F) {
	f.Add([]byte{2, 1, 2, 2, 0, 0, 0, 0}, false)
	f.Add([]byte{2, 1, 2, 2, 0, 0, 0, 0, 3, 2, 2, 2, 2, 4, 0, 5, 5, 3, 5, 2, 4, 0, 4, 1}, false)
	f.Add([]byte{1, 0, 1, 1, 0, 0, 0, 0, 2, 1, 2, 2, 1, 0, 0, 0, 4, 1, 3, 3, 0, 0, 0, 0}, true)
	f.Add([]byte{1, 1, 1, 1, 0, 0, 0, 0}, true) // its own parent
	f.Add([]byte{2, 1, 2, 2, 2, 1, 0, 0}, true) // pid 1 is a thread
	// Dead session leaders below processes that come to another parent by a helper.
	f.Add([]byte{2, 1, 2, 1, 0, 0, 0, 0x30, 3, 1, 1, 1, 0, 0, 0, 0x37, 8, 2, 8, 9, 0, 0, 0, 0x37}, false)
	f.Add([]byte{2, 1, 2, 2, 8, 0, 0, 0, 4, 2, 9, 7, 1, 0, 0, 0, 5, 1, 9, 7, 0, 0, 0, 0x41}, false)
	f.Fuzz(func(t *testing.T, b []byte, noInit bool) {
		rows := rowsOf(b)
		o := Options{NoInit: noInit}
		if _, err := Compile(rows, o); err != nil {
			if !named.MatchString(err.Error()) || !errors.Is(err, failure.ErrUnsupported) && !errors.Is(err, failure.ErrDamaged) {
				t.Errorf("%s: %v", table(rows), err)
			}
			return
		}
		got, err := rebuild(rows, o)
		if err != nil {
			t.Fatalf("%v\n%s", err, table(rows))
		}
		if d := diff.Diff(normal(rows), got); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
	})
}
