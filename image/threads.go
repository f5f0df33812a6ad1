package image

import "github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"

// Threads are the ids of the threads of a process, the leading one first. CRIU
// 4.1.1 writes of a zombie whatever its memory holds.
func Threads(e *pstree.PstreeEntry) []uint32 {
	if len(e.GetThreads()) == 1 {
		return []uint32{e.GetPid()}
	}
	return e.GetThreads()
}
