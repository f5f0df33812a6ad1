package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/foreign"
	"ckpt/image"
	"ckpt/restore"
)

type restoreOptions struct {
	name         string
	lazy         bool
	attach       bool
	allowChanged []string
	moves        []string
	anyCPU       bool
	keys         keyFlags
	json         bool
	latest       bool
	schedule     scheduleFlags
	saved        *container.Schedule // whatever the image says; nil: as it says
}

const anyCPUUsage = "accept a processor that lacks instructions which the programs may use"

func newRestoreCommand(a *app) *cobra.Command {
	var o restoreOptions
	cmd := &cobra.Command{
		Use:   "restore DIR",
		Short: "Bring a saved container back",
		Long: `Bring the container in DIR back, with every id its processes ever saw. If that
fails, nothing is left behind. The image stays as it is and can be brought back
again, also several times at once under different names. With -a its terminal is
this one.

With --latest, DIR is where ckpt start --every or --on-term puts its images: the newest
is brought back, or, if it is damaged, which is said, the one before. A container that
was saved by itself is so again, into the directory that its image stands in, unless
--every 0 says otherwise, or it is given another name.

DIR may also be an image that "criu dump" has made (docs/criu.md); the container is
called after its first program then. Or a file with a stream of ckpt dump NAME -,
or - for one on standard input, which is kept in a file without a name in TMPDIR
(/var/tmp) meanwhile.`,
		Example: `  ckpt restore ./tonight
  ckpt restore ./tonight --name try1
  ckpt restore --latest ./saves
  ckpt restore ./tonight --map /home/ann/run=/scratch/run`,
		Args: args("", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.name == "" && cmd.Flags().Changed("name") {
				return usage(errors.New("restore: --name is empty"), "leave it out for the name that the container had")
			}
			switch {
			case a.global.detached != "":
				return runRestore(cmd.Context(), a, cmd, o, a.global.detached)
			case o.latest:
				return restoreLatest(cmd.Context(), a, cmd, o, args[0])
			}
			return runRestore(cmd.Context(), a, cmd, o, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "bring it back under the name `NEW`")
	f.BoolVar(&o.latest, "latest", false, "DIR is one of --to: the newest image in it that is whole")
	o.schedule.add(cmd)
	f.BoolVar(&o.lazy, "lazy", false, "run at once, memory follows")
	f.BoolVarP(&o.attach, "attach", "a", false, "show its terminal on this one")
	f.StringArrayVar(&o.allowChanged, "allow-changed", nil, allowChangedUsage)
	f.StringArrayVar(&o.moves, "map", nil, mapUsage)
	f.BoolVar(&o.anyCPU, "any-cpu", false, anyCPUUsage)
	o.keys.add(cmd)
	f.BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}

func runRestore(ctx context.Context, a *app, cmd *cobra.Command, o restoreOptions, dir string) error {
	began := time.Now()
	if o.lazy {
		return notYet("restore --lazy", "leave it out: a whole restore works")
	}
	if err := container.CheckName(o.name); o.name != "" && err != nil {
		return err
	}
	texts, keys, err := o.keys.read()
	if err != nil {
		return err
	}
	shown := a.wait("restore", cmp.Or(o.name, dir))
	defer shown.end()
	in, err := openImage(ctx, keys, dir, shown.here)
	if errors.Is(err, os.ErrNotExist) {
		return a.meantContainer("restore", err, dir)
	}
	if err != nil {
		return err
	}
	defer in.Close()
	in.Until(ctx)
	name, tasks, err := nameFor(o.name, dir, in)
	if err != nil {
		return interrupted(ctx, "restore "+dir, err)
	}
	shown.named(name)
	req := container.RestoreRequest{AnyCPU: o.anyCPU, Keys: texts}
	var stream *os.File
	if dir == stdio {
		req.Stream, req.Dir = true, "standard input"
		stream, err = in.Rewind()
	} else {
		req.Dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return err
	}
	allowed, err := absolute("restore", o.allowChanged)
	if err != nil {
		return err
	}
	moves, err := parseMoves("restore", o.moves)
	if err != nil {
		return err
	}
	s, err := a.store(true)
	if err != nil {
		return err
	}
	level, err := a.global.level()
	if err != nil {
		return err
	}
	groups, err := supplementaryGroups()
	if err != nil {
		return err
	}
	req.AllowChanged, req.Moves, req.Groups = allowed, moves, groups
	schedule, own, err := o.restored(a, cmd, in.Manifest(), name, req)
	if err != nil {
		return err
	}
	asked := container.Request{State: s.Dir(), Name: name, Tasks: tasks,
		Log: int(level), LogJSON: a.global.logFormat == "json", Schedule: schedule,
		Restore: &req, Image: stream, Told: shown.toldBy()}
	l := launch{name: name, schedule: schedule, ownImages: own, foreground: o.schedule.foreground, of: dir, in: stream, oldLog: true,
		run: func(ctx context.Context) (*container.Answer, error) {
			defer shown.end()
			return container.Launch(ctx, asked, a.err)
		},
		failed: func(err error) error { return restoreFailed(err, name, dir) },
		started: func(say *app, ans *container.Answer) error {
			took := time.Since(began)
			if o.json {
				return a.printJSON(restoreJSON{name, ans.VPID, ans.PID, ans.Processes, took})
			}
			say.say("%s: restored in %s, pid %d inside, %d on the host", name, tookText(took), ans.VPID, ans.PID)
			return nil
		}}
	if l.detaches(a) {
		shown.end() // who does it shows it
	}
	if o.attach && a.global.detached == "" {
		if err := hasTerminal(in, name, dir); err != nil {
			return err
		}
		return a.launchAttached(ctx, l, &asked)
	}
	return a.launch(ctx, l)
}

// hasTerminal refuses to show the terminal of a container that had none.
func hasTerminal(in *image.Reader, name, dir string) error {
	d, err := in.Decode(image.Console, "")
	if err != nil {
		return err
	}
	if d == nil {
		return usage(fmt.Errorf("restore -a %s: the container had no terminal", dir), "leave out -a, and follow what it writes: ckpt logs -f "+name)
	}
	d.Close()
	return nil
}

// meantContainer adds to err, by which there is no image dir, that a container has that
// name, and where its image is, if it was saved.
func (a *app) meantContainer(command string, err error, dir string) error {
	c, cerr := a.find(dir)
	if cerr != nil {
		return err
	}
	if m := c.Marker(); m != nil && m.Image != "" {
		return failure.WithHint(err, fmt.Sprintf("the container %s was saved elsewhere: ckpt %s %s", c.Name, command, failure.Quote(m.Image)))
	}
	if c.MustLive() == nil {
		return failure.WithHint(err, fmt.Sprintf("%s is a container that runs; this saves it: ckpt dump %s DIR", c.Name, c.Name))
	}
	return err
}

func supplementaryGroups() ([]uint32, error) {
	gids, err := os.Getgroups()
	if err != nil {
		return nil, fmt.Errorf("read the groups of the user: %w", err)
	}
	var out []uint32
	for _, g := range gids {
		out = append(out, uint32(g))
	}
	return out, nil
}

type restoreJSON struct {
	Name      string        `json:"name"`
	VPID      int           `json:"vpid"`
	PID       int           `json:"pid"`
	Processes int           `json:"processes"`
	Total     time.Duration `json:"total_ns"`
}

// nameFor is the name to restore under, the one asked for or the image's, and
// how many processes and threads there will be.
func nameFor(asked, dir string, r *image.Reader) (name string, tasks int, err error) {
	if r.Manifest() == nil {
		if err := foreign.Translate(r); err != nil {
			return "", 0, err
		}
		m := r.Manifest()
		return cmp.Or(asked, imageName(m)), len(m.GetTable()), nil
	}
	m := r.Manifest()
	if asked != "" {
		return asked, len(m.GetTable()), nil
	}
	if err := container.CheckName(m.Name); err != nil {
		return "", 0, failure.Damagedf("%s: %w", dir, err)
	}
	return m.Name, len(m.GetTable()), nil
}

// imageName is the name that an image has for its container; one of criu's has
// none, and its first program's stands in.
func imageName(m *image.Manifest) string {
	if m == nil {
		return "" // it could not be read
	}
	return cmp.Or(m.GetName(), container.NameOf(m.GetCommand()))
}

// restoreFailed makes the hints fit the command that failed.
func restoreFailed(err error, name, dir string) error {
	switch {
	case errors.Is(err, failure.ErrInterrupted):
		return undone(err, "restore "+name, "nothing was left behind")
	case errors.Is(err, failure.ErrNameTaken):
		return failure.WithHint(failure.Mark(failure.ErrNameTaken, fmt.Errorf("restore: %s", err.Error())),
			fmt.Sprintf("give this one another name: ckpt restore %s --name %s2", failure.Quote(dir), name),
			"or end that one: ckpt rm -f "+name)
	}
	return err
}

// makeRestored is the restoring half of a container.Maker.
func makeRestored(ctx context.Context, req *container.Request, logFile *os.File, log *slog.Logger, commit func(*container.Made) error) error {
	names, err := container.NewStore(req.State).NoteNames(req.Name)
	if err != nil {
		return err
	}
	defer names.Close()
	keys, err := parseKeys(req.Restore.Keys)
	if err != nil {
		return err
	}
	var stream *os.File
	if req.Restore.Stream {
		unix.CloseOnExec(container.StreamFD)
		stream = os.NewFile(container.StreamFD, "image")
	}
	progress, told := tell(req)
	defer told()
	_, err = restore.Run(ctx, restore.Options{Dir: req.Restore.Dir, Stream: stream, Keys: keys, Names: names, LogFile: logFile, AllowChanged: req.Restore.AllowChanged, Moves: req.Restore.Moves, AnyCPU: req.Restore.AnyCPU, Groups: req.Restore.Groups, Log: log, Progress: progress,
		Commit: func(res *restore.Result) error {
			m := res.Manifest
			return commit(&container.Made{Root: res.Root, Terminal: res.Terminal, Command: m.GetCommand(), MainVPID: int(res.MainVPID), MainHost: int(res.MainHost),
				NoInit: m.GetNoInit(), OwnNet: m.GetNetNone(), Key: res.Key, Processes: res.Processes})
		}})
	return err
}
