package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/image"
)

func TestScheduleInImage(t *testing.T) {
	tmp, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &container.Schedule{Every: time.Minute, Keep: 2, To: "/saves", OnTerm: time.Second, Flags: []string{"--compress=best", "--identity=/k"}}
	for _, tt := range []struct{ dir, to string }{
		{"", "/saves"},               // a stream
		{tmp + "/tonight", "/saves"}, // somebody's
		{tmp + "/000001-20260117T080500Z", tmp},
	} {
		if tt.dir != "" {
			if err := os.Mkdir(tt.dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		want := *s
		want.To = tt.to
		got, err := scheduleOf(&image.Manifest{Schedule: inImage(s)}, tt.dir)
		if d := cmp.Diff(&want, got); d != "" || err != nil {
			t.Errorf("%s: %v\n%s", tt.dir, err, d)
		}
	}
	if got, err := scheduleOf(&image.Manifest{}, tmp); got != nil || err != nil {
		t.Errorf("of none: %v, %v", got, err)
	}
	// An image is somebody's claim.
	for what, spoil := range map[string]func(*image.Schedule){
		"keep": func(s *image.Schedule) { s.Keep = 0 }, "every": func(s *image.Schedule) { s.Every = 1 },
		"negative": func(s *image.Schedule) { s.Every = -1 }, "on_term": func(s *image.Schedule) { s.OnTerm = 1 },
		"to": func(s *image.Schedule) { s.To = "saves" }, "flag": func(s *image.Schedule) { s.Flags = []string{"--pid=1"} },
		"no flag": func(s *image.Schedule) { s.Flags = []string{"/etc"} },
	} {
		m := &image.Manifest{Schedule: inImage(s)}
		spoil(m.Schedule)
		if _, err := scheduleOf(m, ""); !errors.Is(err, failure.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestScheduleText(t *testing.T) {
	for _, tt := range []struct {
		s    container.Schedule
		want string
	}{
		{container.Schedule{Every: 10 * time.Minute, To: "/d"}, "every 10m into /d"},
		{container.Schedule{Every: 2 * time.Hour, OnTerm: 1, To: "/d"}, "every 2h and on SIGTERM into /d"},
		{container.Schedule{Every: 90 * time.Second, To: "/d"}, "every 1m30s into /d"},
		{container.Schedule{OnTerm: time.Second, To: "/d"}, "on SIGTERM into /d"},
	} {
		if got := scheduleText(&tt.s); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
