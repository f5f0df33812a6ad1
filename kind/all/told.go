package all

import "strings"

// Told is what a user is told of a kind, "" where there is nothing to say.
type Told struct {
	Name    string `json:"name"`
	Of      string `json:"of"` // whose state it is: descriptor, process, thread, namespace
	Saves   string `json:"kept,omitempty"`
	Refuses string `json:"refused,omitempty"`
	Limits  string `json:"lost,omitempty"`
	Needs   string `json:"needs,omitempty"`
}

// Told tells of every kind, in the order of the tables. What comes in several
// parts under one name (of a process and of its threads) is told once.
func (k Kinds) Told() []Told {
	var out []Told
	for _, f := range k.Files {
		out = add(out, Told{f.Name, "descriptor", f.Saves, f.Refuses, f.Limits, f.Needs})
	}
	for _, p := range k.All() {
		out = add(out, Told{p.Name, "process", p.Saves, p.Refuses, p.Limits, p.Needs})
	}
	for _, t := range k.Threads {
		out = add(out, Told{t.Name, "thread", t.Saves, t.Refuses, t.Limits, t.Needs})
	}
	for _, n := range k.Namespaces {
		out = add(out, Told{n.Name, "namespace", n.Saves, n.Refuses, n.Limits, n.Needs})
	}
	return out
}

func add(all []Told, t Told) []Told {
	for i := range all {
		if have := &all[i]; have.Name == t.Name {
			have.Saves, have.Refuses = join(have.Saves, t.Saves), join(have.Refuses, t.Refuses)
			have.Limits, have.Needs = join(have.Limits, t.Limits), join(have.Needs, t.Needs)
			return all
		}
	}
	return append(all, t)
}

// join adds what is not told already.
func join(a, b string) string {
	switch {
	case a == "" || a == b:
		return b
	case b == "":
		return a
	}
	return strings.Join([]string{a, b}, "; ")
}
