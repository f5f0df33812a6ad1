// Command bench measures dump and restore: how long they take, and how long
// the container stands still meanwhile.
//
//	go run ./e2e/bench [-ckpt ./ckpt] [-dir DIR] [-runs 5] [-only NAME]
//
// Figures are those of `ckpt dump --json` and `ckpt restore --json`, medians
// of several runs. Memory is written with bytes that do not repeat.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// figures are what ckpt tells about a dump or a restore.
type figures struct {
	Processes int   `json:"processes"`
	Threads   int   `json:"threads"`
	Bytes     int64 `json:"bytes"`
	FrozenNS  int64 `json:"frozen_ns"`
	TotalNS   int64 `json:"total_ns"`
}

// load is one thing to be measured.
type load struct {
	name    string
	command []string
}

// bench is one run of this command.
type bench struct {
	ckpt, dir string
	runs      int
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "hold" {
		hold(os.Args[2], os.Args[3])
		return
	}
	var b bench
	flag.StringVar(&b.ckpt, "ckpt", "./ckpt", "the ckpt to measure")
	flag.StringVar(&b.dir, "dir", os.TempDir(), "where images are written")
	flag.IntVar(&b.runs, "runs", 5, "dumps and restores of each")
	only := flag.String("only", "", "measure this one alone")
	flag.Parse()
	if err := b.all(*only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) all(only string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	loads := []load{
		{"tiny process", []string{"/bin/sleep", "infinity"}},
		{"100 MB", []string{self, "hold", "memory", "100"}},
		{"1 GB", []string{self, "hold", "memory", "1000"}},
		{"100 processes", []string{self, "hold", "processes", "100"}},
		{"1000 threads", []string{self, "hold", "threads", "1000"}},
	}
	if b.ckpt, err = filepath.Abs(b.ckpt); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(b.dir, "ckpt-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	describe(b.dir)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer w.Flush()
	fmt.Fprintln(w, "load\tprocesses\tthreads\tMB\tfrozen ms\tdump ms\trestore ms\tdump GB/s\trestore GB/s\t")
	for _, l := range loads {
		if only != "" && only != l.name {
			continue
		}
		d, r, err := b.measure(l)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t%s\t%s\t\n", l.name, d.Processes, d.Threads, float64(d.Bytes)/1e6,
			ms(d.FrozenNS), ms(d.TotalNS), ms(r.TotalNS), speed(d.Bytes, d.TotalNS), speed(d.Bytes, r.TotalNS))
	}
	return nil
}

func ms(ns int64) float64 { return float64(ns) / 1e6 }

// speed is "-" for what is too small to tell.
func speed(bytes, ns int64) string {
	if bytes < 50e6 || ns == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(bytes)/float64(ns))
}

// measure takes a load through all its dumps and restores.
func (b *bench) measure(l load) (d, r figures, err error) {
	const name = "bench"
	if err := b.do(nil, append([]string{"start", name, "--"}, l.command...)...); err != nil {
		return d, r, err
	}
	defer func() { err = errors.Join(err, b.do(nil, "rm", "-f", name)) }()
	if l.command[0] != "/bin/sleep" {
		if err := b.ready(name); err != nil {
			return d, r, err
		}
	}
	var dumps, restores []figures
	for i := range b.runs {
		image := filepath.Join(b.dir, fmt.Sprintf("image%d", i))
		var dump, restore figures
		if err := b.do(&dump, "dump", "--json", name, image); err != nil {
			return d, r, err
		}
		if err := b.do(&restore, "restore", "--json", image); err != nil {
			return d, r, err
		}
		dumps, restores = append(dumps, dump), append(restores, restore)
		if err := os.RemoveAll(image); err != nil {
			return d, r, err
		}
	}
	return median(dumps), median(restores), nil
}

// do runs ckpt and reads its standard output into v, unless that is nil.
func (b *bench) do(v any, args ...string) error {
	cmd := exec.Command(b.ckpt, args...)
	cmd.Env = append(os.Environ(), "CKPT_STATE="+filepath.Join(b.dir, "state"))
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("ckpt %s: %w\n%s", strings.Join(args, " "), err, errs.String())
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(out, v)
}

// ready waits until the container's program has said that it holds what it has to.
func (b *bench) ready(name string) error {
	for deadline := time.Now().Add(time.Minute); ; {
		log, err := os.ReadFile(filepath.Join(b.dir, "state", name, "log"))
		if err != nil {
			return err
		}
		if strings.Contains(string(log), "ready\n") {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after a minute: %s", log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func median(fs []figures) figures {
	out := fs[0]
	pick := func(get func(figures) int64) int64 {
		var v []int64
		for _, f := range fs {
			v = append(v, get(f))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	out.FrozenNS = pick(func(f figures) int64 { return f.FrozenNS })
	out.TotalNS = pick(func(f figures) int64 { return f.TotalNS })
	return out
}

// hold is the program that is measured: n megabytes, processes or threads.
func hold(what, count string) {
	n, err := strconv.Atoi(count)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench hold:", err)
		os.Exit(2)
	}
	if err := holds[what](n); err != nil {
		fmt.Fprintln(os.Stderr, "bench hold:", err)
		os.Exit(1)
	}
}
