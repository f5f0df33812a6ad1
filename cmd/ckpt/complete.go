package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// initCompletion adds `ckpt completion SHELL`, and what the shells ask of every command.
func initCompletion(root *cobra.Command, a *app) {
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		c.Args, c.RunE = cobra.ArbitraryArgs, root.RunE
		c.Example = `  source <(ckpt completion bash)`
		for _, shell := range c.Commands() {
			if shell.Name() == "powershell" {
				c.RemoveCommand(shell) // ckpt runs on Linux only
			}
		}
	}
	for _, c := range append(root.Commands(), root) {
		if c != root && c.ValidArgsFunction == nil {
			c.ValidArgsFunction = a.completeArgument(arguments(c.Use))
		}
		for name, complete := range a.completeFlags() {
			if c.Flag(name) != nil && complete != nil {
				// It fails only for a flag that there is not, or that has one (a global one).
				_ = c.RegisterFlagCompletionFunc(name, complete)
			}
		}
	}
}

// arguments are the words of a usage line that stand for arguments before "--",
// without flags: "kill NAME [-s SIGNAL]" has NAME.
func arguments(use string) (names []string) {
	use, _, _ = strings.Cut(use, "-- CMD")
	flag := false
	for _, w := range strings.FieldsFunc(use, func(r rune) bool { return strings.ContainsRune(" []{}|", r) })[1:] {
		upper := strings.ToUpper(w) == w
		if upper && !flag {
			names = append(names, w)
		}
		flag = strings.HasPrefix(w, "-") && strings.Contains(use, w+" ")
	}
	return names
}

// completeArgument offers names of containers for NAME, directories for what dump makes, and
// files for any other argument: an image may be one, too. Where a command takes one or the other ("check [NAME | DIR]"),
// a slash tells.
func (a *app) completeArgument(names []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		either := strings.Contains(cmd.Use, "NAME | DIR")
		n := len(args)
		if cmd.Flags().Changed("pid") {
			n++ // --pid stands instead of NAME
		}
		if several(names) {
			n = min(n, len(names)-1)
		}
		switch {
		case n >= len(names) && strings.Contains(cmd.Use, "-- CMD"):
			return nil, cobra.ShellCompDirectiveDefault // the command to run
		case either && n > 0, n >= len(names):
			return nil, cobra.ShellCompDirectiveNoFileComp
		case either && !strings.Contains(begun, "/"):
			found, _ := a.completeName(cmd, nil, begun)
			return found, cobra.ShellCompDirectiveDefault
		case either:
			return nil, cobra.ShellCompDirectiveDefault
		case names[n] == "NAME" && cmd.Name() == "start":
			return nil, cobra.ShellCompDirectiveNoFileComp // a new one
		case strings.TrimSuffix(names[n], repeats) == "NAME":
			return a.completeName(cmd, nil, begun)
		case names[n] == "DIR" && cmd.Name() == "dump":
			return nil, cobra.ShellCompDirectiveFilterDirs
		case names[n] == "VPID":
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveDefault
	}
}

// completeName offers the containers there are, each with its state. Errors are not for
// a line that is being typed.
func (a *app) completeName(_ *cobra.Command, _ []string, begun string) (found []cobra.Completion, _ cobra.ShellCompDirective) {
	s, err := a.store(false)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, err := s.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, c := range all {
		if strings.HasPrefix(c.Record.Name, begun) {
			state, _ := c.State()
			found = append(found, cobra.CompletionWithDesc(c.Record.Name, string(state)))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeFlags has what can stand behind every flag that takes something, by its name.
func (a *app) completeFlags() map[string]cobra.CompletionFunc {
	one := func(of ...cobra.Completion) cobra.CompletionFunc {
		return cobra.FixedCompletions(of, cobra.ShellCompDirectiveNoFileComp)
	}
	dirs := cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	var files cobra.CompletionFunc // what shells offer by themselves
	return map[string]cobra.CompletionFunc{
		"allow-changed": files, "map": files, "identity": files, "verify-key": files, "encrypt": files, "sign": files,
		"signal":     one(signalNames()...),
		"tcp":        one("keep", "close"),
		"net":        one("host", "none"),
		"compress":   one("fastest", "default", "better", "best"),
		"parent":     dirs,
		"to":         dirs,
		"every":      one(),
		"keep":       one(),
		"on-term":    one(),
		"log-level":  one("debug", "info", "warn", "error"),
		"log-format": one("text", "json"),
		"progress":   one("auto", "json", "none"),
		"name":       one(),
		"hostname":   one(),
		"pid":        one(),
		"env":        one(),
		"external":   one("unix:"),
	}
}

// signalNames are those that kill takes, without SIG.
func signalNames() (names []cobra.Completion) {
	for n := unix.Signal(1); n < minRealTime; n++ {
		if name := unix.SignalName(n); name != "" {
			names = append(names, strings.TrimPrefix(name, "SIG"))
		}
	}
	return slices.Concat(names, []cobra.Completion{"RTMIN", "RTMAX"})
}
