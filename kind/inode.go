package kind

import (
	"fmt"
	"os"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fown"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/image"
	"ckpt/procfs"
)

// overflowID is what an id without a mapping reads as (user_namespaces(7),
// the default of /proc/sys/kernel/overflowuid).
const overflowID = 65534

// idMaps are those of the container's user namespace; nil: ckpt is in it.
type idMaps struct{ uid, gid procfs.IDMaps }

// Inode is owner and permissions of a file as the container sees them.
func (d *Dump) Inode(st *unix.Stat_t) (*image.Inode, error) {
	if d.ids == nil {
		m, err := readIDMaps(int(d.Home))
		if err != nil {
			return nil, fmt.Errorf("read the container's user ids: %w", err)
		}
		d.ids = m
	}
	return &image.Inode{Mode: st.Mode, Uid: inside(d.ids.uid, st.Uid), Gid: inside(d.ids.gid, st.Gid)}, nil
}

func inside(m procfs.IDMaps, id uint32) uint32 {
	if m == nil {
		return id
	}
	if v, ok := m.Inside(id); ok {
		return v
	}
	return overflowID
}

// readIDMaps: for a reader in the same user namespace the maps lead to the
// parent's ids, while stat(2) already gives it the inner ones.
func readIDMaps(pid int) (*idMaps, error) {
	var own, its unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/user", &own); err != nil {
		return nil, err
	}
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/user", pid), &its); err != nil {
		return nil, err
	}
	if own.Ino == its.Ino && own.Dev == its.Dev {
		return &idMaps{}, nil
	}
	p, err := procfs.Open(pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	m := &idMaps{}
	if m.uid, err = p.UIDMap(); err != nil {
		return nil, err
	}
	m.gid, err = p.GIDMap()
	return m, err
}

// SetInode gives a new file the owner and permissions that the image says.
// An image of criu's has none: nil changes nothing.
func SetInode(f *os.File, i *image.Inode) error {
	if i == nil {
		return nil
	}
	fd := int(f.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	if st.Uid != i.GetUid() || st.Gid != i.GetGid() {
		if err := unix.Fchown(fd, int(i.GetUid()), int(i.GetGid())); err != nil {
			return fmt.Errorf("give %s to user %d, group %d: %w", f.Name(), i.GetUid(), i.GetGid(), err)
		}
	}
	if mode := i.GetMode() &^ unix.S_IFMT; st.Mode&^unix.S_IFMT != mode {
		if err := unix.Fchmod(fd, mode); err != nil {
			return fmt.Errorf("set the permissions of %s: %w", f.Name(), err)
		}
	}
	return nil
}

// SetTimes sets when f was last read and written.
func (r *Restore) SetTimes(f *os.File, read, written unix.Timespec) error {
	path := "thread-self/fd/" + strconv.Itoa(int(f.Fd()))
	if err := unix.UtimesNanoAt(int(r.HostProc.Fd()), path, []unix.Timespec{read, written}, 0); err != nil {
		return fmt.Errorf("set the times of %s: %w", f.Name(), err)
	}
	return nil
}

// PathOwner is Owner for a description that may be of O_PATH: that has no
// owner, and no fcntl(2) to ask with.
func (d *Dump) PathOwner(desc *Desc) (*fown.FownEntry, error) {
	if desc.Info.Flags&unix.O_PATH == 0 {
		return d.Owner(desc)
	}
	return &fown.FownEntry{Uid: proto.Uint32(0), Euid: proto.Uint32(0), Signum: proto.Uint32(0),
		PidType: proto.Uint32(0), Pid: proto.Uint32(0)}, nil
}
