package criu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit"
	"github.com/checkpoint-restore/go-criu/v7/crit/cli"

	"ckpt/e2e/harness"
)

// images are the files of an image that CRIU has, too, below dir.
func images(t *testing.T, dir string) (out []string) {
	t.Helper()
	if err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		base := filepath.Base(name)
		if err == nil && strings.HasSuffix(base, ".img") && !strings.HasPrefix(base, "ckpt") && !strings.HasPrefix(base, "pages-") {
			out = append(out, filepath.Join(dir, name))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// Every file of an image that CRIU has, too, decodes with the crit of go-criu and
// with that of CRIU.
func TestDecode(t *testing.T) {
	t.Parallel()
	e := harness.New(t, "")
	s := e.Watch("criu", nil, harness.Program(t, "carried.c"), ".")
	image := s.Image()
	s.Dump(image)
	all := images(t, image)
	for _, want := range []string{"inventory", "pstree", "core-2", "core-3", "ids-2", "mm-2", "fs-2", "fdinfo-1", "files", "pagemap-2", "same-1/pagemap-4", "pagemap-shmem-0",
		"pipes-data", "fifo-data", "sk-queues", "memfd", "remap-fpath", "ghost-file-1", "utsns-1", "timens-1", "ipcns-var-1", "ipcns-shm-1", "ipcns-sem-1", "ipcns-msg-1"} {
		if !slices.Contains(all, filepath.Join(image, want+".img")) {
			t.Errorf("there is no %s.img among %s", want, all)
		}
	}
	for _, name := range all {
		// go-criu looks for the contents of a segment behind its entry, as in images
		// of 2012; CRIU has them in a pagemap.
		if err := decode(name); err != nil && filepath.Base(name) != "ipcns-shm-1.img" {
			t.Errorf("%s: %v", name, err)
		}
	}
	out, err := e.Command(context.Background(), "sh", append([]string{"-c", `crit=$1; shift; for f; do "$crit" show "$f" >/dev/null || echo "$f"; done`,
		"sh", harness.CRIU(t, "crit")}, oneEach(all)...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("crit: %v\n%s", err, out)
	}
}

// oneEach leaves one file of each format: CRIU's crit takes its time to start.
func oneEach(all []string) (out []string) {
	seen := map[string]bool{}
	for _, name := range all {
		format, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(name), ".img"), "-")
		if format == "ipcns" || format == "pagemap" { // there are several of the name
			format = strings.TrimRight(filepath.Base(name), "-0123456789.img")
		}
		if !seen[format] {
			seen[format] = true
			out = append(out, name)
		}
	}
	return out
}

// decode has go-criu's library read a file.
func decode(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	entry, err := cli.GetEntryTypeFromImg(f)
	if err != nil {
		return err
	}
	img, err := crit.New(f, nil, "", false, false).Decode(entry)
	if err != nil {
		return err
	}
	if len(img.Entries) == 0 {
		return errors.New("nothing is in it")
	}
	return nil
}

// tree is a program of several processes whose command lines stand in memory that
// they have in common.
func tree(t *testing.T, e *harness.Env) (image string) {
	t.Helper()
	c := e.Start("criu", nil, "/bin/sh", "-c", "exec 7<>/dev/null; sh -c 'echo ready; sleep 1000; :' told & (sleep 2000; :) & wait")
	c.Says("ready")
	image = e.Join("image")
	harness.Eventually(t, "all run", func() error {
		if n := len(c.Ps().Processes); n != 5 {
			return fmt.Errorf("%d processes", n)
		}
		return nil
	})
	c.Dump(image)
	return image
}

// crit explores an image as it does one of CRIU's, and finds what is in it.
func TestExplore(t *testing.T) {
	t.Parallel()
	e := harness.New(t, "")
	image := tree(t, e)
	for what, want := range map[string]string{"ps": "sleep", "fds": "/dev/null", "mems": "[vdso]", "rss": "/bin/dash"} {
		out, err := e.Command(context.Background(), harness.CRIU(t, "crit"), "x", image, what).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("crit x %s: %v\n%s", what, err, out)
		}
	}
	x := crit.New(nil, nil, image, false, false)
	ps, err := x.ExplorePs()
	if err != nil {
		t.Fatal(err)
	}
	var pids []uint32
	var walk func(p *crit.PsTree)
	walk = func(p *crit.PsTree) {
		pids = append(pids, p.PID)
		for _, c := range p.Children {
			walk(c)
		}
	}
	walk(ps)
	for _, pid := range pids {
		mem, err := crit.NewMemoryReader(image, pid, os.Getpagesize())
		if err != nil {
			t.Fatal(err)
		}
		args, err := mem.GetPsArgs()
		if err != nil || !strings.Contains(args.String(), "s") {
			t.Errorf("command line of pid %d: %v %q", pid, err, args)
		}
	}
	if len(pids) != 5 {
		t.Errorf("processes %v", pids)
	}
}

// checkpointctl looks into an image that is packed as a container's checkpoint is.
func TestCheckpointctl(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // it unpacks into a directory that only root may enter then
	}
	e := harness.New(t, "")
	image := tree(t, e)
	packed := e.Join("checkpoint.tar")
	pack(e, packed, image)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"show", packed}, "of-ckpt"},
		{[]string{"inspect", "--ps-tree", packed}, "[2]  sh"},
		{[]string{"inspect", "--ps-tree-cmd", packed}, "sh -c echo ready; sleep 1000; : told"},
		{[]string{"inspect", "--ps-tree-env", packed}, "CKPT_E2E="},
		{[]string{"inspect", "--files", packed}, "[REG 7]  /dev/null"},
		{[]string{"memparse", packed}, "sleep"},
		{[]string{"memparse", "--pid", "2", "--search", "exec 7<>/dev/null", packed}, "exec 7<>/dev/null"},
	} {
		out, err := e.Command(context.Background(), harness.CRIU(t, "checkpointctl"), tt.args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("checkpointctl %s: %v\n%s", strings.Join(tt.args, " "), err, out)
		}
	}
}

// pack makes of an image what podman makes of CRIU's.
func pack(e *harness.Env, to, image string) {
	e.T.Helper()
	e.Mkdir("packed")
	e.WriteFile("packed/config.dump", `{"id":"0123456789abcdef","name":"of-ckpt","rootfsImageName":"none","createdTime":"2026-01-01T00:00:00Z"}`)
	e.WriteFile("packed/spec.dump", `{"ociVersion":"1.0.0","annotations":{"io.container.manager":"libpod"}}`)
	const script = `cp -r "$1" packed/checkpoint && tar -C packed -cf "$2" .`
	if out, err := e.Command(context.Background(), "sh", "-c", script, "sh", image, to).CombinedOutput(); err != nil {
		e.T.Fatalf("%v\n%s", err, out)
	}
}
