package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ckpt/failure"
)

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "ckpt",
		Short: "Start containers, save them whole, bring them back",
		Long: `ckpt starts a container whose processes live in a virtual pid space, saves the
whole running container into a directory, and brings it back later, with every
id the processes ever saw unchanged.`,
		Example: `  ckpt start train -- python3 train.py
  ckpt dump train ./tonight
  ckpt restore ./tonight`,
		Args:          cobra.ArbitraryArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	var showVersion bool
	root.Flags().BoolVar(&showVersion, "version", false, "print the version (ckpt version)")
	root.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > 0:
			return unknownCommand(cmd, args[0])
		case showVersion:
			return printVersion(a, false)
		}
		return cmd.Help()
	}
	a.global.addFlags(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		hints := []string{fmt.Sprintf("`%s --help` lists the flags", cmd.CommandPath())}
		if strings.Contains(cmd.Use, "-- CMD") {
			hints = append(hints, "those of the command to run stand after --, with it: "+cmd.UseLine())
		}
		if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
			short := e.GetSpecifiedShortnames()
			if near := nearFlags(cmd, e.GetSpecifiedName()); short == "" && len(near) > 0 {
				hints = []string{"did you mean " + strings.Join(near, " or ") + "?"}
			}
			if short != "" && strings.Contains(cmd.Use, "DIR") {
				hints = append(hints, "a path that begins with a dash is told from them so: ./-"+failure.Quote(short))
			}
		}
		return usage(err, hints...)
	})
	addGroups(root, a)
	for _, c := range root.Commands() {
		c.DisableFlagsInUseLine = true // the lines say themselves what matters
	}
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		_, err := a.global.level()
		return err
	}
	root.SetHelpTemplate(root.HelpTemplate() + exitCodes)
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Run, help.RunE, help.Example = nil, helpOn, "  ckpt help dump"
	}
	initCompletion(root, a)
	return root
}

// nearFlags are those that begin as name does, or the other way round, dashes aside.
func nearFlags(cmd *cobra.Command, name string) (near []string) {
	plain := func(s string) string { return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s)) }
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if a, b := plain(f.Name), plain(name); b != "" && !f.Hidden && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a)) {
			near = append(near, "--"+f.Name)
		}
	})
	return near
}

// helpOn is `ckpt help COMMAND`. cobra's own takes a command that there is not for none.
func helpOn(cmd *cobra.Command, args []string) error {
	on, rest, err := cmd.Root().Find(args)
	switch {
	case err != nil, on == cmd.Root() && len(rest) > 0:
		return unknownCommand(cmd.Root(), args[0])
	case len(rest) > 0:
		return usage(fmt.Errorf("help: there is no use for %q", rest[0]), "usage: ckpt help COMMAND")
	}
	on.InitDefaultHelpFlag()
	return on.Help()
}

const exitCodes = `
Exit codes: 0 done; 1 failed; 2 wrong usage; 3 not supported here; 4 image
damaged or incompatible; 5 no such container, or name taken; 130 interrupted.
wait and exec pass on the program's own.
`

func unknownCommand(cmd *cobra.Command, name string) error {
	hint := "`" + cmd.CommandPath() + " --help` lists the commands"
	cmd.SuggestionsMinimumDistance = 2
	if s := cmd.SuggestionsFor(name); len(s) > 0 {
		hint = "did you mean " + strings.Join(s, " or ") + "?"
	}
	return usage(fmt.Errorf("there is no command %q", name), hint)
}

// args checks the arguments before "--" and after it: want says what stands
// before, as in the usage line; after is "" where no command stands there: then "--"
// only ends the flags.
func args(after string, want ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		before, _, dashed := split(cmd, args)
		if after == "" {
			before = args
		}
		hint := "usage: " + cmd.UseLine()
		empty := slices.Index(before, "")
		switch {
		case len(before) < required(want):
			return usage(fmt.Errorf("%s: %s is missing", cmd.Name(), strings.TrimSuffix(want[len(before)], repeats)), hint)
		case len(before) > len(want) && after != "" && !dashed:
			return usage(fmt.Errorf("%s: the command to run stands after --", cmd.Name()),
				fmt.Sprintf("%s %s -- %s", cmd.CommandPath(), failure.Quote(before[0]), quoted(before[1:])))
		case len(before) > len(want) && !several(want):
			return usage(fmt.Errorf("%s: there is no use for %q", cmd.Name(), before[len(want)]), hint)
		case empty >= 0:
			return usage(fmt.Errorf("%s: %s is empty", cmd.Name(), strings.Trim(want[min(empty, len(want)-1)], "[].")), hint)
		}
		return nil
	}
}

// repeats is behind the last argument in a usage line if there may be several.
const repeats = "..."

func several(want []string) bool {
	return len(want) > 0 && strings.HasSuffix(want[len(want)-1], repeats)
}

// quoted is a command as it has to be typed.
func quoted(argv []string) string {
	var out []string
	for _, a := range argv {
		out = append(out, failure.Quote(a))
	}
	return strings.Join(out, " ")
}

func required(want []string) int {
	n := 0
	for _, w := range want {
		if !strings.HasPrefix(w, "[") {
			n++
		}
	}
	return n
}

// split takes the arguments apart at "--".
func split(cmd *cobra.Command, args []string) (before, after []string, dashed bool) {
	n := cmd.ArgsLenAtDash()
	if n < 0 {
		return args, nil, false
	}
	return args[:n], args[n:], true
}
