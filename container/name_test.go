package container

import (
	"errors"
	"strings"
	"testing"

	"ckpt/failure"
)

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "train", "Web-2", "0", "a.b_c-d", strings.Repeat("x", 64)} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"":                      `"" cannot name a container: it is empty`,
		".lock":                 `".lock" cannot name a container: it begins with '.'`,
		"-f":                    `"-f" cannot name a container: it begins with '-'`,
		"a/b":                   `"a/b" cannot name a container: '/' is not allowed`,
		"..":                    `".." cannot name a container: it begins with '.'`,
		"a b":                   `"a b" cannot name a container: ' ' is not allowed`,
		"größe":                 `"größe" cannot name a container: 'ö' is not allowed`,
		"ä":                     `"ä" cannot name a container: it begins with 'ä'`,
		"a\x00":                 `"a\x00" cannot name a container: '\x00' is not allowed`,
		strings.Repeat("x", 65): `"` + strings.Repeat("x", 65) + `" cannot name a container: it has 65 bytes`,
	} {
		err := CheckName(name)
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", name, err, want)
		}
		if !errors.Is(err, failure.ErrUsage) || len(failure.Hints(err)) != 1 {
			t.Errorf("%q: not a usage error with a hint: %v", name, err)
		}
	}
}

func TestNameOf(t *testing.T) {
	for _, c := range []struct {
		command []string
		want    string
	}{
		{[]string{"/usr/bin/python3", "train.py"}, "python3"},
		{[]string{"-bash"}, "bash"}, // of a login
		{[]string{"nginx: master process"}, "nginxmasterprocess"},
		{[]string{"./run it.sh"}, "runit.sh"},
		{[]string{"/"}, "tree"},
		{[]string{""}, "tree"},
		{[]string{"日本"}, "tree"},
		{nil, "tree"},
		{[]string{strings.Repeat("x", 100)}, strings.Repeat("x", maxName)},
	} {
		got := NameOf(c.command)
		if got != c.want || CheckName(got) != nil {
			t.Errorf("%q: %q, want %q", c.command, got, c.want)
		}
	}
}
