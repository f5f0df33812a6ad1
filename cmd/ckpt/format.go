package main

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// bytesText is a size for people: "812 B", "212 MB", "1.4 GB" (powers of 1000).
func bytesText(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), 0
	for units := "kMGTPE"; v >= 999.5 && unit < len(units); unit++ {
		v /= 1000
	}
	digits := 0
	if v < 9.95 {
		digits = 1
	}
	return fmt.Sprintf("%.*f %cB", digits, v, "kMGTPE"[unit-1])
}

// upText is a time since, with two units: "7s", "2m11s", "4h02m", "3d04h".
func upText(d time.Duration) string {
	s := max(int64(d/time.Second), 0)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}

// tookText is how long something took: "18 ms", "1.3 s", "2m11s".
func tookText(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond)/time.Millisecond)
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return upText(d)
}

// commandText is a command on one line, without what could move the cursor.
func commandText(argv []string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r):
			return '?'
		}
		return r
	}, strings.Join(argv, " "))
}

// column is one column of a table.
type column struct {
	title string
	right bool // numbers
}

// table lines cells up, gap blanks between columns, no blanks at line ends.
func table(cols []column, rows [][]string, gap int) string {
	width := make([]int, len(cols))
	for i, c := range cols {
		width[i] = utf8.RuneCountInString(c.title)
		for _, r := range rows {
			width[i] = max(width[i], utf8.RuneCountInString(r[i]))
		}
	}
	var b strings.Builder
	line := func(cell func(int) string, right func(int) bool) {
		var l strings.Builder
		for i := range cols {
			text := cell(i)
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(text))
			if right(i) {
				text = pad + text
			} else {
				text += pad
			}
			l.WriteString(text + strings.Repeat(" ", gap))
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	line(func(i int) string { return cols[i].title }, func(int) bool { return false })
	for _, r := range rows {
		line(func(i int) string { return r[i] }, func(i int) bool { return cols[i].right })
	}
	return b.String()
}

// width is how many columns the terminal has that standard output is; 0: it is none.
func (a *app) width() int {
	if f, ok := a.out.(*os.File); ok {
		if w, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			return int(w.Col)
		}
	}
	return 0
}

// toTerminal tells whether standard output is one.
func (a *app) toTerminal() bool {
	f, ok := a.out.(*os.File)
	return ok && isTerminal(int(f.Fd()))
}

// isTerminal tells whether a descriptor is one.
func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// cutLines cuts every line to n columns; 0: none is.
func cutLines(text string, n int) string {
	if n <= 1 {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		if r := []rune(strings.TrimSuffix(line, "\n")); len(r) > n {
			line = string(r[:n-1]) + "…\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// depths is how deep each process stands in a tree that is listed parents first.
type depths[ID comparable] map[ID]int

// of gives that of the next one in the list.
func (d depths[ID]) of(id, parent ID) int {
	n, listed := d[parent]
	if listed {
		n++
	}
	d[id] = n
	return n
}

// branch indents a process at depth d of a tree.
func branch(d int) string {
	if d == 0 {
		return ""
	}
	return strings.Repeat("    ", d-1) + ` \_ `
}
