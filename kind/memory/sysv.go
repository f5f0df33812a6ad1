package memory

import (
	"fmt"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-shm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
)

// attach maps a System V segment. shmat(2) maps all of it; what the program
// has unmapped since is unmapped again.
func (b *space) attach(v *vma.VmaEntry) error {
	size, err := b.segmentSize(v.GetShmid())
	if err != nil {
		return err
	}
	base := v.GetStart() - v.GetPgoff()
	if v.GetPgoff()+v.GetEnd()-v.GetStart() > size || v.GetPgoff() > v.GetStart() {
		return failure.Damagedf("mapping %#x-%#x is larger than its System V segment %d", v.GetStart(), v.GetEnd(), v.GetShmid())
	}
	flags := uint64(0)
	if v.GetProt()&unix.PROT_WRITE == 0 {
		flags |= unix.SHM_RDONLY
	}
	if v.GetProt()&unix.PROT_EXEC != 0 {
		flags |= 0o100000 // SHM_EXEC
	}
	b.s.Note(b.s.Must(unix.SYS_SHMAT, v.GetShmid(), base, flags), fmt.Sprintf("attach System V segment %d", v.GetShmid()))
	if v.GetPgoff() > 0 {
		b.s.Must(unix.SYS_MUNMAP, base, v.GetPgoff())
	}
	if rest := base + size - v.GetEnd(); rest > 0 {
		b.s.Must(unix.SYS_MUNMAP, v.GetEnd(), rest)
	}
	if v.GetProt()&unix.PROT_READ == 0 {
		b.s.Must(unix.SYS_MPROTECT, v.GetStart(), v.GetEnd()-v.GetStart(), uint64(v.GetProt()))
	}
	return nil
}

// segmentSize is the size of a System V segment in whole pages, from the
// image's list of them.
func (b *space) segmentSize(id uint64) (size uint64, err error) {
	ns := strconv.Itoa(int(b.t.IDs.GetIpcNsId()))
	err = image.Each(b.r.In, image.IPCShm, ns, func(e *ipc_shm.IpcShmEntry, data func(int) ([]byte, error)) error {
		if uint64(e.GetDesc().GetId()) == id {
			size = (e.GetSize() + page - 1) &^ (page - 1)
		}
		if e.GetInPagemaps() {
			return nil
		}
		_, err := data(int(e.GetSize()+3) &^ 3)
		return err
	})
	if err == nil && size == 0 {
		err = failure.Damagedf("System V segment %d is mapped and not in the image", id)
	}
	return size, err
}
