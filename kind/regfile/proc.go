package regfile

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/regfile"
	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// A descriptor on the folder of a process that has ended, or on a file in it,
// gives ESRCH, ENOENT or nothing at all, however the number is used by then. A
// restore opens it while a process with that number is there for a moment.

// procIDs are the process, and the thread of it, whose folder of /proc a path
// leads to or into: /proc/PID, /proc/PID/task/TID. tid is 0 for the process.
func procIDs(name string) (pid, tid pidns.VPID) {
	part := strings.Split(name, "/")
	if len(part) < 3 || part[1] != "proc" {
		return 0, 0
	}
	if pid = number(part[2]); pid != 0 && len(part) > 4 && part[3] == "task" {
		tid = number(part[4])
	}
	return pid, tid
}

func number(s string) pidns.VPID {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0
	}
	return pidns.VPID(n)
}

// ended tells whether desc, which nothing leads to any more by its path, is of
// an ended process or thread of the container: one that it can be opened by
// again. What stands in fd and map_files was that process's own.
func ended(d *kind.Dump, desc *kind.Desc, name string) bool {
	pid, tid := procIDs(name)
	if pid == 0 || desc.FD < 0 || !ofContainer(d, desc) {
		return false
	}
	for _, own := range []string{"/fd/", "/fdinfo/", "/map_files/"} {
		if strings.Contains(name, own) {
			return false
		}
	}
	p := d.Running(pid)
	if p == nil {
		_, is := d.HostPID(pid)
		return !is // else a zombie
	}
	return tid != 0 && d.Running(tid) == nil && p.VPID == pid && len(p.Chain) <= 1
}

// ofContainer tells whether desc is of the container's own /proc.
func ofContainer(d *kind.Dump, desc *kind.Desc) bool {
	if d.MountsOf != nil && d.MountsOf(desc) != d.ContainerHome {
		return false
	}
	var st unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d/root/proc", d.ContainerHome), &st)
	return err == nil && st.Dev == desc.Stat.Dev
}

// noteEnded notes who desc is of.
func noteEnded(d *kind.Dump, name string) (uint32, error) {
	pid, tid := procIDs(name)
	if d.Running(pid) == nil {
		n, err := d.EndedThread(pid, pidns.Either)
		if err != nil || tid == 0 || tid == pid {
			return n, err
		}
	}
	return d.EndedThread(tid, pid)
}

// present makes the process or thread be there whose folder of /proc the file
// is in.
func present(r *kind.Restore, reg *regfile.RegFileEntry) (err error) {
	if n := r.Extras[reg.GetId()].GetProcHeld(); n != 0 {
		if _, err = r.Ended(n); err != nil {
			err = fmt.Errorf("open %s: %w", reg.GetName(), err)
		}
		return err
	}
	pid, tid := procIDs(reg.GetName())
	for _, v := range []pidns.VPID{pid, tid} { // /proc/TID is a folder, too, which no list shows
		if v != 0 && err == nil {
			_, _, err = r.Thread(v)
		}
	}
	return err
}

// makeAnew has the rest of a text of /proc, of which the program has read the
// beginning, made when it reads on. It is made when the position is set, else
// (fs/seq_file.c, traverse()), and tells of a bare child that is traced. A read
// at another place makes the kernel forget it, and leaves the position alone.
func makeAnew(r *kind.Restore, f *os.File, reg *regfile.RegFileEntry) error {
	if r.Extras[reg.GetId()].GetProcHeld() != 0 || reg.GetFlags()&unix.O_ACCMODE == unix.O_WRONLY || reg.GetMode()&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("statfs %s: %w", f.Name(), err)
	}
	if st.Type == unix.PROC_SUPER_MAGIC {
		_, _ = unix.Pread(int(f.Fd()), make([]byte, 1), 0) // fails where there is no text (mem)
	}
	return nil
}

// inside makes a file of an ended process that has been read to the end stay
// so. The text of the process that stood in for it may be longer, and the
// kernel keeps what is left from the time when the position was set
// (fs/seq_file.c): it is read away. What mountinfo and its like show lives on.
func inside(r *kind.Restore, e *fdinfo.FileEntry, fd int, s *tracee.Script) error {
	reg := e.GetReg()
	lives := slices.Contains([]string{"mountinfo", "mounts", "mountstats"}, path.Base(reg.GetName()))
	if r.Extras[reg.GetId()].GetProcHeld() == 0 || lives || reg.GetPos() == 0 || reg.GetMode()&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	const most = 4096
	buf := s.Space(most)
	for range 4 {
		s.Try(unix.SYS_READ, uint64(fd), buf, most)
	}
	return nil
}
