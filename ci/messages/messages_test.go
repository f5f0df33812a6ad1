package messages_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ckpt/ci/messages"
)

func collect(t *testing.T, source string) []messages.Message {
	t.Helper()
	all, err := messages.Collect(fstest.MapFS{"kind/pipe/pipe.go": {Data: []byte("package pipe\n" + source)}})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestCollect(t *testing.T) {
	for _, c := range []struct {
		name, source string
		want         []messages.Message
	}{
		{"a refusal with its hint", `func f(d Desc) error {
			return failure.WithHint(failure.Unsupportedf("%s holds %d bytes", d.longName, len(d.data)), "close "+failure.Quote(d.path))
		}`, []messages.Message{{Sort: "refusal", Text: "LONG-NAME holds N bytes"}, {Sort: "hint", Text: "close PATH"}}},
		{"a step ends with an error", `func f() error { return fmt.Errorf("read %q: %w", name, err) }`,
			[]messages.Message{{Sort: "step", Text: `read "NAME": ERR`}}},
		{"a mark decides", `func f() error { return failure.Mark(failure.ErrDamaged, fmt.Errorf("no entry")) }`,
			[]messages.Message{{Sort: "damage", Text: "no entry"}}},
		{"a function that takes the format", `
			func (c *chain) bad(format string, args ...any) error { return c.wrap(failure.Damagedf(format, args...)) }
			func f(c *chain) error { return c.bad("page %d", page) }`,
			[]messages.Message{{Sort: "damage", Text: "page PAGE"}}},
		{"a function that takes the beginning of a format", `
			func refuse(format string, args ...any) error { return failure.Unsupportedf(format+"; not carried yet", args...) }
			func f() error { return refuse("user %d", uid) }`,
			[]messages.Message{{Sort: "refusal", Text: "user UID; not carried yet"}}},
		{"a function that takes words", `
			func missing(what string) error { return fmt.Errorf("%s is missing", what) }
			func f() error { return missing("the key") }`,
			[]messages.Message{{Sort: "failure", Text: "the key is missing"}}},
		{"what a variable can be", `func f(root bool) error {
			hint := "be root"
			if root { hint = "be nobody" }
			return failure.WithHint(err, hint)
		}`, []messages.Message{{Sort: "hint", Text: "be nobody"}, {Sort: "hint", Text: "be root"}}},
		{"what a function gives", `
			func hint() []string { return []string{"wait", "or not"} }
			func f() error { return failure.WithHint(err, hint()...) }`,
			[]messages.Message{{Sort: "hint", Text: "or not"}, {Sort: "hint", Text: "wait"}}},
		{"a function within one, and any number of hints", `func look(name string) error {
			fail := func(err error, hints ...string) error { return failure.WithHint(err, hints...) }
			return fail(errors.New("not found"), "install it", "or give its path")
		}`, []messages.Message{{Sort: "hint", Text: "install it"}, {Sort: "failure", Text: "not found"}, {Sort: "hint", Text: "or give its path"}}},
		{"what is put in, where it is known", `
			func why(n int) string {
				if n > 0 { return "a block device" }
				return "secret memory"
			}
			func f(n int) error { return failure.Unsupportedf("%s is %s", path, why(n)) }`,
			[]messages.Message{{Sort: "refusal", Text: "PATH is a block device"}, {Sort: "refusal", Text: "PATH is secret memory"}}},
		{"a function that calls itself", `
			func f(what string) error {
				if n > 0 { return f("more of " + what) }
				return fmt.Errorf("%s is missing", what)
			}
			func g() error { return f("it") }`,
			[]messages.Message{{Sort: "failure", Text: "it is missing"}}},
		{"the log's", `func f() { r.Log.Warn("limit not raised", "limit", l) }`,
			[]messages.Message{{Sort: "warning", Text: "limit not raised"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := collect(t, c.source)
			if d := cmp.Diff(c.want, got, cmpopts.IgnoreFields(messages.Message{}, "At")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFill(t *testing.T) {
	all := []messages.Message{
		{Sort: "refusal", Text: "it is full", At: []string{"kind/pipe/pipe.go:7"}},
		{Sort: "hint", Text: "empty it", At: []string{"kind/pipe/pipe.go:7"}},
		{Sort: "step", Text: "read it: ERR", At: []string{"kind/pipe/pipe.go:9"}},
	}
	const why = "\nA pipe holds as much as its capacity, and then no more.\n\n"
	page := "# Pipes\n" + why + "<!-- messages: kind/pipe -->\nold\n<!-- end -->\n# Steps\n" + why + "<!-- messages: step -->\n<!-- end -->\n"
	filled, problems := messages.Fill(page, all)
	want := "# Pipes\n" + why + "<!-- messages: kind/pipe -->\n\n- `it is full`\n- hint: `empty it`\n\n<!-- end -->\n# Steps\n" + why + "<!-- messages: step -->\n\n- `read it: ERR`\n\n<!-- end -->\n"
	if filled != want || len(problems) > 0 {
		t.Errorf("%v\n%s", problems, cmp.Diff(want, filled))
	}
	if again, _ := messages.Fill(filled, all); again != filled {
		t.Errorf("a filled page changes: %s", cmp.Diff(filled, again))
	}
}

func TestFillProblems(t *testing.T) {
	all := []messages.Message{{Sort: "usage", Text: "name is missing", At: []string{"cmd/ckpt/new.go:1"}}}
	_, problems := messages.Fill("# Old\nToo short.\n<!-- messages: cmd/ckpt/old.go; usage a b -->\n<!-- end -->\n", all)
	for _, want := range []string{
		`cmd/ckpt/new.go:1: no heading explains the usage "name is missing"`,
		`nothing in the source is cmd/ckpt/old.go`,
		`" usage a b" is no selector`,
		`# Old: there is no explanation above its messages`,
	} {
		if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("%q is not among %q", want, problems)
		}
	}
}
