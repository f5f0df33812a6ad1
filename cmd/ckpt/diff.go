package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/inspect/diff"
)

func newDiffCommand(a *app) *cobra.Command {
	var asJSON, exitCode bool
	var keys keyFlags
	cmd := &cobra.Command{
		Use:   "diff DIR DIR2",
		Short: "Tell what differs between two images",
		Long: `Tell what is different in the image DIR2 from the older one DIR: which processes
came and ended, which have run (their registers differ), and of each what differs: memory by mapping (in
whole pages), mappings, descriptors, signals, credentials, limits, timers and all else
that an image holds. Processes are the same if they have the same id inside. When the
images were made, how long the container has lived, and how much time is left until a
timer goes off, is no difference.

Memory is compared page by page. What both images have in the same place with the
same checksum is not read.`,
		Example: `  ckpt diff ./monday ./tuesday
  ckpt diff --exit-code ./a ./b >changes || echo not the same`,
		Args: args("", "DIR", "DIR2"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runDiff(cmd.Context(), a, keys, args[0], args[1], asJSON, exitCode)
		},
	}
	keys.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 1 if they differ, else 0")
	return cmd
}

func runDiff(ctx context.Context, a *app, keys keyFlags, before, after string, asJSON, exitCode bool) error {
	var rs [2]*image.Reader
	for i, dir := range []string{before, after} {
		r, err := keys.open(ctx, a, "diff", dir)
		if err != nil {
			return err
		}
		defer r.Close()
		rs[i] = r
	}
	shown := a.wait("diff", after)
	rs[1].Report(shown.here)
	report, err := diff.Compare(ctx, rs[0], rs[1])
	shown.end()
	if err != nil {
		return interrupted(ctx, "diff", fmt.Errorf("diff: %w", err))
	}
	if asJSON {
		err = a.printJSON(report)
	} else {
		_, err = fmt.Fprint(a.out, diffText(report))
	}
	if err == nil && exitCode && !report.Same {
		return programStatus(failure.CodeFailed)
	}
	return err
}

// diffText is what `ckpt diff` prints: a paragraph a process.
func diffText(r *diff.Report) string {
	if r.Same {
		return "the same, but for the time\n"
	}
	var b strings.Builder
	for _, c := range r.Container {
		b.WriteString(changeText(c) + "\n")
	}
	for _, id := range r.Ended {
		fmt.Fprintf(&b, "pid %d (%s) ended: %s\n", id.VPID, plain(id.Comm), commandText(id.Command))
	}
	for _, id := range r.Came {
		fmt.Fprintf(&b, "pid %d (%s) came, of pid %d: %s\n", id.VPID, plain(id.Comm), parentShown(id.VPID, id.VPPID), commandText(id.Command))
	}
	for _, p := range r.Processes {
		fmt.Fprintf(&b, "pid %d (%s)%s\n", p.VPID, plain(p.Comm), ranText(p))
		for _, c := range p.Changes {
			b.WriteString("  " + changeText(c) + "\n")
		}
		var rows [][]string
		for _, m := range p.Memory {
			rows = append(rows, []string{amountText(m.Amount), plain(m.Mapping)})
		}
		if len(rows) > 0 {
			b.WriteString(indent(table([]column{{"MEMORY", false}, {"MAPPING", false}}, rows, 2)))
		}
	}
	if r.Memory != (diff.Amount{}) {
		fmt.Fprintf(&b, "memory of all: %s\n", amountText(r.Memory))
	}
	return b.String()
}

func changeText(c diff.Change) string {
	was, is := plain(c.Was), plain(c.Is)
	switch {
	case c.Was == "":
		return fmt.Sprintf("%s: now %s", plain(c.What), is)
	case c.Is == "":
		return fmt.Sprintf("%s: no longer %s", plain(c.What), was)
	}
	return fmt.Sprintf("%s: %s -> %s", plain(c.What), was, is)
}

func ranText(p diff.Process) string {
	switch n := len(p.Ran); {
	case n == 0:
		return ": its registers are as they were"
	case n == 1 && p.Ran[0] == p.VPID:
		return " ran"
	default:
		const most = 10
		var ids []string
		for _, id := range p.Ran[:min(n, most)] {
			ids = append(ids, u32(id))
		}
		if n > most {
			ids = append(ids, fmt.Sprintf("%d others", n-most))
		}
		return " ran: threads " + strings.Join(ids, ", ")
	}
}

func amountText(a diff.Amount) string {
	var parts []string
	for _, p := range []struct {
		n    uint64
		what string
	}{{a.Changed, "changed"}, {a.Added, "added"}, {a.Removed, "removed"}} {
		if p.n > 0 {
			parts = append(parts, bytesText(p.n)+" "+p.what)
		}
	}
	return strings.Join(parts, ", ")
}

// parentShown: a process whose parent is not in the image is a child of ckpt's init.
func parentShown(vpid, vppid uint32) uint32 {
	if vppid == 0 && vpid != 1 {
		return 1
	}
	return vppid
}
