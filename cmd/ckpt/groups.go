package main

import "github.com/spf13/cobra"

// group is a heading of `ckpt help` and of the manual, with its commands.
type group struct {
	id, title string
	commands  []*cobra.Command
}

// addGroups adds all commands, in the order in which help shows them.
func addGroups(root *cobra.Command, a *app) {
	cobra.EnableCommandSorting = false
	for _, g := range []group{
		{"run", "Run a container:", []*cobra.Command{
			newStartCommand(a), newExecCommand(a), newAttachCommand(a), newKillCommand(a), newWaitCommand(a), newRmCommand(a)}},
		{"look", "See what runs:", []*cobra.Command{
			newPsCommand(a), newLogsCommand(a)}},
		{"save", "Save it and bring it back:", []*cobra.Command{
			newCheckCommand(a), newDumpCommand(a), newRestoreCommand(a)}},
		{"image", "Look into an image:", []*cobra.Command{
			newInspectCommand(a), newDiffCommand(a), newVerifyCommand(a), newCoreCommand(a)}},
		{more, "More:", []*cobra.Command{newVersionCommand(a)}},
	} {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
		}
		root.AddCommand(g.commands...)
	}
	root.SetHelpCommandGroupID(more)
	root.SetCompletionCommandGroupID(more)
	root.AddCommand(newSuperviseCommand(a), newGuardCommand(a), newManCommand(a)) // hidden
}

// more is the group of what cobra adds by itself, too.
const more = "more"
