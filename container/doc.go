// Package container is the life of a container: its first process in
// namespaces of its own, the supervisor that waits for it, and what is
// remembered about it between two commands.
//
// There is no daemon. A container has a directory of its own below the state
// directory (see Store):
//
//	state.json   Record: what it runs, who its first process is, how it ended
//	log          what its processes wrote to standard output and error
//	lock         locked by the supervisor as long as it lives
//	making.lock  locked by the supervisor until the container runs
//	dump.lock    locked by whoever dumps it
//	dumped       Marker: the image that holds it, written before a dump ends it
//	tables       nftables tables that a dump has left, until it is back
//	exec-VPID    the exit status of a process of `ckpt exec`
//	images       paths of the images that were made of it, or it of them
//	names        paths that a restore makes or removes, until the container runs (Name)
//	log.new      the log of a start, until its process is there
//	.new-*       one of these that is being written
//
// One that is being removed is called .gone-NAME first; what a removal that was killed
// leaves of it, the next of that name takes away.
//
// What a container does now is computed from its processes every time
// (Container.State) and never read from a file, so that a crash of the
// supervisor, a reboot or a reused pid cannot make a stale file lie.
package container
