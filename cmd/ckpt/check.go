package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ckpt/dump"
	"ckpt/failure"
	"ckpt/hold"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/restore"
)

func newCheckCommand(a *app) *cobra.Command {
	var asJSON, kinds, anyCPU bool
	var pid hostPID
	var tcp outside
	var external, allowChanged, moves []string
	var keys keyFlags
	cmd := &cobra.Command{
		Use:   "check [NAME | DIR | --pid PID | --kinds]",
		Short: "Tell what this kernel can do, or whether a container would dump",
		Long: `Without an argument, try every feature of the kernel that ckpt uses.

With the name of a container, tell what stands in the way of dumping it; the
container is not stopped, so what only stopped processes show is not looked at, and
said to be so: a dump may still refuse it, and leaves all as it was. With --pid PID,
the same of a process that ckpt did not start and all that descend from it.

With an image (an argument with a slash, also a file with a stream), tell what would keep it from being
restored here: the kernel, the processor, room for its threads, memory and deleted
files, files, addresses and ports; nothing is made, so what only shows by that (a
lease, ports of connections) is not seen.

With --kinds, tell of every kind of kernel object what ckpt keeps of it, what it
refuses, what is lost, and what that needs.

Exits with 3 if something required is missing, or something stands in the way.`,
		Example: `  ckpt check
  ckpt check train
  ckpt check ./tonight`,
		Args: args("", "[NAME | DIR]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			tree := cmd.Flags().Changed("pid")
			ofImage := len(allowChanged) > 0 || len(moves) > 0 || anyCPU || keys.given()
			externals, err := parseExternals("check", external)
			if err != nil {
				return err
			}
			o := dump.Options{Outside: kind.Outside(tcp), External: externals}
			switch {
			case ofImage && (len(args) == 0 || !isImage(args[0])):
				return usage(errors.New("check: --allow-changed, --map, --any-cpu, --identity and --verify-key are for images"), "give the directory of an image, with a slash in it: ckpt check ./DIR")
			case kinds && (tree || len(args) > 0):
				return usage(fmt.Errorf("check: --kinds tells of ckpt itself, not of a container"), "usage: ckpt check --kinds")
			case kinds:
				return checkKinds(a, asJSON)
			case tree && len(args) > 0:
				return usage(fmt.Errorf("check: --pid stands instead of a name"), "usage: ckpt check --pid PID")
			case tree:
				return checkTree(cmd.Context(), a, int(pid), o, asJSON)
			case (tcp != "" || len(externals) > 0) && (len(args) == 0 || isImage(args[0])):
				return usage(fmt.Errorf("check: --tcp and --external are for a container, or --pid"), "usage: ckpt check NAME --tcp keep")
			case len(args) == 1 && args[0] == stdio:
				return notFromInput("check")
			case len(args) == 0:
				return checkKernel(a, append(kernel.Probes(), hold.Probe()), asJSON)
			case isImage(args[0]):
				allowed, err := absolute("check", allowChanged)
				if err != nil {
					return err
				}
				moved, err := parseMoves("check", moves)
				if err != nil {
					return err
				}
				_, imageKeys, err := keys.read()
				if err != nil {
					return err
				}
				return checkImage(cmd.Context(), a, restore.Options{Dir: args[0], Keys: imageKeys, AllowChanged: allowed, Moves: moved, AnyCPU: anyCPU}, asJSON)
			}
			return checkContainer(cmd.Context(), a, args[0], o, asJSON)
		},
	}
	keys.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().Var(&tcp, "tcp", "as of dump: `keep` or close")
	cmd.Flags().StringArrayVar(&external, "external", nil, "as of dump: `unix:PATH`")
	cmd.Flags().BoolVar(&kinds, "kinds", false, "what ckpt keeps of every kind of kernel object")
	cmd.Flags().Var(&pid, "pid", "would the process with this host `PID` dump, and all below it")
	cmd.Flags().StringArrayVar(&allowChanged, "allow-changed", nil, "of an image: "+allowChangedUsage)
	cmd.Flags().StringArrayVar(&moves, "map", nil, "of an image: "+mapUsage)
	cmd.Flags().BoolVar(&anyCPU, "any-cpu", false, "of an image: "+anyCPUUsage)
	return cmd
}

// isImage tells an image from the name of a container.
func isImage(arg string) bool { return strings.Contains(arg, "/") || arg == "." || arg == ".." }

// The outcomes of a probe.
const (
	probeYes     = "yes"
	probeNo      = "no"
	probeUnknown = "unknown"
)

type probeResult struct {
	Name   string `json:"name"`
	For    string `json:"for"`
	Since  string `json:"since"`
	Need   string `json:"need"`
	Result string `json:"result"`
	Reason string `json:"reason,omitempty"`
}

func checkKernel(a *app, probes []kernel.Probe, asJSON bool) error {
	var rs []probeResult
	var missing []string
	for _, p := range probes {
		r := probeResult{Name: p.Name, For: p.For, Since: p.Since, Need: string(p.Need), Result: probeYes}
		if err := p.Try(); err != nil {
			r.Result, r.Reason = probeUnknown, err.Error()
			if errors.Is(err, failure.ErrUnsupported) {
				r.Result = probeNo
			}
			if p.Need == kernel.Required {
				missing = append(missing, p.Name)
			}
		}
		rs = append(rs, r)
	}
	if asJSON {
		if err := a.printJSON(rs); err != nil {
			return err
		}
	} else if _, err := fmt.Fprint(a.out, probeTable(rs)); err != nil {
		return err
	}
	if len(missing) > 0 {
		return failure.WithHint(failure.Unsupportedf("this kernel lacks, or keeps from uid %d: %s", os.Geteuid(), strings.Join(missing, ", ")),
			"ckpt cannot work without; run it on a newer kernel, or as root")
	}
	return nil
}

// probeTable gives a line a probe, and for what is not there what it is for
// and why it is missing.
func probeTable(rs []probeResult) string {
	cols := []column{{"FEATURE", false}, {"SINCE", false}, {"NEED", false}, {"HERE", false}}
	var rows [][]string
	for _, r := range rs {
		rows = append(rows, []string{r.Name, r.Since, r.Need, r.Result})
	}
	lines := strings.Split(strings.TrimSuffix(table(cols, rows, 2), "\n"), "\n")
	var b strings.Builder
	b.WriteString(lines[0] + "\n")
	for i, r := range rs {
		b.WriteString(lines[i+1] + "\n")
		if r.Result != probeYes {
			fmt.Fprintf(&b, "  %s\n  -> %s\n", oneLine(r.Reason), r.For)
		}
	}
	return b.String()
}

func checkContainer(ctx context.Context, a *app, name string, o dump.Options, asJSON bool) error {
	c, err := a.find(name)
	if err != nil {
		if fi, serr := os.Stat(name); serr == nil && (fi.IsDir() || fi.Mode().IsRegular()) {
			err = failure.WithHint(err, "an image is told from it by a slash: ckpt check ./"+failure.Quote(name))
		}
		return err
	}
	src, giveBack, err := dumpSource(c)
	if err != nil {
		return err
	}
	defer giveBack()
	return checkSource(ctx, a, src, o, asJSON)
}

// checkTree tells whether processes that are in no container would dump.
func checkTree(ctx context.Context, a *app, pid int, o dump.Options, asJSON bool) error {
	src, err := a.adopt(pid)
	if err != nil {
		return &failure.Error{Doing: "check", Err: err}
	}
	return checkSource(ctx, a, src, o, asJSON)
}

func checkSource(ctx context.Context, a *app, src dump.Source, o dump.Options, asJSON bool) error {
	log, err := a.logger()
	if err != nil {
		return err
	}
	o.Log = log
	refusals, unseen, estimate, err := dump.Check(ctx, src, o)
	if err != nil {
		return interrupted(ctx, "check "+src.Name, err)
	}
	stopped, err := estimate.Stopped()
	if err != nil {
		return err
	}
	if asJSON {
		return tellRefusals(a, checkResult{Name: src.Name, Dumps: len(refusals) == 0, Refusals: refusalsJSON(refusals), Unseen: append([]string{}, unseen...),
			Estimate: estimateJSON{estimate, stopped}}, "", refusals)
	}
	return tellRefusals(a, nil, refusalText(src.Name, "dump", refusals)+estimateText(estimate, stopped)+unseenText(refusals, unseen), refusals)
}

// estimateText tells how much there is to do.
func estimateText(e dump.Estimate, stopped time.Duration) string {
	processes := "1 process"
	if e.Processes != 1 {
		processes = fmt.Sprintf("%d processes", e.Processes)
	}
	return fmt.Sprintf("  about %s of memory in %s, stopped for about %s with --leave-running, else until it is on disk\n", bytesText(e.Bytes), processes, tookText(stopped))
}

// unseenText tells, of what would dump, how far that is known.
func unseenText(refusals []error, unseen []string) string {
	if len(refusals) > 0 || len(unseen) == 0 {
		return ""
	}
	return "  not looked at, since it takes a stop: " + strings.Join(unseen, "; ") + "\n"
}

// checkImage tells whether an image would restore here.
func checkImage(ctx context.Context, a *app, o restore.Options, asJSON bool) error {
	log, err := a.logger()
	if err != nil {
		return err
	}
	o.Log = log
	refusals, m, err := restore.Check(ctx, o)
	if err != nil {
		return interrupted(ctx, "check "+o.Dir, err)
	}
	if asJSON {
		return tellRefusals(a, imageCheckResult{Image: o.Dir, Name: imageName(m), Restores: len(refusals) == 0, Refusals: refusalsJSON(refusals)}, "", refusals)
	}
	return tellRefusals(a, nil, refusalText(o.Dir, "restore here", refusals), refusals)
}

// tellRefusals prints the answer, as JSON where there is one; the exit code
// says whether anything was refused.
func tellRefusals(a *app, asJSON any, text string, refusals []error) error {
	var err error
	if asJSON != nil {
		err = a.printJSON(asJSON)
	} else {
		_, err = fmt.Fprint(a.out, text)
	}
	if err == nil && len(refusals) > 0 {
		return programStatus(failure.CodeUnsupported) // told on standard output
	}
	return err
}

// refusalText is what `ckpt check NAME` and `ckpt check DIR` print.
func refusalText(name, what string, refusals []error) string {
	if len(refusals) == 0 {
		return name + ": would " + what + "\n"
	}
	var b strings.Builder
	stand := "things stand"
	if len(refusals) == 1 {
		stand = "thing stands"
	}
	fmt.Fprintf(&b, "%s: would not %s: %d %s in the way\n", name, what, len(refusals), stand)
	for _, r := range refusals {
		text := r.Error()
		if e, ok := errors.AsType[*failure.Error](r); ok {
			short := *e
			short.Doing = ""
			text = short.Error()
		}
		fmt.Fprintf(&b, "  %s\n", oneLine(text))
		for _, h := range failure.Hints(r) {
			fmt.Fprintf(&b, "    -> %s\n", oneLine(h))
		}
	}
	return b.String()
}

type checkResult struct {
	Name     string       `json:"name"`
	Dumps    bool         `json:"dumps"`
	Refusals []refusal    `json:"refusals"`
	Unseen   []string     `json:"unseen"` // what only a dump looks at
	Estimate estimateJSON `json:"estimate"`
}

type estimateJSON struct {
	dump.Estimate
	Stopped time.Duration `json:"stopped_ns"` // with --leave-running
}

type imageCheckResult struct {
	Image    string    `json:"image"`
	Name     string    `json:"name"`
	Restores bool      `json:"restores"`
	Refusals []refusal `json:"refusals"`
}

type refusal struct {
	VPID   int      `json:"vpid,omitempty"`
	Comm   string   `json:"comm,omitempty"`
	What   string   `json:"what,omitempty"`
	Reason string   `json:"reason"`
	Hints  []string `json:"hints,omitempty"`
}

func refusalsJSON(refusals []error) []refusal {
	out := []refusal{}
	for _, r := range refusals {
		j := refusal{Reason: r.Error(), Hints: failure.Hints(r)}
		if e, ok := errors.AsType[*failure.Error](r); ok {
			j.VPID, j.Comm, j.Reason = e.VPID, e.Comm, e.What // the subject says it all
			if e.Err != nil {
				j.What, j.Reason = e.What, e.Err.Error()
			}
		}
		out = append(out, j)
	}
	return out
}
