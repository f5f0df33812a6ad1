package messages

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A page explains messages by families, each below a heading with an explanation. Which
// messages a family has is said by a comment, and they are listed between it and the
// next:
//
//	<!-- messages: SELECTOR; SELECTOR -->
//	<!-- end -->
//
// A selector is up to three words that all have to fit: a sort, a file or folder of the
// source, and words of the message in quotes. A message belongs to the family with the
// most telling selector: one with words, else one with the longest path, else one with a
// sort; of equals, to the first. Steps, damage and warnings have to be asked for by sort.
var block = regexp.MustCompile(`(?s)<!-- messages: ([^>]*) -->\n(.*?)<!-- end -->`)

// apart are sorts that only a selector with the sort selects.
var apart = []Sort{Step, Damage, Warning}

type selector struct {
	sort  Sort
	path  string
	words string
	used  bool
}

var sorts = []Sort{Refusal, Damage, Usage, Failure, Step, Hint, Warning}

func parseSelector(s string) (*selector, error) {
	sel := &selector{}
	before, in, quoted := strings.Cut(strings.TrimSpace(s), `"`)
	if quoted {
		var ok bool
		if sel.words, ok = strings.CutSuffix(in, `"`); !ok {
			return nil, fmt.Errorf("%q: a quote is missing", s)
		}
	}
	for _, w := range strings.Fields(before) {
		switch {
		case slices.Contains(sorts, Sort(w)) && sel.sort == "":
			sel.sort = Sort(w)
		case sel.path == "":
			sel.path = w
		default:
			return nil, fmt.Errorf("%q is no selector: [SORT] [PATH] [\"WORDS\"]", s)
		}
	}
	return sel, nil
}

// weight is how telling the selector is for m; -1: m is not meant.
func (s *selector) weight(m Message) int {
	switch {
	case s.sort != "" && s.sort != m.Sort,
		s.sort == "" && slices.Contains(apart, m.Sort),
		!slices.ContainsFunc(m.At, s.covers),
		!strings.Contains(m.Text, s.words):
		return -1
	}
	w := 2 * len(s.path)
	if s.sort != "" {
		w++
	}
	if s.words != "" {
		w += 1000
	}
	return w
}

func (s *selector) covers(at string) bool {
	file, _, _ := strings.Cut(at, ":")
	return s.path == "" || file == s.path || strings.HasPrefix(file, s.path+"/")
}

// Fill gives the page with every family's messages listed. Each message has to belong
// to a family, and each selector has to select something; problems says where that is
// not so.
func Fill(page string, all []Message) (filled string, problems []string) {
	at := block.FindAllStringSubmatchIndex(page, -1)
	families := make([][]*selector, len(at))
	for i, b := range at {
		for s := range strings.SplitSeq(page[b[2]:b[3]], ";") {
			sel, err := parseSelector(s)
			if err != nil {
				problems = append(problems, err.Error())
				continue
			}
			families[i] = append(families[i], sel)
		}
	}
	lists := make([][]Message, len(at))
	for _, m := range all {
		best, weight := -1, -1
		for i, family := range families {
			for _, sel := range family {
				w := sel.weight(m)
				sel.used = sel.used || w >= 0
				if w > weight {
					best, weight = i, w
				}
			}
		}
		if best < 0 {
			problems = append(problems, fmt.Sprintf("%s: no heading explains the %s %q", m.At[0], m.Sort, m.Text))
			continue
		}
		lists[best] = append(lists[best], m)
	}
	var b strings.Builder
	from := 0
	for i, where := range at {
		for _, sel := range families[i] {
			if !sel.used {
				problems = append(problems, fmt.Sprintf("<!-- messages: %s -->: nothing in the source is %s", page[where[2]:where[3]], sel))
			}
		}
		b.WriteString(page[from:where[4]])
		b.WriteString(list(lists[i]))
		from = where[5]
	}
	b.WriteString(page[from:])
	return b.String(), append(problems, unexplained(page)...)
}

func (s *selector) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %q", s.sort, s.path, s.words))
}

// few is up to how many messages of a family are shown without unfolding.
const few = 6

// list shows what is said first, then what can be done, each message once.
func list(ms []Message) string {
	var said, hints []string
	for _, m := range ms {
		line := "- " + code(m.Text)
		if m.Sort == Hint {
			hints = append(hints, "- hint: "+code(m.Text))
			continue
		}
		said = append(said, line)
	}
	lines := append(slices.Compact(said), slices.Compact(hints)...)
	text := strings.Join(lines, "\n") + "\n"
	if len(lines) <= few {
		return "\n" + text + "\n"
	}
	// Their number is not told: it would be a conflict of any two changes.
	return "<details><summary>messages</summary>\n\n" + text + "\n</details>\n"
}

// code is text as code, also where it has backquotes in it.
func code(text string) string {
	if strings.Contains(text, "`") {
		return "`` " + text + " ``"
	}
	return "`" + text + "`"
}

// unexplained names the headings with messages and nothing that explains them.
func unexplained(page string) (problems []string) {
	for _, section := range strings.Split("\n"+page, "\n#") {
		heading, text, _ := strings.Cut(section, "\n")
		before, _, ok := strings.Cut(text, "<!-- messages:")
		if ok && len(strings.Fields(before)) < 8 {
			problems = append(problems, "#"+heading+": there is no explanation above its messages")
		}
	}
	return problems
}
