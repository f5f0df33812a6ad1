package memory

import (
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
)

// sound refuses an address space that no program can have.
func sound(t *kind.Target) error {
	if t.MM == nil || !t.OwnsVM {
		return nil
	}
	if err := soundParts(t.MM); err != nil {
		return err
	}
	end := uint64(0)
	for _, v := range t.MM.GetVmas() {
		if err := soundVMA(v); err != nil {
			return fmt.Errorf("mapping %#x-%#x: %w", v.GetStart(), v.GetEnd(), err)
		}
		if v.GetStatus()&vsyscall != 0 { // above all addresses of a program
			continue
		}
		if v.GetStart() < end || v.GetEnd() <= v.GetStart() || v.GetEnd() > taskSize || (v.GetStart()|v.GetEnd()|v.GetPgoff())%page != 0 {
			return failure.Damagedf("mapping %#x-%#x is out of place", v.GetStart(), v.GetEnd())
		}
		end = v.GetEnd()
	}
	return nil
}

// soundParts asks of the parts of an address space what PR_SET_MM_MAP does
// (validate_prctl_map_addr() in kernel/sys.c): all lie within it, and none ends
// before it begins.
func soundParts(m *mm.MmEntry) error {
	for _, p := range []struct {
		name       string
		start, end uint64
		empty      bool // may be
	}{
		{"code", m.GetMmStartCode(), m.GetMmEndCode(), false},
		{"data", m.GetMmStartData(), m.GetMmEndData(), true},
		{"heap", m.GetMmStartBrk(), m.GetMmBrk(), true},
		{"arguments", m.GetMmArgStart(), m.GetMmArgEnd(), true},
		{"environment", m.GetMmEnvStart(), m.GetMmEnvEnd(), true},
		{"stack", m.GetMmStartStack(), m.GetMmStartStack(), true},
	} {
		if p.start < page || p.end >= taskSize || p.end < p.start || p.end == p.start && !p.empty {
			return failure.Damagedf("its %s is at %#x-%#x", p.name, p.start, p.end)
		}
	}
	return nil
}

// soundVMA refuses a mapping that mmap(2) never makes.
func soundVMA(v *vma.VmaEntry) error {
	status, flags := v.GetStatus(), v.GetFlags()
	if special := status & (vdso | vvar | vsyscall | aioRing); special != 0 { // not made by mmap(2)
		if special&(special-1) != 0 {
			return failure.Damagedf("it is of several sorts (status %#x)", status)
		}
		return nil
	}
	sort := status & (filePrivate | fileShared | anonPrivate | anonShared)
	file, shared := sort&(filePrivate|fileShared) != 0, sort&(fileShared|anonShared) != 0
	known := uint64(0)
	for _, a := range advice {
		known |= 1 << a.advice
	}
	switch {
	case sort == 0 || sort&(sort-1) != 0:
		return failure.Damagedf("it is of no one sort (status %#x)", status)
	case file == (flags&unix.MAP_ANONYMOUS != 0), shared != (flags&unix.MAP_SHARED != 0), shared == (flags&unix.MAP_PRIVATE != 0):
		return failure.Damagedf("its flags %#x do not fit its sort (status %#x)", flags, status)
	case v.GetProt()&^(unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC) != 0:
		return failure.Damagedf("protection %#x", v.GetProt())
	case v.GetPgoff()+(v.GetEnd()-v.GetStart()) > 1<<63 || v.GetPgoff() > 1<<63:
		return failure.Damagedf("it begins at %#x of its file", v.GetPgoff())
	case v.GetMadv()&^known != 0:
		return failure.Damagedf("advice %#x", v.GetMadv())
	}
	return nil
}
