package memory

import (
	"fmt"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

// A process has protection keys 0 to 15 (pkeys(7)), on processors with them. Key 0
// is everybody's. Memory of PROT_EXEC alone gets one by the kernel.
const (
	keys             = 16
	keyDisableAccess = 1 // PKEY_DISABLE_ACCESS
)

// keyQuestion asks which keys the program has allocated, which nothing shows: those
// that it does not get any more. They are given back in the same script. Without
// such a processor there is none to get. The rights of the thread to keys that are
// free become none, as they are by default: that counts where memory is under one
// that was freed (pkey_free(2) lets it be), so there they are put back.
type keyQuestion struct {
	s      *tracee.Script
	got    [keys]tracee.Step
	rights []byte // extended registers before; nil: nothing is under a key
}

func askKeys(s *tracee.Script, p *kind.Proc) (q *keyQuestion, err error) {
	q = &keyQuestion{s: s}
	if slices.ContainsFunc(p.Maps, func(m procfs.Map) bool { return m.ProtectionKey != 0 }) {
		if q.rights, err = p.Lead().Traced.XState(); err != nil {
			return nil, err
		}
	}
	for i := range q.got {
		q.got[i] = s.Try(unix.SYS_PKEY_ALLOC, 0, keyDisableAccess)
	}
	for _, step := range q.got {
		s.Feed(step, s.Try(unix.SYS_PKEY_FREE, 0), 0)
	}
	return q, nil
}

// read notes the keys that the program has allocated, a bit each.
func (q *keyQuestion) read(p *kind.Proc) error {
	var free []uint64
	for _, step := range q.got {
		if key, err := q.s.Result(step); err == nil {
			free = append(free, key)
		}
	}
	p.Extra.ProtectionKeys = keysTaken(free, p.Maps)
	if q.rights == nil {
		return nil
	}
	return p.Lead().Traced.SetXState(q.rights)
}

// keysTaken are the keys that are not free, without the kernel's own.
func keysTaken(free []uint64, maps []procfs.Map) uint32 {
	if len(free) == 0 {
		return 0
	}
	taken := uint32(1<<keys - 1)
	for _, key := range free {
		taken &^= 1 << key
	}
	for i := range maps {
		if m := &maps[i]; executeOnly(m) && m.ProtectionKey != 0 {
			return taken &^ (1 | 1<<m.ProtectionKey)
		}
	}
	return taken &^ 1
}

func executeOnly(m *procfs.Map) bool { return m.Prot() == unix.PROT_EXEC }

// keyOfExecution is the kernel's own key; 0: there is none.
func (b *space) keyOfExecution() uint32 {
	for _, v := range b.own() {
		if key := b.extra[v.GetStart()].GetProtectionKey(); key != 0 && v.GetProt() == unix.PROT_EXEC {
			return key
		}
	}
	return 0
}

// underKeys tells whether the program has, or had, keys of its own: else the
// kernel's, if there is one, comes by itself.
func (b *space) underKeys() bool {
	return b.t.Extra.GetProtectionKeys() != 0 || slices.ContainsFunc(b.own(), func(v *vma.VmaEntry) bool { return b.programKey(v) != 0 })
}

// programKey is the key of a mapping that the program has put there; 0: none.
func (b *space) programKey(v *vma.VmaEntry) uint32 {
	key := b.extra[v.GetStart()].GetProtectionKey()
	if key != 0 && v.GetProt() == unix.PROT_EXEC && key == b.keyOfExecution() {
		return 0
	}
	return key
}

// takeKeys allocates all keys but the kernel's own, which it then takes.
func (b *space) takeKeys() error {
	for _, v := range b.own() {
		if key := b.extra[v.GetStart()].GetProtectionKey(); key >= keys {
			return failure.Damagedf("mapping %#x-%#x with protection key %d", v.GetStart(), v.GetEnd(), key)
		}
	}
	if !b.underKeys() {
		return nil
	}
	for range keys - 1 {
		step := b.s.Must(unix.SYS_PKEY_ALLOC, 0, keyDisableAccess)
		b.s.Note(step, "allocate a protection key")
		b.s.Explain(step, func(errno unix.Errno) error {
			return failure.WithHint(failure.Unsupportedf("it uses memory protection keys (pkeys(7)), which are not to be had here: %w", errno),
				"restore it on a processor with them (pku and ospke in /proc/cpuinfo)")
		})
	}
	if own := b.keyOfExecution(); own != 0 {
		b.s.Must(unix.SYS_PKEY_FREE, uint64(own))
	}
	return nil
}

// giveKey puts a mapping under its protection key.
func (b *space) giveKey(v *vma.VmaEntry) {
	key := b.programKey(v)
	if key == 0 {
		return
	}
	b.s.Note(b.s.Must(unix.SYS_PKEY_MPROTECT, v.GetStart(), v.GetEnd()-v.GetStart(), uint64(v.GetProt()), uint64(key)),
		fmt.Sprintf("put %#x under protection key %d", v.GetStart(), key))
}

// freeKeys frees those that the program has not allocated, or not any more.
func (b *space) freeKeys() {
	if !b.underKeys() {
		return
	}
	taken := b.t.Extra.GetProtectionKeys()
	own := b.keyOfExecution()
	for key := uint32(1); key < keys; key++ {
		if key != own && taken>>key&1 == 0 {
			b.s.Note(b.s.Must(unix.SYS_PKEY_FREE, uint64(key)), "free a protection key")
		}
	}
}
