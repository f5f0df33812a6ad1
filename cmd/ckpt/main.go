// Command ckpt starts containers, saves them into a directory and brings them
// back. One file a command; messages.go has the rules of what is said.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), interruptions()...)
	// A file that would grow beyond RLIMIT_FSIZE is an error to be told (EFBIG),
	// not the end of ckpt. Programs that it runs have the signal as ever.
	signal.Notify(make(chan os.Signal, 1), unix.SIGXFSZ)
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv, uid: os.Geteuid()}
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// interruptions are the signals upon which a command undoes its work and ends: a
// terminal that goes (SIGHUP) among them, unless it was told to live without
// (nohup(1)).
func interruptions() []os.Signal {
	sigs := []os.Signal{unix.SIGINT, unix.SIGTERM}
	if !signal.Ignored(unix.SIGHUP) {
		sigs = append(sigs, unix.SIGHUP)
	}
	return sigs
}

// app is what every command is given of its surroundings.
type app struct {
	in       *os.File
	out, err io.Writer
	getenv   func(string) string
	uid      int
	global   globalOptions
	args     []string // of the command line
}
