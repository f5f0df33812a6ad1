package shapes

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// Pid namespaces below the container's.
var spaces = []shape{
	{name: "killed", build: func(p *puppet) {
		p.clone("root", "first", unix.CLONE_NEWPID, unix.SIGCHLD)
		p.fork("first", "below")
		p.kill("first")
		p.clone("root", "alive", unix.CLONE_NEWPID, unix.SIGCHLD)
		p.fork("alive", "child")
	}, after: func(p *puppet) {
		waited(p, "root", "first", killed(unix.SIGKILL), 0)
		is(p, "parent of a child", p.look("child").PPID, 1)
		p.kill("alive")
		waited(p, "root", "alive", killed(unix.SIGKILL), 0)
	}},
	{name: "first processes in the memory of the command", build: func(p *puppet) {
		p.clone("root", "first", unix.CLONE_NEWPID|vm, unix.SIGCHLD)
		p.clone("first", "deeper", unix.CLONE_NEWPID|vm, unix.SIGCHLD)
		p.exit("deeper", 0)
		p.wait("first", "deeper", 0)
	}, after: func(p *puppet) {
		together(p, vm, "root", "first")
		is(p, "the next pid", p.fork("first", "next"), 3)
	}},
}

// TestSpaces are shapes that take root.
func TestSpaces(t *testing.T) {
	for _, s := range spaces {
		if !harness.AsRoot("") {
			continue
		}
		for how, flags := range starts {
			t.Run(s.name+"/"+how+"/restored", func(t *testing.T) { restored(t, s, "", flags) })
			t.Run(s.name+"/"+how+"/left running", func(t *testing.T) { leftRunning(t, s, "", flags) })
		}
	}
}

// nested are the ids of every thread in all pid namespaces that know it, but
// for the host's; by its number in the container.
func (p *puppet) nested(ps harness.Ps) map[string]string {
	p.t.Helper()
	out := map[string]string{}
	for _, q := range ps.Processes {
		for _, th := range q.Threads {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", q.PID, th.TID))
			if err != nil {
				p.t.Fatal(err)
			}
			var ids []string
			for _, what := range []string{"NStgid", "NSpid", "NSpgid", "NSsid"} {
				_, line, _ := strings.Cut(string(b), "\n"+what+":")
				line, _, _ = strings.Cut(line, "\n")
				ids = append(ids, fmt.Sprint(what, " ", strings.Fields(line)[1:]))
			}
			out[fmt.Sprint("thread ", th.VTID)] = strings.Join(ids, ", ")
		}
	}
	return out
}

// unborn is the namespace of children that has no process yet.
const unborn = "one that is yet to begin"

// pidSpaces are the pid namespace of every living process and the one its
// children are born in.
func (p *puppet) pidSpaces(ps harness.Ps) (own, children map[int]string) {
	p.t.Helper()
	own, children = map[int]string{}, map[int]string{}
	for vpid, host := range p.living(ps) {
		link := func(name string) string {
			s, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", host, name))
			if errors.Is(err, unix.ENOENT) && name == "pid_for_children" {
				return unborn
			}
			if err != nil {
				p.t.Fatal(err)
			}
			return s
		}
		own[vpid], children[vpid] = link("pid"), link("pid_for_children")
	}
	return own, children
}

// spaces names the namespaces of pidSpaces by the first process that lives there.
func (p *puppet) spaces(ps harness.Ps) map[string]string {
	p.t.Helper()
	own, children := p.pidSpaces(ps)
	first := map[string]string{unborn: unborn}
	for _, vpid := range slices.Sorted(maps.Keys(own)) {
		if first[own[vpid]] == "" {
			first[own[vpid]] = fmt.Sprint("that of pid ", vpid)
		}
	}
	out := map[string]string{}
	for vpid := range own {
		out[fmt.Sprint("pid ", vpid)] = first[own[vpid]] + ", of its children " + first[children[vpid]]
	}
	return out
}

// namespaces are those that processes live in.
func (s state) namespaces() map[string]bool {
	out := map[string]bool{}
	for _, is := range s.spaces {
		own, _, _ := strings.Cut(is, ",")
		out[own] = true
	}
	return out
}

// barren are the processes that can have no children any more, since the
// first process of the namespace these would be born in has ended.
func (p *puppet) barren() (vpids []int) {
	p.t.Helper()
	own, children := p.pidSpaces(p.c.Ps())
	there := slices.Collect(maps.Values(own))
	for _, vpid := range slices.Sorted(maps.Keys(children)) {
		if s := children[vpid]; s != unborn && !slices.Contains(there, s) {
			vpids = append(vpids, vpid)
		}
	}
	return vpids
}

var outerGroup = regexp.MustCompile(`pid (\d+) \(\w+\) is in group (\d+), which was made outside of its pid namespace`)

// unnamed tells whether the refusal is that of a group that a process has no
// number for, and so it is: another one than its session's own.
func (p *puppet) unnamed(refusal string) bool {
	p.t.Helper()
	m := outerGroup.FindStringSubmatch(refusal)
	if m == nil {
		return false
	}
	ps := p.c.Ps()
	i := slices.IndexFunc(ps.Processes, func(q harness.Process) bool { return strconv.Itoa(q.VPID) == m[1] })
	if i < 0 {
		return false
	}
	q := ps.Processes[i]
	ids := p.nested(harness.Ps{Processes: []harness.Process{q}})
	return strconv.Itoa(q.VPGID) == m[2] && q.VPGID != q.VSID && strings.Contains(ids[fmt.Sprint("thread ", q.VPID)], " 0], NSsid")
}
