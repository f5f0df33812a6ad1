// Fill prints docs/troubleshooting.md with the messages of the source in their places.
// It is run in the root of the checkout (make generate).
package main

import (
	"fmt"
	"os"
	"strings"

	"ckpt/ci/messages"
)

const page = "docs/troubleshooting.md"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, page+":", err)
		os.Exit(1)
	}
}

func run() error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	all, err := messages.Collect(os.DirFS("."))
	if err != nil {
		return err
	}
	filled, problems := messages.Fill(string(text), all)
	if len(problems) > 0 {
		return fmt.Errorf("%s", strings.Join(problems, "\n"))
	}
	_, err = os.Stdout.WriteString(filled)
	return err
}
