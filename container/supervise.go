package container

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/console"
	"ckpt/failure"
	"ckpt/kernel"
)

// Made is a container that runs, as its maker hands it to the supervisor.
type Made struct {
	Root      *Root
	Command   []string
	Terminal  *Terminal // nil: it has none
	MainVPID  int       // 0: it ended before the dump
	MainHost  int
	NoInit    bool
	OwnNet    bool
	Key       string
	Processes int
}

// Maker makes the container that req describes, running, or leaves nothing
// behind. It is called on a thread of its own, which may trace. It calls
// commit once, when nothing more is likely to fail, best before anything
// runs; if commit fails, so does the Maker.
type Maker func(ctx context.Context, req *Request, logFile *os.File, log *slog.Logger, commit func(*Made) error) error

// Supervise is the life of a supervisor: make the container, answer, wait for
// its end. It uses the descriptors Launch gave it.
func Supervise(make Maker) error {
	// Handled, not ignored: what is ignored stays ignored over execve(2),
	// and the container's command shall not inherit that.
	sigs := notifyAll()
	nameSelf()
	in, out := os.NewFile(requestFD, "request"), os.NewFile(answerFD, "answer")
	unix.CloseOnExec(requestFD)
	unix.CloseOnExec(answerFD)
	req := new(Request)
	dec := json.NewDecoder(in)
	if err := dec.Decode(req); err != nil {
		return failure.WithHint(
			failure.Mark(failure.ErrUsage, fmt.Errorf("read the request: %w", err)),
			"ckpt runs this command by itself; use `ckpt start`")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		io.Copy(io.Discard, in) // until the command gives up, or has ended
		cancel()
	}()
	go func() {
		for s := range sigs {
			if s != unix.SIGPIPE && s != unix.SIGHUP {
				cancel()
			}
		}
	}()
	s, err := begin(ctx, req, make)
	a := Answer{Name: req.Name, Failure: toWire(err), Told: req.last}
	if err == nil {
		a.VPID, a.PID, a.Processes = s.made.MainVPID, s.made.MainHost, s.made.Processes
		err = LetGo()
	}
	json.NewEncoder(out).Encode(a) // the command may be gone; the container is not
	out.Close()
	if s == nil {
		return nil // told already
	}
	return errors.Join(err, s.wait())
}

// notifyAll catches what would end a supervisor by accident: the container
// would run on, but nobody would learn how its command ended.
func notifyAll() chan os.Signal {
	c := make(chan os.Signal, 8)
	signal.Notify(c, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE)
	return c
}

// nameSelf has ps(1) and top(1) show the supervisor as ckpt. It was executed as
// /proc/self/exe, which is there though the binary has been replaced; the
// kernel named it after that. The file, other than PR_SET_NAME of prctl(2), is
// about the process, whichever of its threads writes. Nothing hangs on it.
func nameSelf() { _ = os.WriteFile("/proc/self/comm", []byte("ckpt"), 0) }

// LetGo drops what a process that stays still has of the command that started it.
func LetGo() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for fd := range 3 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return err
		}
	}
	return os.Chdir("/")
}

type supervised struct {
	claim   *claim
	made    *Made
	console *console.Server // nil: it has no terminal
}

// begin gives either a container that runs and is recorded, or nothing.
func begin(ctx context.Context, req *Request, make Maker) (*supervised, error) {
	cl, err := NewStore(req.State).claim(req.Name, req.Restore != nil)
	if err != nil {
		return nil, err
	}
	var made *Made
	var terminal *console.Server
	err = kernel.OnThread(func() error {
		return make(ctx, req, cl.log, req.logger(), func(m *Made) error {
			made = m
			if ctx.Err() != nil {
				return failure.Mark(failure.ErrInterrupted, errors.New("interrupted"))
			}
			if req.Restore != nil && !req.Restore.Stream {
				if err := cl.c.NoteImage(req.Restore.Dir); err != nil {
					return err
				}
			}
			keyring, err := sessionKeyring()
			if err != nil {
				return err
			}
			if m.Terminal != nil {
				if terminal, err = cl.serve(m.Terminal, req.attached()); err != nil {
					return err
				}
			}
			return cl.commit(Record{Name: req.Name, Command: m.Command, Init: m.Root.HostPID,
				MainVPID: m.MainVPID, NoInit: m.NoInit, OwnNet: m.OwnNet, Key: m.Key, SessionKeyring: keyring, Schedule: req.Schedule, Terminal: m.Terminal != nil})
		})
	})
	if err != nil {
		if terminal != nil {
			terminal.Abandon()
		}
		return nil, errors.Join(failure.Interrupted(ctx, err), remove(cl.c.file(consoleFile)), cl.undo())
	}
	return &supervised{cl, made, terminal}, cl.running()
}

// attached is the far end of Request.Attached; nil: nobody is.
func (r *Request) attached() *os.File {
	if !r.Attach {
		return nil
	}
	unix.CloseOnExec(attachFD)
	return os.NewFile(attachFD, "terminal")
}

func (r *Request) logger() *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.Level(r.Log)}
	if r.LogJSON {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

// wait records how processes end until the first one has.
func (s *supervised) wait() error {
	c := s.claim.c
	defer s.claim.lock.Close()
	var errs error
	if st := s.made.Root.Status; st != nil {
		errs = s.records(st)
		st.Close()
	}
	ws, err := reap(s.made.Root.HostPID)
	if err != nil {
		return errors.Join(errs, err)
	}
	if s.console != nil { // all that has been written is in the log now
		defer s.console.Close() // once it can be asked how the command ended
		errs = errors.Join(errs, remove(c.file(consoleFile)))
	}
	now := time.Now()
	killed := ws.Signaled() && ws.Signal() == unix.SIGKILL
	if c.Marker() != nil && killed && c.Exit == nil {
		return errs // a dump ended it
	}
	// A dump that was made and then did not end the container says nothing now.
	errs = errors.Join(errs, c.liftTables(), remove(c.file(markerFile)))
	if c.Exit == nil {
		e := ExitOf(ws, now)
		if !c.NoInit { // it died with its init, which dies by SIGKILL alone
			e = Exit{Signal: unix.SIGKILL, At: now}
		}
		errs = errors.Join(errs, s.exited(e))
	}
	c.clearExecs()
	return errs
}

// records reads what init tells of the processes it reaps: vpid and wait(2)
// status, four bytes each, until init is dead.
func (s *supervised) records(st io.Reader) error {
	var errs error
	for {
		var b [8]byte
		if _, err := io.ReadFull(st, b[:]); err != nil {
			if err == io.EOF {
				err = nil
			}
			return errors.Join(errs, err)
		}
		vpid := int(int32(binary.NativeEndian.Uint32(b[:])))
		e := ExitOf(unix.WaitStatus(binary.NativeEndian.Uint32(b[4:])), time.Now())
		if vpid == s.claim.c.MainVPID && s.claim.c.Exit == nil {
			errs = errors.Join(errs, s.exited(e))
			continue
		}
		errs = errors.Join(errs, s.claim.c.execExited(vpid, e))
	}
}

// exited notes the end of the container's command. The pid may be given
// away again afterwards: only the first end counts.
func (s *supervised) exited(e Exit) error {
	s.claim.c.Exit = &e
	return writeJSON(s.claim.c.file(recordFile), s.claim.c.Record)
}

// execExited tells the `ckpt exec` that waits for vpid, if one does.
func (c *Container) execExited(vpid int, e Exit) error {
	path := c.file(execPrefix + strconv.Itoa(vpid))
	if _, err := os.Lstat(path); err != nil {
		return nil
	}
	return writeJSON(path, e)
}

// reap waits for a child and gives how it ended.
func reap(pid int) (unix.WaitStatus, error) {
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(pid, &ws, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait for host pid %d: %w", pid, err)
		}
		if ws.Exited() || ws.Signaled() {
			return ws, nil
		}
	}
}
