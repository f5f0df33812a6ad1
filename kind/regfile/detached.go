package regfile

import (
	"os"
	"slices"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/procfs"
)

// refuseDetached refuses a mount that lies nowhere, as open_tree(2) and fsmount(2)
// make it: its root has the path /, and no list of mounts has it. One of the host's,
// which the program got by descriptor, ckpt itself has.
func refuseDetached(d *kind.Dump, desc *kind.Desc) error {
	if desc.Link != "/" {
		return nil
	}
	pids := []int{os.Getpid(), int(d.Home)}
	for _, p := range d.Procs {
		if !p.Zombie {
			pids = append(pids, int(p.Lead().Host))
		}
	}
	for _, pid := range pids {
		mounts, err := procfs.Mounts(pid)
		if err == nil && slices.ContainsFunc(mounts, func(m procfs.Mount) bool { return m.ID == desc.Info.MntID }) {
			return nil
		}
	}
	return failure.WithHint(failure.Unsupportedf("a mount that has no place in the file system (open_tree, fsmount)"),
		"let the program close it, or put it in its place (move_mount), before the dump")
}
