package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

const recordFormat = 1

// Record is state.json: what does not change while the container runs, and
// how its command ended.
type Record struct {
	Format  int       `json:"format"`
	Name    string    `json:"name"`
	Command []string  `json:"command"`
	Created time.Time `json:"created"`
	// Init is vpid 1. The three together name a process for good: a pid is
	// given away again, a start time within one boot is not.
	Init      int    `json:"init"`
	InitStart uint64 `json:"init_start"` // clock ticks since boot
	BootID    string `json:"boot_id"`
	// Supervisor may be dead; its lock tells.
	Supervisor int  `json:"supervisor"`
	MainVPID   int  `json:"main_vpid"` // whose exit status is the container's
	NoInit     bool `json:"no_init,omitempty"`
	OwnNet     bool `json:"own_net,omitempty"`
	// Key names the container to those inside, see KeyOf.
	Key string `json:"key,omitempty"`
	// SessionKeyring is the serial number of the session keyring that the
	// processes were given; 0: not known.
	SessionKeyring int `json:"session_keyring,omitempty"`
	// Schedule is how it is saved by itself; nil: it is not.
	Schedule *Schedule `json:"schedule,omitempty"`
	// Terminal: it has one, which the supervisor serves.
	Terminal bool `json:"terminal,omitempty"`
	// Exit is how the command ended; nil while it runs, and for ever when
	// the supervisor was killed before the command ended.
	Exit *Exit `json:"exit,omitempty"`
}

// Exit is how a process ended.
type Exit struct {
	Code   int         `json:"code"`
	Signal unix.Signal `json:"signal,omitempty"` // 0: it exited by itself
	At     time.Time   `json:"at"`
}

// ExitOf reads a status of wait(2).
func ExitOf(ws unix.WaitStatus, at time.Time) Exit {
	if ws.Signaled() {
		return Exit{Signal: ws.Signal(), At: at}
	}
	return Exit{Code: ws.ExitStatus(), At: at}
}

// Status is the number a shell would give: the exit code, or 128 and the signal.
func (e Exit) Status() int {
	if e.Signal != 0 {
		return 128 + int(e.Signal)
	}
	return e.Code
}

// String is "0", "3" or "SIGKILL".
func (e Exit) String() string {
	if e.Signal == 0 {
		return fmt.Sprint(e.Code)
	}
	if n := unix.SignalName(e.Signal); n != "" {
		return n
	}
	return fmt.Sprintf("signal %d", int(e.Signal))
}

// Marker says that an image holds the container; see Container.MarkDumped.
type Marker struct {
	Image string    `json:"image"` // absolute path; "": not known any more
	At    time.Time `json:"at"`
}

// Dumped says so: "dumped into /img".
func (m *Marker) Dumped() string {
	if m.Image == "" {
		return "dumped"
	}
	return "dumped into " + m.Image
}

// hint is what the user can do with it.
func (m *Marker) hint() string {
	if m.Image == "" {
		return "bring it back, if you know its image: ckpt restore DIR"
	}
	return "bring it back: ckpt restore " + failure.Quote(m.Image)
}

const (
	recordFile = "state.json"
	markerFile = "dumped"
	imagesFile = "images"
	tablesFile = "tables"
	namesFile  = "names"
	logFile    = "log"
	lockFile   = "lock"
	makingFile = "making.lock"
	dumpLock   = "dump.lock"
	savesFile  = "saves"
	saverLock  = "saver.lock"
	execPrefix = "exec-"
	newPrefix  = ".new-" // of a file that is being written
	// consoleFile is the socket of its terminal's server.
	consoleFile = "console"
)

// readJSON reads a file that may not exist: then ok is false.
func readJSON(path string, v any) (ok bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}

// writeJSON replaces a file at one stroke: readers see the old or the new
// contents, also when the writer is killed or the disk is full. Nothing is
// flushed, since the state does not outlive the boot.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), newPrefix)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has been renamed
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
