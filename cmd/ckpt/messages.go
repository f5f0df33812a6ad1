package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ckpt/container"
	"ckpt/failure"
)

// The rules of what ckpt says:
//
//   - Standard output is for results: short lines a person reads, or JSON.
//     Everything else goes to standard error.
//   - An error is "ckpt: error: " and what was being done, to which process
//     (by its virtual pid and name), which thing stood in the way, and why.
//     Lower case, no full stop, no number of an errno without its words.
//   - Each thing the user can do about it is a line "ckpt: hint: " of its own.
//     Commands in hints are whole: they can be copied and run.
//   - Several things that went wrong are told all at once, a line each.
//   - Success is one line. --quiet leaves it out. Nothing is asked.
//   - Host pids are told where the user may use them (ps, start), virtual
//     pids everywhere else.

// globalOptions are the flags every command takes.
type globalOptions struct {
	quiet     bool
	logLevel  string
	logFormat string
	progress  string
	detached  string
}

func (o *globalOptions) addFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.BoolVarP(&o.quiet, "quiet", "q", false, "say nothing but results and errors")
	f.StringVar(&o.logLevel, "log-level", "warn", "log to standard error from this level on: debug, info, warn, error")
	f.StringVar(&o.logFormat, "log-format", "text", "form of the log: text or json")
	f.StringVar(&o.progress, "progress", progressAuto, "show how far it has come: auto (on a terminal), json (lines), none")
	o.addDetached(f)
}

func (o *globalOptions) level() (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(o.logLevel)); err != nil {
		return 0, usage(fmt.Errorf("--log-level %q is not a level", o.logLevel), "levels are debug, info, warn and error")
	}
	if o.logFormat != "text" && o.logFormat != "json" {
		return 0, usage(fmt.Errorf("--log-format %q is not a format", o.logFormat), "formats are text and json")
	}
	if !slices.Contains([]string{progressAuto, progressJSON, progressNone}, o.progress) {
		return 0, usage(fmt.Errorf("--progress %q is not a way to show it", o.progress), "ways are auto, json and none")
	}
	return l, nil
}

// logger writes to standard error as the flags say.
func (a *app) logger() (*slog.Logger, error) {
	l, err := a.global.level()
	if err != nil {
		return nil, err
	}
	opts := &slog.HandlerOptions{Level: l}
	if a.global.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(a.err, opts)), nil
	}
	return slog.New(slog.NewTextHandler(a.err, opts)), nil
}

// warn tells what does not keep the command from going on.
func (a *app) warn(text string, args ...any) error {
	log, err := a.logger()
	if err == nil {
		log.Warn(text, args...)
	}
	return err
}

// programStatus is the exit status of the user's own program, passed on.
type programStatus int

func (s programStatus) Error() string { return fmt.Sprintf("the program ended with status %d", int(s)) }

// run executes a command line and gives the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	a.args = args
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	if s, ok := errors.AsType[programStatus](err); ok {
		return int(s)
	}
	report(a.err, err)
	return failure.Code(err)
}

// report tells an error by the rules above.
func report(w io.Writer, err error) {
	told := map[string]bool{}
	for _, e := range failure.All(err) {
		if line := oneLine(e.Error()); !told[line] {
			told[line] = true
			fmt.Fprintln(w, "ckpt: error:", line)
		}
	}
	for _, h := range allHints(err) {
		if !told[h] {
			told[h] = true
			fmt.Fprintln(w, "ckpt: hint:", oneLine(h))
		}
	}
}

func allHints(err error) []string {
	var out []string
	for _, e := range failure.All(err) {
		out = append(out, failure.Hints(e)...)
	}
	return out
}

func oneLine(s string) string { return strings.Join(strings.FieldsFunc(s, isBreak), " ") }

func isBreak(r rune) bool { return r == '\n' || r == '\r' }

// say prints one line of success.
func (a *app) say(format string, args ...any) {
	if !a.global.quiet {
		fmt.Fprintf(a.out, format+"\n", args...)
	}
}

// printJSON prints v for a program.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// usage makes err a wrong command line.
func usage(err error, hints ...string) error {
	return failure.WithHint(failure.Mark(failure.ErrUsage, err), hints...)
}

// interrupted is err, told in its own words if it comes of ctx having ended: what a
// command was at then failed in any of many ways. It is for commands that change nothing.
func interrupted(ctx context.Context, doing string, err error) error {
	if _, ok := errors.AsType[programStatus](err); ok || err == nil || ctx.Err() == nil {
		return err
	}
	return failure.Mark(failure.ErrInterrupted, fmt.Errorf("%s: interrupted", doing))
}

// undone tells of an interruption, and that all was undone, or what could not be.
func undone(err error, doing, all string) error {
	left := slices.DeleteFunc(failure.All(err), func(e error) bool { return errors.Is(e, failure.ErrInterrupted) })
	if len(left) > 0 {
		return errors.Join(failure.Mark(failure.ErrInterrupted, fmt.Errorf("%s: interrupted", doing)), errors.Join(left...))
	}
	return failure.Mark(failure.ErrInterrupted, fmt.Errorf("%s: interrupted; %s", doing, all))
}

// notYet refuses what the command line has a place for and ckpt cannot do.
func notYet(what string, hints ...string) error {
	return failure.WithHint(failure.Unsupportedf("%s is not supported yet", what), hints...)
}

// store is the user's state directory, made if a container shall be made.
func (a *app) store(need bool) (*container.Store, error) {
	dir, err := container.StateDir(a.getenv, a.uid, need)
	if err != nil {
		return nil, err
	}
	return container.NewStore(dir), nil
}

// find is the container called name.
func (a *app) find(name string) (*container.Container, error) {
	s, err := a.store(false)
	if err != nil {
		return nil, err
	}
	return s.Get(name)
}

func errNoCommand(verb string) error { return fmt.Errorf("%s: the command to run is missing", verb) }
