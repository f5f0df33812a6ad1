package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/tracee"
)

// Descriptors of a supervisor beside the standard three.
const (
	requestFD = 3 // a Request; its end means: give up, unless the container runs already
	answerFD  = 4 // an Answer
)

// StreamFD is that of an image that comes as a stream (RestoreRequest.Stream).
const StreamFD = 5

// attachFD is the far end of Request.Attached.
const attachFD = 6

// Supervisor is the word by which ckpt knows that it was executed to be one.
const Supervisor = "supervise"

// supervisorArgs are the arguments of the supervisor of a container. Everybody
// can read them (ps(1)): they tell other users, and those with another state
// directory, whose the processes below it are (Elsewhere).
func supervisorArgs(name, state string) []string { return []string{"ckpt", Supervisor, name, state} }

// supervises tells of which container args are the supervisor's; state is "" in
// an image made before it was told.
func supervises(args []string) (name, state string, ok bool) {
	if len(args) < 3 || args[0] != "ckpt" || args[1] != Supervisor || checkName(args[2]) != nil {
		return "", "", false
	}
	if len(args) > 3 {
		state = args[3]
	}
	return args[2], state, true
}

// Launch starts a supervisor that does what req says, and returns when the
// container runs or nothing is left of it. The supervisor is a session leader
// and holds nothing of the caller but its working directory, and that only until
// it has answered. What it logs goes to stderr. When ctx ends it undoes its work,
// and so it does when the caller is killed.
func Launch(ctx context.Context, req Request, stderr io.Writer) (*Answer, error) {
	if err := room(req.Tasks); err != nil {
		return nil, err
	}
	asRoot, err := privileged()
	if err != nil {
		return nil, err
	}
	// Whoever started ckpt may have left descriptors open in it, and may wait
	// for the end of one: the container must not keep it open.
	if err := unix.CloseRange(3, 1<<32-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("close_range: %w", err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = supervisorArgs(req.Name, req.State)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if !asRoot {
		if err := ownUserNamespace(cmd.SysProcAttr); err != nil {
			return nil, err
		}
		if req.Restore != nil {
			if err := raiseLimits(); err != nil {
				return nil, err
			}
		}
	}
	ask, answer, log, err := pipes(cmd)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	defer ask.Close()
	ours := append(slices.Clone(cmd.ExtraFiles), cmd.Stderr.(*os.File))
	if req.Image != nil || req.Attached != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, req.Image)
	}
	if req.Attached != nil {
		req.Attach = true
		cmd.ExtraFiles = append(cmd.ExtraFiles, req.Attached.far)
		ours = append(ours, req.Attached.far) // its end shall be seen
	}
	err = cmd.Start()
	for _, f := range ours {
		f.Close()
	}
	if err != nil {
		log.Close()
		return nil, noUserNamespace(err, asRoot)
	}
	logged := make(chan struct{})
	go func() {
		io.Copy(stderr, log)
		log.Close()
		close(logged)
	}()
	// A supervisor that died at once cannot be written to; the missing
	// answer tells more than EPIPE.
	req.Listens = req.Told != nil
	json.NewEncoder(ask).Encode(req)
	// Only then: half a request is none to the supervisor, and not interrupted.
	stop := context.AfterFunc(ctx, func() { ask.Close() })
	defer stop()
	a, err := req.answer(answer)
	<-logged
	switch {
	case err != nil:
		werr := cmd.Wait()
		err = fmt.Errorf("the supervisor of %s gave no answer (%s): %w", req.Name, how(werr), err)
		_, left := NewStore(req.State).Sweep(req.Name)
		return nil, errors.Join(err, left)
	case len(a.Failure) > 0:
		cmd.Wait() // its name is free again when it has ended
		return nil, fromWire(a.Failure)
	}
	return a, cmd.Process.Release()
}

// answer reads the answer, and what is told before it.
func (r *Request) answer(from io.Reader) (*Answer, error) {
	for dec := json.NewDecoder(from); ; {
		a := new(Answer)
		if err := dec.Decode(a); err != nil {
			return a, err
		}
		if r.Told != nil && a.Told != nil {
			r.Told(a.Told)
		}
		if !a.Working {
			return a, nil
		}
	}
}

// ownTasks is how many processes and threads it takes to make a container
// beside those in it: mostly the Go runtime's of the supervisor, which aborts
// where it is refused one.
const ownTasks = 24

// room makes sure that there are pids for a container with so many tasks.
func room(tasks int) error {
	need := tasks + ownTasks
	free, max, err := kernel.FreePIDs(need)
	if err != nil || free >= need {
		return err
	}
	return failure.WithHint(failure.Unsupportedf("making the container takes %d pids for a moment, and about %d are free here (kernel.pid_max is %d)", need, free, max),
		fmt.Sprintf("end some programs, or allow more: sysctl -w kernel.pid_max=%d", 4*max))
}

func how(err error) string {
	if err == nil {
		return "it ended"
	}
	return err.Error()
}

// pipes gives cmd its descriptors and returns the other ends.
func pipes(cmd *exec.Cmd) (ask, answer, log *os.File, err error) {
	var opened []*os.File
	pipe := func() (r, w *os.File) {
		if err != nil {
			return nil, nil
		}
		if r, w, err = os.Pipe(); err == nil {
			opened = append(opened, r, w)
		}
		return r, w
	}
	askR, ask := pipe()
	answer, answerW := pipe()
	log, logW := pipe()
	if err != nil {
		for _, f := range opened {
			f.Close()
		}
		return nil, nil, nil, fmt.Errorf("start a supervisor: %w", err)
	}
	cmd.ExtraFiles = []*os.File{askR, answerW} // requestFD, answerFD
	cmd.Stderr = logW
	return ask, answer, log, nil
}

// privileged tells whether ckpt can make namespaces without a user namespace.
func privileged() (bool, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false, fmt.Errorf("read capabilities: %w", err)
	}
	return data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0, nil
}

// ownUserNamespace: the user keeps their ids, and ckpt has every capability
// over the namespaces it makes in there. Ambient, since a program executed
// with an id other than 0 keeps no other (capabilities(7)).
func ownUserNamespace(a *syscall.SysProcAttr) error {
	b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return err
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return err
	}
	for c := range last + 1 {
		a.AmbientCaps = append(a.AmbientCaps, uintptr(c))
	}
	a.Cloneflags |= unix.CLONE_NEWUSER
	uid, gid := os.Geteuid(), os.Getegid()
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	return nil
}

// raiseLimits raises the soft limits that a user namespace takes from its maker
// for all in it (create_user_ns() in kernel/user_namespace.c): what is restored
// may have had higher ones, and each process is given its own.
func raiseLimits() error {
	for _, res := range []int{unix.RLIMIT_NPROC, unix.RLIMIT_MEMLOCK, unix.RLIMIT_SIGPENDING, unix.RLIMIT_MSGQUEUE} {
		var l unix.Rlimit
		err := unix.Getrlimit(res, &l)
		if err == nil && l.Cur < l.Max {
			l.Cur = l.Max
			err = unix.Setrlimit(res, &l)
		}
		if err != nil {
			return fmt.Errorf("raise limit %d: %w", res, err)
		}
	}
	return nil
}

// noUserNamespace explains why a supervisor could not be started.
func noUserNamespace(err error, asRoot bool) error {
	err = failure.WithoutPath(err)
	if errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("start a supervisor: %w", tracee.NoMore(err))
	}
	if asRoot {
		return fmt.Errorf("start a supervisor: %w", err)
	}
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return failure.WithHint(failure.Unsupportedf("start a supervisor: this system does not let uid %d make a user namespace: %w", os.Geteuid(), err),
			"allow it: sysctl kernel.unprivileged_userns_clone=1 (Debian) or kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)",
			"or run ckpt as root")
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return failure.WithHint(failure.Unsupportedf("start a supervisor: no more user namespaces are allowed: %w", err),
			"raise the limit: sysctl user.max_user_namespaces",
			"or run ckpt as root")
	}
	return fmt.Errorf("start a supervisor: %w", err)
}
