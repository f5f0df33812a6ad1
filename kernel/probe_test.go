package kernel

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// newer tells whether the running kernel is at least version v.
func newer(t *testing.T, v string) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	return !versionLess(unix.ByteSliceToString(u.Release[:]), v)
}

func versionLess(a, b string) bool {
	x, y := versionNumbers(a), versionNumbers(b)
	for i := range x {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}

func versionNumbers(v string) (n [3]int) {
	i := 0
	for _, c := range v {
		switch {
		case c >= '0' && c <= '9':
			n[i] = n[i]*10 + int(c-'0')
		case c == '.' && i < 2:
			i++
		default:
			return n
		}
	}
	return n
}

func TestVersionLess(t *testing.T) {
	for _, c := range []struct {
		a, b string
		less bool
	}{{"6.18.44-x", "6.7", false}, {"6.6.1", "6.7", true}, {"5.10", "5.9", false}, {"3.17", "3.17", false}, {"2.6.14", "3.3", true}} {
		if versionLess(c.a, c.b) != c.less {
			t.Errorf("%s < %s is not %v", c.a, c.b, c.less)
		}
	}
}

// As root every probe of a feature the running kernel is new enough for must
// find it: a probe that wrongly says "absent" would make ckpt refuse. Only
// what the machine's set-up decides may be missing.
func TestProbes(t *testing.T) {
	setUp := map[string]bool{"user namespaces": true, "cgroup2 freezer": true, "unix_diag": true, "inet_diag": true}
	for _, p := range Probes() {
		t.Run(p.Name, func(t *testing.T) {
			err := p.Try()
			switch {
			case err == nil:
			case !errors.Is(err, failure.ErrUnsupported):
				t.Errorf("could not tell: %v", err)
			case os.Geteuid() == 0 && newer(t, p.Since) && !setUp[p.Name]:
				t.Errorf("in Linux since %s, but: %v", p.Since, err)
			default:
				t.Logf("absent: %v", err)
			}
		})
	}
}

func TestProbesAreTold(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Probes() {
		if seen[p.Name] {
			t.Errorf("%s twice", p.Name)
		}
		seen[p.Name] = true
		if p.For == "" || strings.HasSuffix(p.For, ".") || p.Since == "" || p.Need != Required && p.Need != Optional {
			t.Errorf("%s: %+v", p.Name, p)
		}
	}
}

// The probes of an ordinary user, in a child: every outcome must be known.
func TestProbesAsNobody(t *testing.T) {
	if os.Getenv("CKPT_PROBE_CHILD") != "" {
		for _, p := range Probes() {
			if err := p.Try(); err != nil && !errors.Is(err, failure.ErrUnsupported) {
				t.Errorf("%s: could not tell: %v", p.Name, err)
			}
		}
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestProbesAsNobody$", "-test.v")
	cmd.Env = append(os.Environ(), "CKPT_PROBE_CHILD=1")
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = asNobody()
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestAbsent(t *testing.T) {
	if err := absent("x", nil, unix.ENOSYS); err != nil {
		t.Error(err)
	}
	if err := absent("x", unix.ENOSYS, unix.ENOSYS); !errors.Is(err, failure.ErrUnsupported) || !errors.Is(err, unix.ENOSYS) {
		t.Error(err)
	}
	if err := absent("x", unix.EIO, unix.ENOSYS); errors.Is(err, failure.ErrUnsupported) || err.Error() != "x: input/output error" {
		t.Error(err)
	}
}
