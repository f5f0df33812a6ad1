// Package terminal tests containers that a person sits at, on terminals.
package terminal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// each runs a test as each user.
func each(t *testing.T, test func(t *testing.T, e *harness.Env)) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) { test(t, harness.New(t, user)) })
	}
}

// shell is a person's.
func shell(e *harness.Env) *harness.Terminal {
	e.Setenv("PATH", filepath.Dir(harness.Ckpt())+":"+harness.Path)
	t := e.Terminal(24, 150, "bash", "--norc", "--noprofile")
	t.Type("PS1='out> '; clear\r")
	t.Until("it has a prompt", func(text string) bool { return text == "out>\n" })
	return t
}

// inside starts a shell in a container, from that one.
func inside(t *harness.Terminal, name string) {
	t.Env.Own(name)
	t.Run("ckpt start "+name+" -e PS1='in> ' -t -a -- bash --norc --noprofile", "^in> $")
}

// A person works in a container, leaves it, comes back, saves it, and goes on the
// next day on another terminal.
func TestDay(t *testing.T) {
	each(t, func(t *testing.T, e *harness.Env) {
		o := shell(e)
		before := o.Attributes()
		inside(o, "work")
		o.Run("tty; stty size; echo pid $$", "^pid 2$")
		o.Shows("^/dev/pts/0\n24 150$")
		o.Run("sleep 1000", "sleep 1000\n")
		harness.Eventually(t, "it sleeps", func() error { return runs(e, "work", "sleep") })
		o.Type("\x1a")
		o.Shows("^[1]+  Stopped                 sleep 1000$")
		o.Type("\x10\x11")
		o.Shows("^work: detached; ckpt attach work comes back\nout> $")
		if o.Attributes() != before {
			t.Error("the terminal is not as it was")
		}
		o.Run("ckpt attach work", "^in> $")
		o.Type("half a line")
		o.Shows("^in> half a line$")
		picture := o.Picture()
		img := e.Join("img")
		e.Run("dump", "work", img)
		o.Shows("^work: dumped into " + img + "; ckpt restore -a " + img + " continues it\nout> $")
		if o.Attributes() != before {
			t.Error("the terminal is not as it was")
		}
		o.Close()

		o = shell(e)
		o.Type("ckpt restore -a " + img + "\r")
		o.Same(picture)
		o.Type("\x15") // no half line
		o.Run("jobs; echo pid $$", "^[1]+  Stopped                 sleep 1000\npid 2$")
		o.Run("fg", "^sleep 1000$")
		o.Type("\x03")
		o.Shows("^^C\nin> $")
		o.Run("exit 7", "^out> $")
		o.Run("echo status $?", "^status 7$")
		if o.Attributes() != before {
			t.Error("the terminal is not as it was")
		}
	})
}

// runs tells whether a process of that name does in a container.
func runs(e *harness.Env, name, comm string) error {
	r := e.Try("ps", name)
	if !strings.Contains(r.Out, comm) {
		return &notYet{r.String()}
	}
	return nil
}

type notYet struct{ what string }

func (n *notYet) Error() string { return n.what }

// Programs that draw the whole screen are seen as they were, and go on.
func TestScreens(t *testing.T) {
	text := strings.Repeat("a line of text\n", 200) + "the last\n"
	for _, p := range []struct {
		name    string
		command func(e *harness.Env) []string
		before  func(*harness.Terminal)
		after   func(*harness.Terminal)
	}{
		{"vim", func(e *harness.Env) []string {
			return []string{harness.Tool(t, "vim.tiny"), "-u", "NONE", "-n", e.WriteFile("text", text)}
		}, func(o *harness.Terminal) {
			o.Shows("^a line of text")
			o.Type("Gonew words")
			o.Shows("^new words")
		}, func(o *harness.Terminal) {
			o.Type(" and more\x1b:wq\r")
		}},
		{"less", func(e *harness.Env) []string { return []string{harness.Tool(t, "less"), e.WriteFile("text", text)} },
			func(o *harness.Terminal) {
				o.Shows("^a line of text")
				o.Type("G")
				o.Shows("^the last")
			}, func(o *harness.Terminal) {
				o.Type("g")
				o.Until("it is at the beginning", func(text string) bool { return !strings.Contains(text, "the last") })
				o.Type("q")
			}},
		{"top", func(*harness.Env) []string { return []string{harness.Tool(t, "top"), "-d", "1000"} },
			func(o *harness.Terminal) { o.Shows("PID USER") },
			func(o *harness.Terminal) {
				o.Type("h")
				o.Shows("Help for Interactive Commands")
				o.Type("q")
				o.Shows("PID USER")
				o.Type("q")
			}},
		{"tmux", func(e *harness.Env) []string {
			e.Setenv("TMUX_TMPDIR", e.Dir)
			e.Setenv("SHELL", harness.Tool(t, "bash"))
			conf := e.WriteFile("tmux.conf", "set -g status-right ''\n") // no clock
			return []string{harness.Tool(t, "tmux"), "-f", conf, "new", "env", "PS1=tmux> ", "bash", "--norc", "--noprofile"}
		}, func(o *harness.Terminal) {
			o.Run("echo in tmux", "^in tmux$")
			// A prefix key that is typed this fast is taken for pasted text.
			o.Type(`tmux split-window -h "env PS1='right> ' bash --norc --noprofile"` + "\r")
			o.Shows("│right> $")
		}, func(o *harness.Terminal) {
			o.Type("tmux select-pane -t 0\r")
			o.Run("echo again $((1+1))", "again 2")
			o.Type("exit\r")
			o.Until("one pane is left", func(text string) bool { return !strings.Contains(text, "│") })
			o.Type("exit\r")
		}},
	} {
		t.Run(p.name, func(t *testing.T) {
			each(t, func(t *testing.T, e *harness.Env) {
				command := p.command(e)
				o := shell(e)
				e.Own(p.name)
				o.Type("ckpt start " + p.name + " -t -a -- " + strings.ReplaceAll(strings.Join(command, " "), "tmux> ", "'tmux> '") + "\r")
				p.before(o)
				img := e.Join("img")
				picture := settled(o)
				e.Run("dump", p.name, img)
				o.Shows("^out> $")
				o.Close()
				o = shell(e)
				o.Type("ckpt restore -a " + img + "\r")
				o.Same(picture)
				p.after(o)
				o.Shows("^out>")
				o.Run("echo status $?", "status 0")
			})
		})
	}
}

// settled is the screen when nothing moves on it.
func settled(o *harness.Terminal) (picture string) {
	harness.Eventually(o.Env.T, "the screen stands still", func() error {
		last := picture
		if picture = o.Picture(); picture != last {
			return &notYet{"it moves"}
		}
		return nil
	})
	return picture
}

// One who is killed has left the terminal as it was; who is told to end, too; and the
// container goes on.
func TestEnded(t *testing.T) {
	for _, sig := range []string{"KILL", "TERM", "HUP", "INT"} {
		t.Run(sig, func(t *testing.T) {
			each(t, func(t *testing.T, e *harness.Env) {
				o := shell(e)
				before := o.Attributes()
				inside(o, "work")
				o.Run(`printf '\033[?1049h\033[?25l\033[?1000hdra''wn'`, "drawn")
				e.Command(t.Context(), "pkill", "-"+sig, "-f", "-x", "ckpt start work .*").Run()
				harness.Eventually(t, "the terminal is as it was", func() error {
					if o.Hidden() || strings.Contains(o.Text(), "drawn") {
						return &notYet{o.Text()}
					}
					return nil
				})
				// The prompt of a shell that was faster stands on the other screen.
				o.Run("echo he''re", "^here\nout> $")
				if is := o.Attributes(); is != before {
					t.Errorf("the terminal is %v, and was %v", is, before)
				}
				o.Run("ckpt attach work", "drawn")
				o.Type(`printf '\033[?1049l\033[?25h'` + "\r")
				o.Run("exit", "^out> $")
			})
		})
	}
}

// A shell mends its terminal itself. Where none does, it is given back all the same.
func TestGuard(t *testing.T) {
	each(t, func(t *testing.T, e *harness.Env) {
		o := shell(e)
		inside(o, "work")
		other := e.Terminal(24, 80, "sh", "-c", "echo ready; read x; "+harness.Ckpt()+" attach work; sleep 1000")
		other.Shows("ready")
		before := other.Attributes()
		other.Type("\r")
		other.Shows("^in> $")
		o.Shows("from another terminal")
		if err := e.Command(t.Context(), "pkill", "-KILL", "-f", "-x", ".*/ckpt attach work").Run(); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, "the terminal is as it was", func() error {
			if is := other.Attributes(); is != before {
				return &notYet{fmt.Sprintf("it is %v, and was %v", is, before)}
			}
			return nil
		})
	})
}

// What is printed while nobody looks is there when somebody does; it takes no more
// than a window of another size.
func TestMeanwhile(t *testing.T) {
	each(t, func(t *testing.T, e *harness.Env) {
		o := shell(e)
		inside(o, "work")
		o.Run("clear; read -p 'wait '; seq 500; trap 'stty size' WINCH; stty size; while :; do sleep 1000 & wait $!; done", "^wait")
		o.Type("\x10\x11")
		o.Shows("detached")
		other := e.Terminal(10, 40, harness.Ckpt(), "attach", "work")
		other.Shows("^wait")
		other.Type("\r")
		other.Shows("^10 40$")
		if gone := other.Gone(); !strings.Contains(gone, "\n1\n2\n3\n") || !strings.Contains(gone, "\n489\n490") {
			t.Errorf("what has scrolled away is %q", gone)
		}
		other.Close()
		third := e.Terminal(12, 50, harness.Ckpt(), "attach", "work")
		third.Shows("^12 50$")
		if gone := third.Gone(); !strings.Contains(gone, "\n1\n2\n3\n") {
			t.Errorf("what has scrolled away is %q", gone)
		}
		third.Resize(30, 100)
		third.Shows("^30 100$")
	})
}

// The last one who comes has it.
func TestTakenOver(t *testing.T) {
	each(t, func(t *testing.T, e *harness.Env) {
		o := shell(e)
		inside(o, "work")
		other := e.Terminal(24, 80, harness.Ckpt(), "attach", "work")
		other.Shows("^in> $")
		o.Shows("^work: attached from another terminal\nout> $")
		other.Run("echo $((40+2))", "^42$")
	})
}

// Who is attached to a container that another removes is told.
func TestRemoved(t *testing.T) {
	each(t, func(t *testing.T, e *harness.Env) {
		o := shell(e)
		inside(o, "work")
		e.Run("rm", "-f", "work")
		o.Shows("^out> $")
		o.Run("echo status $?", "^status 137$") // and is told so, unless it was faster
		if text := o.Text(); strings.Contains(text, "error") {
			t.Error(text)
		}
	})
}

// A command that ends at once has been seen, and its status is passed on.
func TestShort(t *testing.T) {
	each(t, func(t *testing.T, e *harness.Env) {
		o := shell(e)
		e.Own("short")
		o.Run("ckpt start short -t -a -- sh -c 'echo hello; exit 3'", "^hello\nout> $")
		o.Run("echo status $?", "^status 3$")
		if log := e.Run("logs", "short"); log != "hello\r\n" {
			t.Errorf("its log is %q", log)
		}
	})
}

// A terminal that nobody looks at works: programs are answered, and what they write is
// in the log.
func TestAlone(t *testing.T) {
	each(t, func(t *testing.T, e *harness.Env) {
		c := e.Start("alone", []string{"-t"}, "bash", "--norc", "-c", `stty raw -echo; printf 'abc\033[6n'; read -r -d R at; printf '%q' "$at"; stty sane; read`)
		harness.Eventually(t, "it is told where the cursor is", func() error {
			if log := c.Log(); !strings.Contains(log, `1\;4`) && !strings.Contains(log, `1;4`) {
				return &notYet{log}
			}
			return nil
		})
		img := e.Join("img")
		c.Dump(img)
		e.Restore(img, "")
		o := e.Terminal(24, 80, harness.Ckpt(), "attach", "alone")
		o.Shows("abc")
		o.Type("\r")
		if err := o.Cmd.Wait(); err != nil {
			t.Errorf("it ends with %v", err)
		}
	})
}

// A dump that is killed lets the terminal go on; so does one that fails.
func TestDumpKilled(t *testing.T) {
	each(t, func(t *testing.T, e *harness.Env) {
		o := shell(e)
		inside(o, "work")
		o.Type("typed")
		o.Shows("^in> typed$")
		img := e.Join("img")
		for n := 1; ; n += 37 {
			r := e.AtStep(n, unix.SIGKILL, "dump", "--leave-running", "work", img)
			_ = os.RemoveAll(img + ".partial")
			if !r.Hit {
				break
			}
			o.Type("x\x08")
		}
		o.Type("\x15")
		o.Run("echo $((40+2))", "^42$")
	})
}

// A restore that is killed leaves nothing, or all of it.
func TestRestoreKilled(t *testing.T) {
	each(t, func(t *testing.T, e *harness.Env) {
		c := e.Start("work", []string{"-t"}, "cat")
		img := e.Join("img")
		c.Dump(img)
		for n := 1; ; n += 53 {
			r := e.AtStep(n, unix.SIGKILL, "restore", img)
			if !r.Hit {
				break
			}
			if r := e.Try("rm", "-f", "work"); r.Code != 0 && r.Code != 5 {
				t.Fatal(r)
			}
			harness.Eventually(t, "nothing is left", func() error {
				if left := e.Processes(); len(left) > 0 {
					return &notYet{fmt.Sprint(left)}
				}
				return nil
			})
		}
	})
}

func TestRefused(t *testing.T) {
	each(t, func(t *testing.T, e *harness.Env) {
		c := e.Start("plain", nil, "sleep", "1000")
		o := shell(e)
		o.Run("ckpt attach plain", "ckpt: error: attach: plain has no terminal\nckpt: hint: follow what it writes: ckpt logs -f plain")
		o.Run("echo status $?", "^status 2$")
		img := e.Join("img")
		c.Dump(img)
		o.Run("clear; ckpt restore -a "+img, "ckpt: error: restore -a "+img+": the container had no terminal")
		o.Run("clear; ckpt start x -a -- true", "ckpt: error: start: -a shows a terminal, and the container is to have none")
		o.Run("clear; ckpt start x < /dev/null", "ckpt: error: show the terminal of x: standard input and output are not a terminal")
		o.Run("echo status $?", "^status 2$")
	})
}
