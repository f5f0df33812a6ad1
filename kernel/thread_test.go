package kernel

import (
	"errors"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOnThread(t *testing.T) {
	var mu sync.Mutex
	tids := map[int]bool{}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			err := OnThread(func() error {
				mu.Lock()
				defer mu.Unlock()
				if unix.Gettid() == os.Getpid() {
					return errors.New("it is the first thread")
				}
				tids[unix.Gettid()] = true
				return unix.Unshare(unix.CLONE_FS)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(tids) == 0 {
		t.Error("nothing ran")
	}
}
