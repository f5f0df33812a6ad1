package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/image"
	"ckpt/series"
)

// scheduleFlags are those of a command after which a container is saved by itself.
type scheduleFlags struct {
	every      time.Duration
	keep       int
	to         fileName
	onTerm     time.Duration
	foreground bool
}

const (
	defaultKeep   = 3
	defaultOnTerm = time.Minute
	// leastEvery keeps a container from doing nothing but being saved.
	leastEvery = time.Second
)

func (s *scheduleFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&s.every, "every", 0, "save it by itself, so long after the last time: `TIME`, as 10m")
	f.IntVar(&s.keep, "keep", defaultKeep, "how many of these images to keep, at least")
	f.Var(&s.to, "to", "the directory for these images: `DIR`, made if it is not there")
	f.DurationVar(&s.onTerm, "on-term", 0, "upon SIGTERM save it, and end, within `TIME`")
	f.Lookup("on-term").NoOptDefVal = defaultOnTerm.String()
	f.BoolVar(&s.foreground, "foreground", false, "stay until it ends, print what it writes, and exit with its status")
}

// over gives the schedule that the flags of cmd ask for over base, that of an image;
// nil: the container is not saved by itself.
func (s *scheduleFlags) over(cmd *cobra.Command, base *container.Schedule) (*container.Schedule, error) {
	changed, name := cmd.Flags().Changed, cmd.Name()
	out := container.Schedule{Keep: s.keep}
	if base != nil {
		out = *base
	}
	if changed("every") {
		if out.Every = s.every; s.every == 0 {
			out.OnTerm = 0
		}
	}
	if changed("on-term") {
		out.OnTerm = s.onTerm
	}
	if changed("keep") {
		out.Keep = s.keep
	}
	if changed("to") {
		abs, err := filepath.Abs(string(s.to))
		if err != nil {
			return nil, err
		}
		out.To = abs
	}
	switch {
	case changed("every") && s.every != 0 && s.every < leastEvery:
		return nil, usage(fmt.Errorf("%s: --every %v is too often", name, s.every), fmt.Sprintf("%v is the least; 10m is ten minutes", leastEvery))
	case changed("on-term") && s.onTerm < leastEvery:
		return nil, usage(fmt.Errorf("%s: --on-term=%v is too short for a dump", name, s.onTerm), fmt.Sprintf("%v is the least; a minute if no time is given", leastEvery))
	case out.Keep < 1:
		return nil, usage(fmt.Errorf("%s: --keep %d keeps no image", name, out.Keep), "1 keeps the last one only")
	case out.Every == 0 && out.OnTerm == 0:
		if changed("keep") || changed("to") {
			return nil, usage(fmt.Errorf("%s: --keep and --to are about the images that --every or --on-term makes", name),
				"say when to save it: --every 10m, or --on-term", "or leave them out")
		}
		return nil, nil
	case out.To == "":
		return nil, usage(fmt.Errorf("%s: it is not told where the images go", name), "name a directory: --to DIR")
	}
	return &out, nil
}

// restored gives the schedule for the container of an image, and whether the images in
// its directory are that container's own.
func (o *restoreOptions) restored(a *app, cmd *cobra.Command, m *image.Manifest, name string, req container.RestoreRequest) (out *container.Schedule, own bool, err error) {
	dir := req.Dir
	if req.Stream {
		dir = ""
	}
	base, err := scheduleOf(m, dir)
	if err != nil {
		return nil, false, err
	}
	to := ""
	if base != nil && name == m.GetName() {
		to = base.To
	}
	switch {
	case o.saved != nil:
		return o.saved, o.saved.To == to, nil
	case base != nil && to == "":
		// Two containers in one directory would take each other's images away.
		base.Every, base.OnTerm, base.To = 0, 0, ""
		if out, err = o.schedule.over(cmd, base); err == nil && out == nil && !cmd.Flags().Changed("every") {
			err = a.warn("a copy under another name is not saved by itself, unless --every and --to say so", "name", name)
		}
		return out, false, err
	}
	out, err = o.schedule.over(cmd, base)
	return out, out != nil && out.To == to, err
}

// scheduleOf is the schedule in an image that stands in dir (absolute; "": in none),
// nil for none. Where dir is of a series, the series goes on there.
func scheduleOf(m *image.Manifest, dir string) (*container.Schedule, error) {
	s := m.GetSchedule()
	if s == nil {
		return nil, nil
	}
	out := &container.Schedule{Every: time.Duration(s.Every), Keep: int(s.Keep), To: s.To, OnTerm: time.Duration(s.OnTerm), Flags: s.Flags}
	sound := out.Keep > 0 && filepath.IsAbs(out.To) && (out.Every >= leastEvery || out.Every == 0) && (out.OnTerm >= leastEvery || out.OnTerm == 0)
	for _, f := range out.Flags {
		sound = sound && isSaveFlag(f)
	}
	if !sound {
		return nil, failure.Damagedf("%s: the image has a schedule (--every) that ckpt does not write", dir)
	}
	if in, err := filepath.EvalSymlinks(dir); err == nil && series.Has(filepath.Base(in)) {
		out.To = filepath.Dir(in)
	}
	return out, nil
}

// inImage is a schedule as an image tells it.
func inImage(s *container.Schedule) *image.Schedule {
	if s == nil {
		return nil
	}
	return &image.Schedule{Every: int64(s.Every), Keep: uint32(s.Keep), To: s.To, OnTerm: int64(s.OnTerm), Flags: s.Flags}
}

// text is a schedule for a person.
func scheduleText(s *container.Schedule) string {
	var when []string
	if s.Every > 0 {
		when = append(when, "every "+shortDuration(s.Every))
	}
	if s.OnTerm > 0 {
		when = append(when, "on SIGTERM")
	}
	return fmt.Sprintf("%s into %s", strings.Join(when, " and "), s.To)
}

// shortDuration is "10m" for 10m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// saveFlags are flags of `ckpt dump` for each dump of a schedule.
type saveFlags struct {
	tcp      outside
	external []string
	compress compression
	seal     sealFlags
	keys     keyFlags // of the images before
}

func (s *saveFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Var(&s.tcp, "tcp", "of these dumps: TCP connections that lead outside: keep or close")
	f.StringArrayVar(&s.external, "external", nil, "of these dumps: "+externalUsage)
	f.Var(&s.compress, "compress", "of these dumps: compress memory (zstd): fastest, default, better or best `LEVEL`")
	f.Lookup("compress").NoOptDefVal = "default"
	s.seal.add(cmd)
	s.keys.add(cmd)
}

// saveFlagNames are those of saveFlags; the last two are for the image before.
var saveFlagNames = []string{"tcp", "external", "compress", "encrypt", "sign", "identity", "verify-key"}

func isSaveFlag(f string) bool {
	for _, n := range saveFlagNames {
		if strings.HasPrefix(f, "--"+n+"=") {
			return true
		}
	}
	return false
}

// forParent tells of a flag of isSaveFlag whether it is about the image before.
func forParent(f string) bool {
	return strings.HasPrefix(f, "--identity=") || strings.HasPrefix(f, "--verify-key=")
}

// list is how they stand on a command line, once each has been found to be right.
func (s *saveFlags) list() (out []string, err error) {
	external, err := parseExternals("start", s.external)
	if err != nil {
		return nil, err
	}
	if _, _, err := s.seal.keys(); err != nil {
		return nil, err
	}
	if _, _, err := s.keys.read(); err != nil {
		return nil, err
	}
	add := func(name, value string) { out = append(out, "--"+name+"="+value) }
	path := func(name, value string) {
		abs, aerr := filepath.Abs(value)
		err = errors.Join(err, aerr)
		add(name, abs)
	}
	if s.tcp != "" {
		add("tcp", s.tcp.String())
	}
	for _, e := range external {
		add("external", e)
	}
	if s.compress != 0 {
		add("compress", s.compress.String())
	}
	for _, r := range s.seal.recipients {
		if isRecipient(r) {
			add("encrypt", r)
		} else {
			path("encrypt", r)
		}
	}
	if s.seal.sign != "" {
		path("sign", string(s.seal.sign))
	}
	for _, i := range s.keys.identities {
		path("identity", i)
	}
	if s.keys.verify != "" {
		path("verify-key", string(s.keys.verify))
	}
	return out, err
}

// parentKeys are the keys among flags for the image before.
func parentKeys(flags []string) (k keyFlags) {
	for _, f := range flags {
		if path, ok := strings.CutPrefix(f, "--identity="); ok {
			k.identities = append(k.identities, path)
		}
		if path, ok := strings.CutPrefix(f, "--verify-key="); ok {
			k.verify = fileName(path)
		}
	}
	return k
}
