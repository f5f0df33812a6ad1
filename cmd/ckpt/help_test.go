package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ckpt/kernel"
)

// visible are the commands that users see.
func visible(root *cobra.Command) (all []*cobra.Command) {
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() || c.Name() == "help" {
			all = append(all, c)
		}
	}
	return all
}

// TestHelpTellsAll: help, the manual and the README are for who does not know a command
// yet, so none may be missing there.
func TestHelpTellsAll(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, commands, _ := strings.Cut(string(readme), "\n## Commands\n")
	commands, _, _ = strings.Cut(commands, "\n## ")
	root := newRootCommand(&app{})
	for _, c := range visible(root) {
		for what, ok := range map[string]bool{
			"a group (cmd/ckpt/groups.go)":       c.GroupID != "",
			"a Short and a Long":                 c.Short != "" && c.Long != "",
			"an Example that runs it":            strings.Contains(c.Example, "ckpt "+c.Name()),
			"a line in the README, ## Commands":  strings.Contains(commands, "ckpt "+c.Name()),
			"a Short that begins with a capital": c.Short[:1] == strings.ToUpper(c.Short[:1]) && !strings.HasSuffix(c.Short, "."),
		} {
			if !ok {
				t.Errorf("ckpt %s lacks %s", c.Name(), what)
			}
		}
		c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) { flagIsTold(t, commands, "ckpt "+c.Name(), f) })
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if _, ok := (&app{}).completeFlags()[f.Name]; !ok && f.Value.Type() != "bool" && !f.Hidden {
				t.Errorf("--%s of ckpt %s: what a shell is to offer behind it is not said (completeFlags)", f.Name, c.Name())
			}
		})
	}
	root.Flags().VisitAll(func(f *pflag.Flag) { flagIsTold(t, commands, "ckpt", f) })
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { flagIsTold(t, commands, "every command", f) })
}

func flagIsTold(t *testing.T, readme, of string, f *pflag.Flag) {
	t.Helper()
	if f.Hidden || f.Name == "help" {
		return
	}
	forms := "--" + f.Name
	if f.Shorthand != "" {
		forms += "|-" + f.Shorthand
	}
	if !regexp.MustCompile(`(^|[^-\w])(` + forms + `)\b`).MatchString(readme) {
		t.Errorf("--%s of %s: the README does not tell of it (## Commands: a line below its command)", f.Name, of)
	}
	if f.Usage == "" {
		t.Errorf("--%s of %s has no words in its help", f.Name, of)
	}
}

// TestManPages: mandoc, which takes offence at more than man(1) does, finds nothing, and
// what has a meaning to troff is shown as it was written.
func TestManPages(t *testing.T) {
	root := newRootCommand(&app{})
	pages := manPages(root, versionInfo{Version: "1", Time: "2026-01-17T08:05:00Z"})
	if _, ok := pages["ckpt-dump.1"]; !ok || len(pages) < 15 {
		t.Fatalf("only %d pages", len(pages))
	}
	dir := t.TempDir()
	for name, text := range pages {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mandoc", "-T", "lint", "-W", "warning", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	out, err := exec.Command("mandoc", "-T", "ascii", "-O", "width=200", filepath.Join(dir, "ckpt-dump.1")).Output()
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(".\b").ReplaceAllString(string(out), "") // bold is typed twice
	for _, want := range []string{"ckpt-dump - save a container", "--compress[=LEVEL]", "       --leave-running\n", "2026-01-17", "  ckpt dump --pid 48213 ./tonight\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("ckpt-dump(1) has no %q:\n%s", want, text)
		}
	}
}

func TestManEscapes(t *testing.T) {
	var m roff
	m.paragraphs("a\\b\n.profile and --x \"y\"\n\n  '/it'")
	want := "a\\eb\n\\&.profile and \\-\\-x \\(dqy\\(dq\n.PP\n.nf\n  '/it'\n.fi\n"
	if d := cmp.Diff(want, m.String()); d != "" {
		t.Error(d)
	}
}

func TestVersion(t *testing.T) {
	v := readVersion(func() (*debug.BuildInfo, bool) {
		return &debug.BuildInfo{Settings: []debug.BuildSetting{
			{Key: "vcs.modified", Value: "true"}, {Key: "vcs.revision", Value: "4eb5c5"}, {Key: "vcs.time", Value: "2026-01-17T23:05:00-02:00"}}}, true
	})
	v.Go, v.Arch, v.Kernel.Running = "go1.26", "amd64", "6.18"
	want := "ckpt " + version + `
commit  4eb5c5-dirty of 2026-01-18
built   by go1.26 for linux/amd64
kernel  Linux 5.13 or later; this is 6.18
images  of format 1, and older ones
`
	if d := cmp.Diff(want, v.text()); d != "" {
		t.Error(d)
	}
	code, out, _ := run(t, "--version")
	_, same, _ := run(t, "version")
	if code != 0 || out != same || !strings.HasPrefix(out, "ckpt "+version+"\n") {
		t.Errorf("--version: code %d\n%s\nversion:\n%s", code, out, same)
	}
	if _, out, _ := run(t, "version", "--json"); !strings.Contains(out, `"since": "5.13"`) {
		t.Error(out)
	}
}

func TestOldestKernel(t *testing.T) {
	probes := []kernel.Probe{{Since: "2.6.14", Need: kernel.Required}, {Since: "5.3", Need: kernel.Required}, {Since: "5.13", Need: kernel.Required}, {Since: "6.7", Need: kernel.Optional}}
	if got := oldestKernel(probes); got != "5.13" {
		t.Error(got)
	}
}

func TestArguments(t *testing.T) {
	for use, want := range map[string][]string{
		"start NAME [flags] -- CMD [ARG...]":      {"NAME"},
		"dump {NAME | --pid PID} DIR":             {"NAME", "DIR"},
		"kill NAME [-s SIGNAL]":                   {"NAME"},
		"rm [-f] NAME...":                         {"NAME..."},
		"check [NAME | DIR | --pid PID]":          {"NAME", "DIR"},
		"core DIR VPID FILE":                      {"DIR", "VPID", "FILE"},
		"ps [NAME | --pid PID]":                   {"NAME"},
		"version":                                 nil,
		"check [NAME | DIR | --pid PID | --json]": {"NAME", "DIR"},
	} {
		if d := cmp.Diff(want, arguments(use)); d != "" {
			t.Errorf("%s:\n%s", use, d)
		}
	}
}

func TestComplete(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"dump --tcp ", "keep\nclose\n:4"},
		{"restore --log-level ", "debug\ninfo\nwarn\nerror\n:4"},
		{"dump x ", ":16"},
		{"dump x --parent ", ":16"},
		{"dump --pid 1 ", ":16"},
		{"dump x d ", ":4"},
		{"exec x -- ", ":0"},
		{"start ", ":4"},
		{"inspect ", ":0"},
		{"check ./", ":0"},
		{"completion ", "bash\nzsh\nfish\n:4"},
		{"version ", ":4"},
	} {
		args := append([]string{"__completeNoDesc"}, strings.Split(c.line, " ")...)
		if _, out, _ := run(t, args...); out != c.want+"\n" {
			t.Errorf("%q: %q, want %q", c.line, out, c.want)
		}
	}
}
