package ckpt_test

import (
	"os"
	"strings"
	"testing"

	"ckpt/ci/messages"
)

// TestTroubleshooting: every message that a user can meet is in docs/troubleshooting.md,
// below a heading that explains it, and nothing else is.
func TestTroubleshooting(t *testing.T) {
	const path = "docs/troubleshooting.md"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all, err := messages.Collect(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	filled, problems := messages.Fill(string(page), all)
	for _, p := range problems {
		t.Error(p)
	}
	if len(problems) > 0 {
		t.Fatalf("in %s, add the file to the comment below the heading whose explanation fits (<!-- messages: cmd/ckpt/FILE.go -->), or write a heading; then: make generate", path)
	}
	if filled == string(page) {
		return
	}
	have, want := lines(string(page)), lines(filled)
	for l := range want {
		if !have[l] {
			t.Errorf("not in %s, or not where it belongs: %s", path, l)
		}
	}
	for l := range have {
		if !want[l] {
			t.Errorf("in %s, and not in the source any more: %s", path, l)
		}
	}
	t.Errorf("%s is not what the source says: make generate, and see whether the headings still explain what stands below them", path)
}

func lines(text string) map[string]bool {
	m := map[string]bool{}
	for l := range strings.Lines(text) {
		m[strings.TrimSpace(l)] = true
	}
	return m
}
