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
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv, uid: os.Geteuid()}
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// app is what every command is given of its surroundings.
type app struct {
	in       *os.File
	out, err io.Writer
	getenv   func(string) string
	uid      int
	global   globalOptions
}
