package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ckpt/failure"
)

func newManCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages into a directory",
		Hidden: true, // for who makes packages
		Args:   args("", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for name, text := range manPages(cmd.Root(), readVersion(debug.ReadBuildInfo)) {
				if err := os.WriteFile(filepath.Join(args[0], name), []byte(text), 0o644); err != nil {
					return failure.WithHint(fmt.Errorf("write a manual page: %w", err), "name a directory that is there, and in which you may write")
				}
			}
			return nil
		},
	}
}

// manPages are the pages of section 1 by their file names: ckpt(1), and one of every
// command that is not hidden. They say what help says.
func manPages(root *cobra.Command, v versionInfo) map[string]string {
	pages := map[string]string{"ckpt.1": manOf(root, v)}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			pages[pageName(c)+".1"] = manOf(c, v)
		}
	}
	return pages
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manOf writes a page in the man macros (groff_man(7)).
func manOf(c *cobra.Command, v versionInfo) string {
	var m roff
	name := pageName(c)
	date := ""
	if len(v.Time) >= len("2006-01-02") {
		date = v.Time[:len("2006-01-02")]
	}
	m.request("TH", strings.ToUpper(name), "1", date, "ckpt "+v.Version, "ckpt")
	m.request("SH", "NAME")
	m.line(name + ` \- ` + escape(strings.ToLower(c.Short[:1])+c.Short[1:]))
	m.request("SH", "SYNOPSIS")
	use := c.UseLine()
	if !c.HasParent() {
		use += " COMMAND [flags]"
	}
	m.line(`\fB` + escape(c.CommandPath()) + `\fR` + escape(strings.TrimPrefix(use, c.CommandPath())))
	m.request("SH", "DESCRIPTION")
	m.paragraphs(c.Long)
	if !c.HasParent() {
		for _, g := range c.Groups() {
			m.request("SS", strings.TrimSuffix(g.Title, ":"))
			for _, sub := range c.Commands() {
				if sub.GroupID == g.ID {
					m.item(`\fB`+escape(pageName(sub))+`\fR(1)`, sub.Short)
				}
			}
		}
	}
	m.flags("OPTIONS", c.LocalNonPersistentFlags())
	m.flags("GLOBAL OPTIONS", c.Root().PersistentFlags())
	m.request("SH", "EXIT STATUS")
	m.paragraphs(strings.TrimPrefix(strings.TrimSpace(exitCodes), "Exit codes: "))
	if !c.HasParent() {
		m.request("SH", "ENVIRONMENT")
		m.item(`\fBCKPT_STATE\fR`, "directory of what ckpt remembers of containers, instead of /run/ckpt (root), or XDG_RUNTIME_DIR/ckpt, /run/user/UID/ckpt or /tmp/ckpt-UID.")
		m.item(`\fBTMPDIR\fR`, "where an image that goes to standard output, or comes from standard input, is kept meanwhile, instead of /var/tmp.")
	}
	if c.Example != "" {
		m.request("SH", "EXAMPLES")
		m.paragraphs(c.Example)
	}
	m.request("SH", "SEE ALSO")
	if c.HasParent() {
		m.line(`\fBckpt\fR(1)`)
	} else {
		m.line(`\fBcriu\fR(8), \fBpid_namespaces\fR(7)`)
	}
	return m.String()
}

// roff is a manual page being written.
type roff struct{ strings.Builder }

func (m *roff) request(name string, args ...string) {
	m.WriteString("." + name)
	for _, a := range args {
		m.WriteString(` "` + a + `"`) // titles and dates: nothing to escape
	}
	m.WriteString("\n")
}

func (m *roff) line(s string) { m.WriteString(s + "\n") }

// item is what term means, moved in below it; term is roff already.
func (m *roff) item(term, text string) {
	m.line(".TP")
	m.line(term)
	m.line(escape(text))
}

// paragraphs are parted by empty lines; lines that are moved in stay as they are.
func (m *roff) paragraphs(text string) {
	for i, p := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		if i > 0 {
			m.line(".PP")
		}
		if !strings.HasPrefix(p, " ") {
			m.line(escape(p))
			continue
		}
		m.line(".nf")
		m.line(escape(p))
		m.line(".fi")
	}
}

func (m *roff) flags(heading string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	m.request("SH", heading)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		term := `\fB` + escape("--"+f.Name) + `\fR`
		if f.Shorthand != "" {
			term = `\fB` + escape("-"+f.Shorthand) + `\fR, ` + term
		}
		switch {
		case value == "":
		case f.NoOptDefVal != "":
			term += `[=\fI` + escape(value) + `\fR]`
		default:
			term += ` \fI` + escape(value) + `\fR`
		}
		switch f.DefValue {
		case "", "false", "[]", "0":
		default:
			text += " (default " + f.DefValue + ")"
		}
		m.item(term, text)
	})
}

// escape makes text that troff shows as it is: dashes that can be copied, and no line that
// begins like a request.
func escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `"`, `\(dq`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
