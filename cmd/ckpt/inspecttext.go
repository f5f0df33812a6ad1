package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/image"
)

// summaryText is what `ckpt inspect` prints.
func summaryText(s *image.Summary) string {
	var b strings.Builder
	b.WriteString(summaryHead(s))
	b.WriteString("\n" + treeText(s.Processes))
	if len(s.Sockets) > 0 {
		b.WriteString("\n" + socketsText(s.Sockets))
	}
	for i := range s.Processes {
		if p := &s.Processes[i]; p.State != "zombie" {
			b.WriteString("\n" + processText(p))
		}
	}
	return b.String()
}

// processText is what stands of a process below the tree.
func processText(p *image.Process) string {
	var b strings.Builder
	fmt.Fprintf(&b, "pid %d (%s): ", p.VPID, plain(p.Comm))
	if p.Cwd != "" {
		fmt.Fprintf(&b, "in %s, ", plain(p.Cwd))
	}
	fmt.Fprintf(&b, "uid %d, gid %d\n", p.UID, p.GID)
	for _, r := range [][2]string{{"memory", memoryText(p)}, {"threads", threadsText(p)}, {"timers", timersText(p.Timers)}, {"signals", signalsText(p.Pending)}} {
		if r[1] != "" {
			fmt.Fprintf(&b, "  %-8s %s\n", r[0], r[1])
		}
	}
	if len(p.Files) > 0 {
		b.WriteString(filesText(p.Files))
	}
	return b.String()
}

func memoryText(p *image.Process) string {
	var parts []string
	m := p.Memory
	for _, a := range []struct {
		n    uint64
		what string
	}{{m.Anonymous.Saved, "private"}, {m.Heap.Saved, "heap"}, {m.Stack.Saved, "stack"}, {m.FilePrivate.Saved, "of files"}, {m.Shared.Saved, "shared"}} {
		if a.n > 0 {
			parts = append(parts, bytesText(a.n)+" "+a.what)
		}
	}
	if m.Mapped > 0 {
		parts = append(parts, bytesText(m.Mapped)+" mapped")
	}
	if p.SharesMemory != 0 {
		parts = append(parts, fmt.Sprintf("the same as that of pid %d", p.SharesMemory))
	}
	return strings.Join(parts, ", ")
}

// threadsText lists the threads of a process that has several.
func threadsText(p *image.Process) string {
	const most = 10
	if len(p.Threads) < 2 {
		return ""
	}
	var parts []string
	for _, t := range p.Threads[:min(len(p.Threads), most)] {
		parts = append(parts, fmt.Sprintf("%d (%s)", t.VTID, plain(t.Comm)))
	}
	if more := len(p.Threads) - most; more > 0 {
		parts = append(parts, fmt.Sprintf("%d others", more))
	}
	return strings.Join(parts, ", ")
}

func timersText(ts []image.Timer) string {
	var parts []string
	for _, t := range ts {
		name := t.Type
		if t.ID != nil {
			name += " " + u32(*t.ID)
		}
		if t.Signal != 0 {
			name += " " + signalText(t.Signal)
		}
		switch {
		case t.Left == 0:
			name += " not armed"
		case t.Interval == 0:
			name += fmt.Sprintf(" in %v", t.Left.Round(time.Millisecond))
		default:
			name += fmt.Sprintf(" in %v, then every %v", t.Left.Round(time.Millisecond), t.Interval)
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, "; ")
}

func signalsText(ns []uint32) string {
	if len(ns) == 0 {
		return ""
	}
	var parts []string
	for _, n := range ns {
		parts = append(parts, signalText(n))
	}
	return strings.Join(parts, ", ") + " pending"
}

func signalText(n uint32) string {
	if name := unix.SignalName(unix.Signal(n)); name != "" {
		return name
	}
	return "signal " + u32(n)
}

func socketsText(ss []image.Socket) string {
	const most = 5
	var rows [][]string
	for _, s := range ss {
		var pids []string
		for _, v := range s.VPIDs[:min(len(s.VPIDs), most)] {
			pids = append(pids, u32(v))
		}
		if more := len(s.VPIDs) - most; more > 0 {
			pids = append(pids, fmt.Sprintf("and %d others", more))
		}
		rows = append(rows, []string{u32(s.ID), s.Type, plain(s.What), strings.Join(pids, " ")})
	}
	return table([]column{{"SOCKET", true}, {"TYPE", false}, {"WHAT", false}, {"VPIDS", false}}, rows, 2)
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
	add("processor", plain(s.CPU))
	add("host name", plain(s.HostName))
	add("size", fmt.Sprintf("%s, for %s memory of processes", bytesText(uint64(s.Size)), bytesText(s.Memory.Saved)))
	add("stored", storedText(s))
	add("pages", pagesText(s))
	if s.OwnNetwork {
		add("network", "its own")
	}
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%-10s %s\n", r[0], r[1])
	}
	return b.String()
}

// storedText says how the files of an image are stored, if not plainly.
func storedText(s *image.Summary) string {
	var parts []string
	if s.Compressed {
		parts = append(parts, "compressed")
	}
	if s.Encrypted {
		parts = append(parts, "encrypted")
	}
	if s.SignedBy != "" {
		parts = append(parts, "signed by "+s.SignedBy)
	}
	return strings.Join(parts, ", ")
}

// pagesText says where contents of memory are, if not all of them are this image's,
// once each.
func pagesText(s *image.Summary) string {
	p := s.Pages
	if p.Common+p.InParent == 0 {
		return ""
	}
	text := bytesText(p.Stored) + " stored"
	if s.Compressed {
		text += " (before compression)"
	}
	if p.Common > 0 {
		text += fmt.Sprintf(", %s in common", bytesText(p.Common))
	}
	if p.InParent > 0 {
		text += fmt.Sprintf(", %s in the parent image %s", bytesText(p.InParent), plain(s.Parent))
	}
	return text
}

func treeText(ps []image.Process) string {
	cols := []column{{"VPID", true}, {"PPID", true}, {"PGID", true}, {"SID", true}, {"THREADS", true},
		{"STATE", false}, {"MEMORY", true}, {"COMMAND", false}}
	depth := depths[uint32]{}
	var rows [][]string
	for _, p := range ps {
		d := depth.of(p.VPID, p.VPPID)
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
