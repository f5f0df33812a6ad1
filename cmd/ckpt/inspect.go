package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ckpt/image"
)

func newInspectCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect DIR",
		Short: "Tell what is in an image: process tree, memory, files, sockets, ids",
		Long: `Tell what is in an image: process tree, memory, files, sockets, ids. Contents
of memory are not read: ckpt verify does that.`,
		Args: args("", "DIR"),
		RunE: func(_ *cobra.Command, args []string) error { return runInspect(a, args[0], asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func runInspect(a *app, dir string, asJSON bool) error {
	r, err := image.Open(dir)
	if err != nil {
		return err
	}
	defer r.Close()
	s, err := image.Summarize(r)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if asJSON {
		return a.printJSON(s)
	}
	_, err = fmt.Fprint(a.out, summaryText(s))
	return err
}

// summaryText is what `ckpt inspect` prints.
func summaryText(s *image.Summary) string {
	var b strings.Builder
	b.WriteString(summaryHead(s))
	b.WriteString("\n" + treeText(s.Processes))
	for _, p := range s.Processes {
		if len(p.Files) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\npid %d (%s):", p.VPID, plain(p.Comm))
		if p.Cwd != "" {
			fmt.Fprintf(&b, " in %s", plain(p.Cwd))
		}
		b.WriteString("\n" + filesText(p.Files))
	}
	return b.String()
}

func summaryHead(s *image.Summary) string {
	var rows [][]string
	add := func(what, text string) {
		if text != "" {
			rows = append(rows, []string{what, text})
		}
	}
	add("container", plain(s.Name))
	add("command", commandText(s.Command))
	if s.Created != nil {
		add("saved", s.Created.Local().Format(time.DateTime))
	}
	from := strings.TrimSpace(plain(s.Kernel) + " " + plain(s.Arch))
	if from != "" {
		from = " on Linux " + from
	}
	add("made by", s.MadeBy+from)
	add("size", fmt.Sprintf("%s, of which %s memory of processes", bytesText(uint64(s.Size)), bytesText(s.Memory.Saved)))
	if s.OwnNetwork {
		add("network", "its own")
	}
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%-10s %s\n", r[0], r[1])
	}
	return b.String()
}

func treeText(ps []image.Process) string {
	cols := []column{{"VPID", true}, {"PPID", true}, {"PGID", true}, {"SID", true}, {"THREADS", true},
		{"STATE", false}, {"MEMORY", true}, {"COMMAND", false}}
	depth := map[uint32]int{}
	var rows [][]string
	for _, p := range ps {
		d, listed := depth[p.VPPID]
		if listed {
			d++
		}
		depth[p.VPID] = d
		ppid := parentShown(p.VPID, p.VPPID)
		cmd := commandText(p.Command)
		if cmd == "" {
			cmd = "[" + plain(p.Comm) + "]"
		}
		rows = append(rows, []string{u32(p.VPID), u32(ppid), u32(p.VPGID), u32(p.VSID), strconv.Itoa(len(p.Threads)),
			p.State, bytesText(p.Memory.Saved), branch(d) + cmd})
	}
	return table(cols, rows, 2)
}

func filesText(fs []image.File) string {
	var rows [][]string
	for _, f := range fs {
		rows = append(rows, []string{u32(f.FD), f.Type, plain(f.What)})
	}
	return indent(table([]column{{"FD", true}, {"TYPE", false}, {"WHAT", false}}, rows, 2))
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n  ") + "\n"
}

func plain(s string) string { return commandText([]string{s}) }

func u32(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
