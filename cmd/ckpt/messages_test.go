package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/pidns"
)

func vp(n int) pidns.VPID    { return pidns.VPID(n) }
func hp(n int) pidns.HostPID { return pidns.HostPID(n) }

func TestReport(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
		code int
	}{
		{nil, "", 0},
		{errors.New("x"), "ckpt: error: x\n", 1},
		{&failure.Error{Doing: "dump", VPID: 7, Comm: "nginx", What: "fd 12",
			Err: failure.WithHint(failure.Unsupportedf("unix socket: outside"), "close it", "or keep it")},
			"ckpt: error: dump pid 7 (nginx): fd 12: unix socket: outside\nckpt: hint: close it\nckpt: hint: or keep it\n", 3},
		{errors.Join(failure.WithHint(errors.New("one\ntwo"), "same"), failure.WithHint(errors.New("three"), "same"), errors.New("three")),
			"ckpt: error: one two\nckpt: error: three\nckpt: hint: same\n", 1},
		{restoreFailed(failure.Mark(failure.ErrNameTaken, errors.New("a container named train is running")), "train", "./tonight"),
			`ckpt: error: restore: a container named train is running
ckpt: hint: give this one another name: ckpt restore ./tonight --name train2
ckpt: hint: or end that one: ckpt rm -f train
`, 5},
		{restoreFailed(failure.Mark(failure.ErrInterrupted, errors.New("x")), "train", "d"),
			"ckpt: error: restore train: interrupted; nothing was left behind\n", 130},
		{dumpFailed(failure.Mark(failure.ErrInterrupted, errors.New("x")), "train"),
			"ckpt: error: dump train: interrupted; it goes on as it was\n", 130},
		{dumpFailed(errors.Join(failure.Mark(failure.ErrInterrupted, errors.New("x")), errors.New("remove img.partial: input/output error")), "train"),
			"ckpt: error: dump train: interrupted\nckpt: error: remove img.partial: input/output error\n", 130},
		{notEnded(failure.Mark(failure.ErrInterrupted, errors.New("x")), "train", "img"), `ckpt: error: dump train: the image in img is whole, but not all of train has ended: interrupted
ckpt: hint: look whether it has: ckpt ps train
`, 1},
	} {
		var b bytes.Buffer
		report(&b, c.err)
		if d := cmp.Diff(c.want, b.String()); d != "" {
			t.Errorf("%v:\n%s", c.err, d)
		}
		if got := failure.Code(c.err); got != c.code {
			t.Errorf("%v: code %d, want %d", c.err, got, c.code)
		}
	}
}

// run executes a command line with an empty state directory.
func run(t *testing.T, args ...string) (code int, out, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	state := t.TempDir()
	a := &app{in: os.Stdin, out: &o, err: &e, uid: os.Geteuid(), getenv: func(k string) string {
		if k == "CKPT_STATE" {
			return state
		}
		return ""
	}}
	return a.run(context.Background(), args), o.String(), e.String()
}

// What is wrong on the command line is told with a way out, and is not done.
func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		want string // standard error
	}{
		{"strat x", 2, "ckpt: error: there is no command \"strat\"\nckpt: hint: did you mean start?\n"},
		{"frobnicate", 2, "ckpt: error: there is no command \"frobnicate\"\nckpt: hint: `ckpt --help` lists the commands\n"},
		{"start", 2, "ckpt: error: start: NAME is missing\nckpt: hint: usage: ckpt start NAME [flags] [-- CMD [ARG...]]\n"},
		{"start x echo hi", 2, "ckpt: error: start: the command to run stands after --\nckpt: hint: ckpt start x -- echo hi\n"},
		{"start -x", 2, "ckpt: error: unknown shorthand flag: 'x' in -x\nckpt: hint: `ckpt start --help` lists the flags\n" +
			"ckpt: hint: those of the command to run stand after --, with it: ckpt start NAME [flags] [-- CMD [ARG...]]\n"},
		{"start .x -- true", 2, "ckpt: error: \".x\" cannot name a container: it begins with '.'\nckpt: hint: a name has up to 64 letters (a to z, A to Z), digits, dots, dashes and underscores, and begins with a letter or a digit\n"},
		{"start x --net bridge -- true", 2, "ckpt: error: start: --net \"bridge\" is not a network\nckpt: hint: networks are host and none\n"},
		{"start x --hostname " + strings.Repeat("h", 65) + " -- true", 2, "ckpt: error: start: --hostname has 65 bytes\nckpt: hint: a host name has up to 64 bytes\n"},
		{"dump x y --progress dots", 2, "ckpt: error: --progress \"dots\" is not a way to show it\nckpt: hint: ways are auto, json and none\n"},
		{"start x --env =1 -- true", 2, "ckpt: error: start: --env \"=1\" is not NAME=VALUE\nckpt: hint: for example: --env PYTHONUNBUFFERED=1\n"},
		{"start x -a -- true", 2, "ckpt: error: start: -a shows a terminal, and the container is to have none\nckpt: hint: give it one: ckpt start -t -a x -- true\nckpt: hint: or follow what it writes: ckpt start x -- true; ckpt logs -f x\n"},
		{"start x", 2, "ckpt: error: show the terminal of x: standard input and output are not a terminal\nckpt: hint: run it in a terminal (in a script, script(1) makes one)\n"},
		{"start x --every 1ms --to d -- true", 2, "ckpt: error: start: --every 1ms is too often\nckpt: hint: 1s is the least; 10m is ten minutes\n"},
		{"start x --every 10m -- true", 2, "ckpt: error: start: it is not told where the images go\nckpt: hint: name a directory: --to DIR\n"},
		{"start x --every 10m --to= -- true", 2, "ckpt: error: invalid argument \"\" for \"--to\" flag: it is empty\nckpt: hint: `ckpt start --help` lists the flags\nckpt: hint: those of the command to run stand after --, with it: ckpt start NAME [flags] [-- CMD [ARG...]]\n"},
		{"start x --every 10m --keep 0 --to d -- true", 2, "ckpt: error: start: --keep 0 keeps no image\nckpt: hint: 1 keeps the last one only\n"},
		{"start x --keep 3 -- true", 2, "ckpt: error: start: --keep and --to are about the images that --every or --on-term makes\nckpt: hint: say when to save it: --every 10m, or --on-term\nckpt: hint: or leave them out\n"},
		{"start x --on-term=0 --to d -- true", 2, "ckpt: error: start: --on-term=0s is too short for a dump\nckpt: hint: 1s is the least; a minute if no time is given\n"},
		{"start x --tcp close -- true", 2, "ckpt: error: start: --tcp is about the images that --every or --on-term makes\nckpt: hint: leave it out; ckpt dump has it, too\n"},
		{"start x --resume -- true", 2, "ckpt: error: start: --resume is about the images that --every or --on-term makes\nckpt: hint: to bring back the newest image in a directory: ckpt restore --latest DIR\n"},
		{"restore --latest no/such", 1, "ckpt: error: restore: look for images in no/such: no such file or directory\n"},
		{"restore --latest .", 1, "ckpt: error: restore: there is no image in . that `ckpt start --every` or `--on-term` has made\nckpt: hint: name an image: ckpt restore IMAGE\n"},
		{"start x -- no-such-program", 1, "ckpt: error: no-such-program: not found in PATH\nckpt: hint: give its path, or install it\n"},
		{"ps x", 5, "ckpt: error: there is no container named x\nckpt: hint: `ckpt ps` lists the containers there are\n"},
		{"ps x y", 2, "ckpt: error: ps: there is no use for \"y\"\nckpt: hint: usage: ckpt ps [NAME | --pid PID]\n"},
		{"logs", 2, "ckpt: error: logs: NAME is missing\nckpt: hint: usage: ckpt logs [-f] NAME\n"},
		{"logs x", 5, "ckpt: error: there is no container named x\nckpt: hint: `ckpt ps` lists the containers there are\n"},
		{"attach", 2, "ckpt: error: attach: NAME is missing\nckpt: hint: usage: ckpt attach NAME\n"},
		{"attach x", 5, "ckpt: error: there is no container named x\nckpt: hint: `ckpt ps` lists the containers there are\n"},
		{"exec", 2, "ckpt: error: exec: NAME is missing\nckpt: hint: usage: ckpt exec NAME -- CMD [ARG...]\n"},
		{"exec x ls -l", 2, "ckpt: error: unknown shorthand flag: 'l' in -l\nckpt: hint: `ckpt exec --help` lists the flags\n" +
			"ckpt: hint: those of the command to run stand after --, with it: ckpt exec NAME -- CMD [ARG...]\n"},
		{"exec x ls", 2, "ckpt: error: exec: the command to run stands after --\nckpt: hint: ckpt exec x -- ls\n"},
		{"kill", 2, "ckpt: error: kill: NAME is missing\nckpt: hint: usage: ckpt kill NAME [-s SIGNAL]\n"},
		{"kill -9 x", 2, "ckpt: error: unknown shorthand flag: '9' in -9\nckpt: hint: usage: ckpt kill NAME [-s SIGNAL]\n"},
		{"kill x -s FOO", 2, "ckpt: error: kill: there is no signal \"FOO\"\nckpt: hint: `kill -l` lists the signals\n"},
		{"kill x -s 65", 2, "ckpt: error: kill: there is no signal \"65\"\nckpt: hint: `kill -l` lists the signals\n"},
		{"wait", 2, "ckpt: error: wait: NAME is missing\nckpt: hint: usage: ckpt wait NAME\n"},
		{"rm", 2, "ckpt: error: rm: NAME is missing\nckpt: hint: usage: ckpt rm [-f] NAME...\n"},
		{"rm x y", 5, "ckpt: error: there is no container named x\nckpt: error: there is no container named y\nckpt: hint: `ckpt ps` lists the containers there are\n"},
		{"rm x", 5, "ckpt: error: there is no container named x\nckpt: hint: `ckpt ps` lists the containers there are\n"},
		{"dump x", 2, "ckpt: error: dump: DIR is missing\nckpt: hint: usage: ckpt dump {NAME | --pid PID} DIR\n"},
		{"dump x d", 5, "ckpt: error: there is no container named x\nckpt: hint: `ckpt ps` lists the containers there are\n"},
		{"dump --pid 0 d", 2, "ckpt: error: dump: --pid 0 is no number of a process\nckpt: hint: `ps -e` lists those there are\n"},
		{"dump --pid 1", 2, "ckpt: error: dump: DIR is missing\nckpt: hint: usage: ckpt dump {NAME | --pid PID} DIR\n"},
		{"dump x d --identity k", 2, "ckpt: error: dump: --identity and --verify-key are for the image that --parent names, and there is none\nckpt: hint: leave them out; --encrypt RECIPIENT encrypts the new image, --sign FILE signs it\n"},
		{"dump --pid 1 train d", 2, "ckpt: error: dump: --pid stands instead of a name\nckpt: hint: usage: ckpt dump --pid PID DIR\n"},
		{"dump --pid 1 d d d", 2, "ckpt: error: dump: there is no use for \"d\"\nckpt: hint: usage: ckpt dump {NAME | --pid PID} DIR\n"},
		{"check train --pid 1", 2, "ckpt: error: check: --pid stands instead of a name\nckpt: hint: usage: ckpt check --pid PID\n"},
		{"ps train --pid 1", 2, "ckpt: error: ps: --pid stands instead of a name\nckpt: hint: usage: ckpt ps --pid PID\n"},
		{"restore", 2, "ckpt: error: restore: DIR is missing\nckpt: hint: usage: ckpt restore DIR\n"},
		{"restore d --lazy", 3, "ckpt: error: restore --lazy is not supported yet\nckpt: hint: leave it out: a whole restore works\n"},
		{"restore d --name a/b", 2, "ckpt: error: \"a/b\" cannot name a container: '/' is not allowed\nckpt: hint: a name has up to 64 letters (a to z, A to Z), digits, dots, dashes and underscores, and begins with a letter or a digit\n"},
		{"restore d --name=", 2, "ckpt: error: restore: --name is empty\nckpt: hint: leave it out for the name that the container had\n"},
		{"restore no/such", 1, "ckpt: error: read the image no/such: there is no such directory\nckpt: hint: give the directory that `ckpt dump` has written\n"},
		{"restore main.go", 4, "ckpt: error: main.go: it is no image: neither a directory nor a stream\nckpt: hint: give what `ckpt dump NAME -` has written, or a directory\n"},
		{"verify no/such", 1, "ckpt: error: read the image no/such: there is no such directory\nckpt: hint: give the directory that `ckpt dump` has written\n"},
		{"inspect main.go/img", 1, "ckpt: error: read the image main.go/img: it is not a directory\nckpt: hint: give the directory that `ckpt dump` has written\n"},
		{"inspect -", 2, "ckpt: error: inspect: only `ckpt restore` reads an image from standard input\nckpt: hint: keep the stream in a file, and name that\n"},
		{"diff - d", 2, "ckpt: error: diff: only `ckpt restore` reads an image from standard input\nckpt: hint: keep the stream in a file, and name that\n"},
		{"check -", 2, "ckpt: error: check: only `ckpt restore` reads an image from standard input\nckpt: hint: keep the stream in a file, and name that\n"},
		{"inspect", 2, "ckpt: error: inspect: DIR is missing\nckpt: hint: usage: ckpt inspect DIR\n"},
		{"verify", 2, "ckpt: error: verify: DIR is missing\nckpt: hint: usage: ckpt verify DIR\n"},
		{"check a b", 2, "ckpt: error: check: there is no use for \"b\"\nckpt: hint: usage: ckpt check [NAME | DIR | --pid PID | --kinds]\n"},
		{"check x", 5, "ckpt: error: there is no container named x\nckpt: hint: `ckpt ps` lists the containers there are\n"},
		{"check main.go", 5, "ckpt: error: there is no container named main.go\nckpt: hint: an image is told from it by a slash: ckpt check ./main.go\nckpt: hint: `ckpt ps` lists the containers there are\n"},
		{"check x --identity k", 2, "ckpt: error: check: --allow-changed, --map, --any-cpu, --identity and --verify-key are for images\nckpt: hint: give the directory of an image, with a slash in it: ckpt check ./DIR\n"},
		{"help frob", 2, "ckpt: error: there is no command \"frob\"\nckpt: hint: `ckpt --help` lists the commands\n"},
		{"help restor", 2, "ckpt: error: there is no command \"restor\"\nckpt: hint: did you mean restore?\n"},
		{"help restore d", 2, "ckpt: error: help: there is no use for \"d\"\nckpt: hint: usage: ckpt help COMMAND\n"},
		{"completion frob", 2, "ckpt: error: there is no command \"frob\"\nckpt: hint: `ckpt completion --help` lists the commands\n"},
		{"restore d --anycpu", 2, "ckpt: error: unknown flag: --anycpu\nckpt: hint: did you mean --any-cpu?\n"},
		{"dump x d --leave", 2, "ckpt: error: unknown flag: --leave\nckpt: hint: did you mean --leave-running?\n"},
		{"dump x d --frob", 2, "ckpt: error: unknown flag: --frob\nckpt: hint: `ckpt dump --help` lists the flags\n"},
		{"restore -dir", 2, "ckpt: error: unknown shorthand flag: 'd' in -dir\nckpt: hint: `ckpt restore --help` lists the flags\nckpt: hint: a path that begins with a dash is told from them so: ./-dir\n"},
		{"restore -- -dir", 1, "ckpt: error: read the image -dir: there is no such directory\nckpt: hint: give the directory that `ckpt dump` has written\n"},
		{"restore -- a b", 2, "ckpt: error: restore: there is no use for \"b\"\nckpt: hint: usage: ckpt restore DIR\n"},
		{"dump x d --compress best", 2, "ckpt: error: dump: there is no use for \"best\"\nckpt: hint: a level of compression stands behind an equals sign: --compress=best\n"},
		{"dump --compress best --pid 1 d", 2, "ckpt: error: dump: there is no use for \"best\"\nckpt: hint: a level of compression stands behind an equals sign: --compress=best\n"},
		{"dump x d --parent=", 2, "ckpt: error: invalid argument \"\" for \"--parent\" flag: it is empty\nckpt: hint: `ckpt dump --help` lists the flags\n"},
		{"dump x d --sign=", 2, "ckpt: error: invalid argument \"\" for \"--sign\" flag: it is empty\nckpt: hint: `ckpt dump --help` lists the flags\n"},
		{"restore d --verify-key=", 2, "ckpt: error: invalid argument \"\" for \"--verify-key\" flag: it is empty\nckpt: hint: `ckpt restore --help` lists the flags\n"},
		{"restore d --identity=", 2, "ckpt: error: --identity is empty\nckpt: hint: name a file with a key, or leave it out\n"},
		{"restore d --identity testdata/none", 2, "ckpt: error: --identity testdata/none: no such file or directory\nckpt: hint: give the file that age-keygen has written, or a private key of SSH without a passphrase\n"},
		{"restore d --identity .", 2, "ckpt: error: --identity .: is a directory\nckpt: hint: name the file in it\n"},
		{"restore d --verify-key /dev/null", 2, "ckpt: error: --verify-key /dev/null: it is empty\nckpt: hint: give the public half of the key of --sign; ssh-keygen has written it into FILE.pub\n"},
		{"restore d --verify-key /dev/zero", 2, "ckpt: error: --verify-key /dev/zero: it has more than 1048576 bytes, as no file with keys has\nckpt: hint: give the public half of the key of --sign; ssh-keygen has written it into FILE.pub\n"},
		{"inspect /dev/null", 1, "ckpt: error: read the image /dev/null: it is neither a directory nor a file\nckpt: hint: give the directory that `ckpt dump` has written, or a file with a stream\nckpt: hint: a stream is read as it comes from standard input: ckpt restore -\n"},
		{"core 2 d f", 2, "ckpt: error: core: \"d\" is no number of a process\nckpt: hint: `ckpt inspect DIR` tells the processes and their numbers\nckpt: hint: usage: ckpt core DIR VPID FILE\n"},
		{"version x", 2, "ckpt: error: version: there is no use for \"x\"\nckpt: hint: usage: ckpt version\n"},
		{"ps --log-level loud", 2, "ckpt: error: --log-level \"loud\" is not a level\nckpt: hint: levels are debug, info, warn and error\n"},
	} {
		code, out, stderr := run(t, strings.Fields(c.args)...)
		if d := cmp.Diff(c.want, stderr); d != "" || code != c.code || out != "" {
			t.Errorf("ckpt %s: code %d (want %d), out %q\n%s", c.args, code, c.code, out, d)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"help"}, {"start", "--help"}, {"version"}} {
		if code, out, stderr := run(t, args...); code != 0 || out == "" || stderr != "" {
			t.Errorf("ckpt %v: code %d, out %q, err %q", args, code, out, stderr)
		}
	}
	if _, out, _ := run(t); strings.Contains(out, container.Supervisor) || !strings.Contains(out, "Exit codes:") {
		t.Errorf("help:\n%s", out)
	}
}

func TestPsJSON(t *testing.T) {
	if _, out, _ := run(t, "ps", "--json"); out != "[]\n" {
		t.Errorf("no containers: %q", out)
	}
	b, err := json.Marshal(jsonOf([]containerView{{rec: container.Record{Name: "a", MainVPID: 2}, state: container.Running, procs: []container.Process{
		{VPID: 2, PID: 100, VPPID: 1, VPGID: 2, VSID: 3, Comm: "sh", State: 'S', Threads: []container.Thread{{VTID: 2, TID: 100}}}}},
		{rec: container.Record{Name: "b"}, state: container.Dumped}}))
	want := `[{"name":"a","state":"running","vpid":2,"pid":100,"processes":[{"vpid":2,"pid":100,"vppid":1,"vpgid":2,"vsid":3,"comm":"sh","state":"S","threads":[{"vtid":2,"tid":100}]}]},` +
		`{"name":"b","state":"dumped","processes":[]}]`
	if d := cmp.Diff(want, string(b)); d != "" || err != nil {
		t.Error(err, d)
	}
}

func TestSignalOf(t *testing.T) {
	for s, want := range map[string]unix.Signal{"TERM": 15, "sigkill": 9, "SIGUSR1": 10, "9": 9, "64": 64,
		"RTMIN": 34, "RTMIN+3": 37, "SIGRTMIN+3": 37, "sigrtmin+30": 64, "RTMAX": 64, "RTMAX-1": 63, "RTMAX-30": 34} {
		if got, err := signalOf(s); got != want || err != nil {
			t.Errorf("%s: %v %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "-1", "65", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMAX-31", "RTMIN+", "RTMIN3", "RTMIN++3", "RTMIN+-3"} {
		if got, err := signalOf(s); !errors.Is(err, failure.ErrUsage) {
			t.Errorf("%q: %v %v", s, got, err)
		}
	}
}

func TestWithEnv(t *testing.T) {
	got, err := withEnv([]string{"A=1", "AB=2", "A=3"}, []string{"A=4", "C="})
	if d := cmp.Diff([]string{"AB=2", "A=4", "C="}, got); d != "" || err != nil {
		t.Error(err, d)
	}
}

func TestCheckKernel(t *testing.T) {
	probe := func(name string, need kernel.Need, err error) kernel.Probe {
		return kernel.Probe{Name: name, For: "for " + name, Since: "5.3", Need: need, Try: func() error { return err }}
	}
	good := []kernel.Probe{probe("one", kernel.Required, nil), probe("two", kernel.Optional, failure.Unsupportedf("not here"))}
	var out bytes.Buffer
	a := &app{out: &out}
	if err := checkKernel(a, good, false); err != nil {
		t.Error(err)
	}
	want := `FEATURE  SINCE  NEED      HERE
one      5.3    required  yes
two      5.3    optional  no
  not here
  -> for two
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
	bad := append(good, probe("three", kernel.Required, errors.New("who knows")))
	err := checkKernel(&app{out: new(bytes.Buffer)}, bad, true)
	if text := fmt.Sprintf("this kernel lacks, or keeps from uid %d: three", os.Geteuid()); err == nil || err.Error() != text || failure.Code(err) != 3 {
		t.Errorf("%v", err)
	}
}

func TestRefusalText(t *testing.T) {
	if got := refusalText("web", "dump", nil); got != "web: would dump\n" {
		t.Errorf("%q", got)
	}
	unseen := []string{"keyrings", "terminals"}
	if got := unseenText(nil, unseen); got != "  not looked at, since it takes a stop: keyrings; terminals\n" {
		t.Errorf("%q", got)
	}
	if got := unseenText([]error{errors.New("no")}, unseen); got != "" {
		t.Errorf("%q", got)
	}
	got := refusalText("web", "dump", []error{
		&failure.Error{Doing: "dump", VPID: 7, Comm: "nginx", What: "fd 12",
			Err: failure.WithHint(failure.Unsupportedf("established TCP connection"), "close it")},
		&failure.Error{Doing: "dump", VPID: 9, Comm: "php", What: "fd 4", Err: errors.New("io_uring instance")},
	})
	want := `web: would not dump: 2 things stand in the way
  pid 7 (nginx): fd 12: established TCP connection
    -> close it
  pid 9 (php): fd 4: io_uring instance
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestInterrupted: commands that read an image say so in their own words, and write
// nothing.
func TestInterrupted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "img")
	w, err := image.Create(dir, image.Options{})
	if err == nil {
		err = errors.Join(w.Add(image.PSTree, "", &pstree.PstreeEntry{Pid: new(uint32(2)), Ppid: new(uint32(1)), Pgid: new(uint32(2)), Sid: new(uint32(2))}), w.Commit(&image.Manifest{}))
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"verify", dir}, "verify " + dir + ": interrupted"},
		{[]string{"verify", dir, "--json"}, "verify " + dir + ": interrupted"},
		{[]string{"inspect", dir}, "inspect " + dir + ": interrupted"},
		{[]string{"inspect", dir, "--json"}, "inspect " + dir + ": interrupted"},
		{[]string{"diff", dir, dir}, "diff: interrupted"},
		{[]string{"core", dir, "2", "-"}, "core: interrupted; nothing was written"},
		{[]string{"check", dir}, "check " + dir + ": interrupted"},
	} {
		var out, stderr bytes.Buffer
		a := &app{out: &out, err: &stderr, getenv: func(string) string { return "" }}
		if code := a.run(ctx, c.args); code != failure.CodeInterrupted || stderr.String() != "ckpt: error: "+c.want+"\n" || out.Len() > 0 {
			t.Errorf("%v: code %d, %q, %q", c.args, code, &stderr, &out)
		}
	}
}
