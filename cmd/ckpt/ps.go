package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"ckpt/container"
	"ckpt/pidns"
)

func newPsCommand(a *app) *cobra.Command {
	var asJSON bool
	var pid hostPID
	cmd := &cobra.Command{
		Use:   "ps [NAME | --pid PID]",
		Short: "List containers, or one container's processes by both their ids",
		Long: `Without NAME, list the containers; VPID and PID are those of its command, inside
and on the host. With NAME, list its processes: VPID, PPID, PGID and SID are the
ids inside, PID is the host's; of one that has ended, say how. With --pid PID,
tell which container that process or thread of the host belongs to, and its ids
there.

MEMORY is what the processes have in use, swap included; a page that several
share counts once.`,
		Example: `  ckpt ps
  ckpt ps train
  ckpt ps --pid 51877 --json`,
		Args: args("", "[NAME]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case !cmd.Flags().Changed("pid"):
				return runPs(a, args, asJSON)
			case len(args) > 0:
				return usage(fmt.Errorf("ps: --pid stands instead of a name"), "usage: ckpt ps --pid PID")
			}
			return psOfPID(a, int(pid), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().Var(&pid, "pid", "whose is the process, or thread, with this host `PID`")
	return cmd
}

func runPs(a *app, names []string, asJSON bool) error {
	s, err := a.store(false)
	if err != nil {
		return err
	}
	var cs []*container.Container
	if len(names) > 0 {
		var c *container.Container
		c, err = s.Get(names[0])
		cs = append(cs, c)
	} else {
		cs, err = s.List()
	}
	if err != nil {
		return err
	}
	views := make([]containerView, 0, len(cs))
	for _, c := range cs {
		v, err := viewOf(c)
		if err != nil {
			return err
		}
		views = append(views, v)
	}
	switch {
	case asJSON:
		return a.printJSON(jsonOf(views))
	case len(names) > 0:
		_, err = fmt.Fprint(a.out, views[0].text())
	default:
		_, err = fmt.Fprint(a.out, containerTable(views, time.Now()))
	}
	return err
}

// containerView is one container as ps saw it.
type containerView struct {
	rec    container.Record
	state  container.State
	procs  []container.Process // where it lives
	dumped *container.Marker   // where it is dumped
	saves  container.Saves     // where it is saved by itself
}

func viewOf(c *container.Container) (containerView, error) {
	v := containerView{rec: c.Record}
	var err error
	switch v.state, err = c.State(); {
	case err != nil:
	case v.state.Alive():
		v.procs, err = c.Processes()
		if err == nil && c.Schedule != nil {
			v.saves, err = c.Saves()
		}
	case v.state == container.Dumped:
		v.dumped = c.Marker()
	}
	return v, err
}

// main is the container's command; nil: it does not live.
func (v *containerView) main() *container.Process {
	for i := range v.procs {
		if v.procs[i].VPID == pidns.VPID(v.rec.MainVPID) {
			return &v.procs[i]
		}
	}
	return nil
}

// text is what `ckpt ps NAME` prints: what became of it, where it does not live.
func (v *containerView) text() string {
	switch {
	case v.state.Alive():
		text := processTable(v.procs)
		if v.rec.Schedule != nil {
			text += "\n" + savesText(v.rec.Name, v.rec.Schedule, v.saves, time.Now())
		}
		return text
	case v.dumped != nil:
		return fmt.Sprintf("%s: %s\n", v.rec.Name, v.dumped.Dumped())
	}
	return fmt.Sprintf("%s: %s\n", v.rec.Name, v.stateText())
}

// stateText is the state, and how the command of one that has ended did.
func (v *containerView) stateText() string {
	if v.state == container.Exited && v.rec.Exit != nil {
		return fmt.Sprintf("%s (%s)", v.state, v.rec.Exit)
	}
	return string(v.state)
}

// containerTable is what `ckpt ps` prints.
func containerTable(vs []containerView, now time.Time) string {
	cols := []column{{"NAME", false}, {"STATE", false}, {"UP", false}, {"VPID", true}, {"PID", true}, {"PROCS", false}, {"MEMORY", false}, {"COMMAND", false}}
	var rows [][]string
	for _, v := range vs {
		up, vpid, pid, procs, mem := "-", "-", "-", "-", "-"
		if v.state.Alive() {
			var sum uint64
			for _, p := range v.procs {
				sum += p.Memory
			}
			up, procs, mem = upText(now.Sub(v.rec.Created)), strconv.Itoa(len(v.procs)), bytesText(sum)
		}
		if p := v.main(); p != nil {
			vpid, pid = p.VPID.String(), p.PID.String()
		}
		rows = append(rows, []string{v.rec.Name, v.stateText(), up, vpid, pid, procs, mem, commandText(v.rec.Command)})
	}
	return table(cols, rows, 3)
}

// processTable is what `ckpt ps NAME` prints: parents first, children indented.
func processTable(ps []container.Process) string {
	cols := []column{{"VPID", true}, {"PID", true}, {"PPID", true}, {"PGID", true}, {"SID", true},
		{"THREADS", true}, {"STATE", false}, {"COMMAND", false}}
	depth := depths[pidns.VPID]{}
	var rows [][]string
	for _, p := range ps {
		d := depth.of(p.VPID, p.VPPID)
		rows = append(rows, []string{p.VPID.String(), p.PID.String(), p.VPPID.String(), p.VPGID.String(), p.VSID.String(),
			strconv.Itoa(len(p.Threads)), string(p.State), branch(d) + runs(p)})
	}
	return table(cols, rows, 2)
}

// runs is the command of a process, or its name where it has none.
func runs(p container.Process) string {
	if cmd := commandText(p.Command); cmd != "" {
		return cmd
	}
	return "[" + commandText([]string{p.Comm}) + "]"
}

// The form of `ckpt ps --json`, which programs rely on.
type psContainer struct {
	Name      string          `json:"name"`
	State     container.State `json:"state"`
	VPID      pidns.VPID      `json:"vpid,omitempty"` // of the command, while it lives
	PID       pidns.HostPID   `json:"pid,omitempty"`
	Processes []psProcess     `json:"processes"`
	Saves     *psSaves        `json:"saves,omitempty"` // of one that lives and is saved by itself
}

// psSaves tells how a container is saved by itself.
type psSaves struct {
	container.Schedule
	container.Saves
}

type psProcess struct {
	VPID    pidns.VPID    `json:"vpid"`
	PID     pidns.HostPID `json:"pid"`
	VPPID   pidns.VPID    `json:"vppid"`
	VPGID   pidns.VPID    `json:"vpgid"`
	VSID    pidns.VPID    `json:"vsid"`
	Comm    string        `json:"comm"`
	State   string        `json:"state"`
	Threads []psThread    `json:"threads"`
}

type psThread struct {
	VTID pidns.VPID    `json:"vtid"`
	TID  pidns.HostPID `json:"tid"`
}

func jsonOf(vs []containerView) []psContainer {
	out := []psContainer{}
	for _, v := range vs {
		c := psContainer{Name: v.rec.Name, State: v.state, Processes: []psProcess{}}
		if p := v.main(); p != nil {
			c.VPID, c.PID = p.VPID, p.PID
		}
		if v.rec.Schedule != nil && v.state.Alive() {
			c.Saves = &psSaves{*v.rec.Schedule, v.saves}
		}
		for _, p := range v.procs {
			c.Processes = append(c.Processes, processJSON(p))
		}
		out = append(out, c)
	}
	return out
}

func processJSON(p container.Process) psProcess {
	q := psProcess{VPID: p.VPID, PID: p.PID, VPPID: p.VPPID, VPGID: p.VPGID, VSID: p.VSID,
		Comm: p.Comm, State: string(p.State), Threads: []psThread{}}
	for _, t := range p.Threads {
		q.Threads = append(q.Threads, psThread(t))
	}
	return q
}
