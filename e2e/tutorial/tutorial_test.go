// Package tutorial runs docs/tutorial.md as a newcomer does: on a terminal, one command
// after the other, comparing what is seen.
package tutorial

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// typed is a command of the page, and the lines that it shows.
type typed struct {
	command string
	shows   []string
}

// keys are what stands in the page for keys that have no letters.
var keys = map[string]string{"(ctrl-p ctrl-q)": "\x10\x11"}

// commands are those of a page: blocks that begin with "$", or with keys.
func commands(page string) (out []typed) {
	block := false
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		text, ok := strings.CutPrefix(line, "    ")
		_, pressed := keys[text]
		switch {
		case ok && (strings.HasPrefix(text, "$ ") || pressed):
			out, block = append(out, typed{command: strings.TrimPrefix(text, "$ ")}), true
		case ok && block:
			out[len(out)-1].shows = append(out[len(out)-1].shows, text)
		case line != "":
			block = false
		}
	}
	return out
}

// pattern is a line of the page: numbers and amounts may be others, and "..." is
// anything.
func pattern(line string) string {
	p := regexp.QuoteMeta(line)
	p = strings.ReplaceAll(p, `\.\.\.`, `.*`)
	p = regexp.MustCompile(`\d+(\\\.\d+)? (kB|MB|GB)`).ReplaceAllString(p, `[\d.]+ [kMG]?B`)
	p = regexp.MustCompile(`\d+(\\\.\d+)? (ms|s)\b`).ReplaceAllString(p, `[\d.]+ m?s`)
	p = regexp.MustCompile(`\b\d+s\b`).ReplaceAllString(p, `\d+s`)
	p = regexp.MustCompile(`\b\d{4,}\b`).ReplaceAllString(p, `\d+`)
	return regexp.MustCompile(` +`).ReplaceAllString(p, ` +`)
}

// prompt is what a shell says when it waits.
const prompt = "$"

func TestTutorial(t *testing.T) {
	b, err := os.ReadFile("../../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	all := commands(string(b))
	if len(all) < 20 {
		t.Fatalf("%d commands", len(all))
	}
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			for _, c := range []string{"counter", "try1", "try2", "try3", "work", "writer"} {
				e.Own(c)
			}
			e.Setenv("PATH", filepath.Dir(harness.Ckpt())+":"+harness.Path)
			e.Setenv("SHELL", harness.Tool(t, "bash"))
			e.Setenv("PS1", "$ ")
			e.WriteFile(".bashrc", "PS1='$ '\n")
			o := e.Terminal(60, 150, "bash")
			o.Until("it has a prompt", func(text string) bool { return text == prompt+"\n" })
			for _, c := range all {
				run(o, c)
			}
		})
	}
}

// run types a command on an empty screen, and compares what it shows.
func run(o *harness.Terminal, c typed) {
	o.Env.T.Helper()
	what, pressed := c.command, false
	typing := c.command + "\r"
	if k, ok := keys[c.command]; ok {
		typing, pressed = k, true
	} else {
		o.Type("\x0c") // an empty screen
		o.Until("the screen is empty", func(text string) bool { return text == prompt+"\n" })
	}
	gone := func() int { return strings.Count(o.Gone(), prompt+" "+what) }
	before := gone()
	o.Type(typing)
	var shows string
	for _, l := range c.shows {
		if l != "" {
			shows += pattern(l) + `\n+`
		}
	}
	// A shell tells of a job that has ended when it has nothing else to do.
	want := `(?s)` + shows + `(\[1\][^\n]*Done[^\n]*\n)?` + regexp.QuoteMeta(prompt) + `\n$`
	if !pressed {
		want = `^` + regexp.QuoteMeta(prompt+" "+what) + `\n` + want
	}
	right := regexp.MustCompile(want)
	o.Until(fmt.Sprintf("after %q it shows %q", what, c.shows), func(text string) bool {
		if gone() > before { // another terminal is shown now
			return shows == "" && strings.HasSuffix(text, prompt+"\n")
		}
		return right.MatchString(unwrapped(text, 150))
	})
}

// unwrapped puts lines together that were too long for the screen.
func unwrapped(text string, cols int) string {
	var b strings.Builder
	for l := range strings.Lines(text) {
		if len(strings.TrimRight(l, "\n")) == cols {
			l = strings.TrimRight(l, "\n")
		}
		b.WriteString(l)
	}
	return b.String()
}
