package boundary

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestTable: docs/pid-boundaries.md names the program of each row, and no
// program is in none.
func TestTable(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "pid-boundaries.md"))
	if err != nil {
		t.Fatal(err)
	}
	lines := map[int]string{}
	for line := range strings.Lines(string(b)) {
		cell := strings.Split(line, "|")
		if len(cell) < 3 {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSpace(cell[1])); err == nil {
			lines[n] = line
		}
	}
	tested := map[string]bool{"boundary/edges.c": true} // TestRefused
	for _, r := range rows {
		tested[r.source] = true
		if !strings.Contains(lines[r.number], "`"+r.source) {
			t.Errorf("row %d does not name %s: %s", r.number, r.source, lines[r.number])
		}
	}
	for _, r := range refusals {
		if !strings.Contains(lines[r.number], "`TestRefused`") {
			t.Errorf("row %d does not say that %s is refused: %s", r.number, r.what, lines[r.number])
		}
	}
	sources, err := filepath.Glob(filepath.Join("..", "program", "boundary", "*.c"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sources {
		if !tested["boundary/"+filepath.Base(s)] {
			t.Errorf("%s is not run", s)
		}
	}
}
