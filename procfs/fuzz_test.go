package procfs

import "testing"

// The text comes from the kernel, but parts of it (names, paths) from
// whoever runs on the machine: no parser may panic or hang.

func fuzz(f *testing.F, parse func([]byte) error, fixtures ...string) {
	for _, name := range fixtures {
		f.Add(fixture(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) { _ = parse(b) })
}

func FuzzParseStatus(f *testing.F) {
	fuzz(f, func(b []byte) error { _, err := parseStatus(b); return err }, "status")
}

func FuzzParseStat(f *testing.F) {
	fuzz(f, func(b []byte) error { _, err := parseStat(b); return err }, "stat")
}

func FuzzParseMaps(f *testing.F) {
	for _, name := range []string{"maps", "smaps"} {
		f.Add(fixture(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ms, err := parseMaps(b)
		if err != nil {
			return
		}
		for _, m := range ms {
			if m.End <= m.Start {
				t.Errorf("empty mapping %x-%x", m.Start, m.End)
			}
		}
	})
}

func FuzzParseFDInfo(f *testing.F) {
	fuzz(f, func(b []byte) error {
		i, err := parseFDInfo(b)
		if err != nil {
			return err
		}
		_, err = i.Locks()
		return err
	}, "fdinfo/4", "fdinfo/6", "fdinfo/7", "fdinfo/8")
}

func FuzzParseTimers(f *testing.F) {
	fuzz(f, func(b []byte) error { _, err := parseTimers(b); return err }, "timers")
}

func FuzzParseLimits(f *testing.F) {
	fuzz(f, func(b []byte) error { _, err := parseLimits(b); return err }, "limits")
}

func FuzzParseMountInfo(f *testing.F) {
	fuzz(f, func(b []byte) error { _, err := parseMountInfo(b); return err }, "mountinfo")
}

func FuzzParseCgroup(f *testing.F) {
	fuzz(f, func(b []byte) error { _, err := parseCgroup(b); return err }, "cgroup")
}

func FuzzParseIDMap(f *testing.F) {
	fuzz(f, func(b []byte) error { _, err := parseIDMap(b); return err }, "uid_map")
}

func FuzzParseTimens(f *testing.F) {
	fuzz(f, func(b []byte) error { _, err := parseTimens(b); return err }, "timens_offsets")
}

func FuzzParseExecStart(f *testing.F) {
	fuzz(f, func(b []byte) error { _, err := parseExecStart(b); return err }, "sched")
}
