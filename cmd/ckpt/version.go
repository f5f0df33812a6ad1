package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kernel"
)

// version of ckpt, of the commit that it is released with.
const version = "0.1.0"

// The commit it was built from, and the time of that (RFC 3339), as ci/build.sh sets
// them (-ldflags -X). Other builds have them from the Go tool, or not at all.
var commit, commitTime string

// versionInfo is what `ckpt version --json` prints.
type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Time    string `json:"time,omitempty"` // of the commit
	Go      string `json:"go"`
	Arch    string `json:"arch"`
	Kernel  struct {
		Since   string `json:"since"`   // the oldest that has all that is required
		Running string `json:"running"` // this one
	} `json:"kernel"`
	Image struct {
		Format uint32 `json:"format"` // that is written; older ones are read
	} `json:"image"`
}

func newVersionCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version, and what it is for",
		Long: `Print the version of ckpt, the commit and the Go it was built from, the oldest kernel
it works on, and the format of the images it writes. It reads those of every earlier
format. What the kernel that runs has is told by ckpt check.`,
		Example: `  ckpt version
  ckpt version --json`,
		Args: args(""),
		RunE: func(*cobra.Command, []string) error { return printVersion(a, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printVersion(a *app, asJSON bool) error {
	v := readVersion(debug.ReadBuildInfo)
	if asJSON {
		return a.printJSON(v)
	}
	_, err := fmt.Fprint(a.out, v.text())
	return err
}

func readVersion(build func() (*debug.BuildInfo, bool)) versionInfo {
	v := versionInfo{Version: version, Commit: commit, Time: commitTime, Go: runtime.Version(), Arch: runtime.GOARCH}
	if info, ok := build(); ok && v.Commit == "" {
		for _, s := range info.Settings {
			switch s.Key { // in the order of their names: modified, revision, time
			case "vcs.modified":
				if s.Value == "true" {
					v.Commit = "-dirty"
				}
			case "vcs.revision":
				v.Commit = s.Value + v.Commit
			case "vcs.time":
				v.Time = s.Value
			}
		}
	}
	v.Kernel.Since = oldestKernel(kernel.Probes())
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		v.Kernel.Running = unix.ByteSliceToString(u.Release[:])
	}
	v.Image.Format = image.Version
	return v
}

// oldestKernel has all that is required.
func oldestKernel(probes []kernel.Probe) string {
	oldest := "0"
	for _, p := range probes {
		if p.Need == kernel.Required && older(oldest, p.Since) {
			oldest = p.Since
		}
	}
	return oldest
}

// older tells whether kernel version x comes before y.
func older(x, y string) bool {
	a, b := strings.Split(x, "."), strings.Split(y, ".")
	for i := 0; i < len(a) && i < len(b); i++ {
		m, err := strconv.Atoi(a[i])
		n, nerr := strconv.Atoi(b[i])
		if err != nil || nerr != nil {
			return false // no version of a kernel
		}
		if m != n {
			return m < n
		}
	}
	return len(a) < len(b)
}

func (v versionInfo) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ckpt %s\n", v.Version)
	if v.Commit != "" {
		fmt.Fprintf(&b, "commit  %s%s\n", v.Commit, day(v.Time))
	}
	fmt.Fprintf(&b, "built   by %s for linux/%s\n", v.Go, v.Arch)
	fmt.Fprintf(&b, "kernel  Linux %s or later; this is %s\n", v.Kernel.Since, v.Kernel.Running)
	fmt.Fprintf(&b, "images  of format %d, and older ones\n", v.Image.Format)
	return b.String()
}

func day(t string) string {
	at, err := time.Parse(time.RFC3339, t)
	if err != nil {
		return ""
	}
	return " of " + at.UTC().Format(time.DateOnly)
}
