package kernel

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// OnThread runs fn on an OS thread that ends with it, so that fn may change
// what belongs to a thread (unshare(2), setns(2), credentials) and need not
// change it back. The thread is never the first one: Go cannot end that, and
// /proc/self, kcmp(2) and pidfd_getfd(2) show its state as the process's.
func OnThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// While this goroutine holds the first thread, another gets another.
			done <- OnThread(fn)
			runtime.UnlockOSThread()
			return
		}
		done <- fn() // stays locked: the thread ends with the goroutine
	}()
	return <-done
}
