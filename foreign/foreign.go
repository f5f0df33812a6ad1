// Package foreign makes an image of criu's readable as one of ckpt's: what
// stands in ckpt's own files is made, in memory, from what CRIU's say. So
// whoever reads the image afterwards, the kinds before all, need not know who
// wrote it. docs/criu.md says what is carried.
//
// What is in the image and is not understood is refused, all of it at once: a
// file, a message's field, a value. CRIU 4.1.1 is what the fields and their
// meaning are taken from (its images/*.proto, criu/include/image.h).
package foreign

import (
	"errors"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
)

// Translate does so for an image that has no manifest. What it refuses is in
// the joined error (failure.All), each with its reason.
func Translate(r *image.Reader) error {
	if err := known(r); err != nil {
		return err
	}
	t := &translation{r: r, m: &image.Manifest{Format: image.Version, Machine: &image.Machine{Arch: arch}}, files: map[string][]byte{}, names: map[string]string{},
		entries: map[uint32]*fdinfo.FileEntry{}, copies: map[uint32]uint32{}, pidfds: map[uint32]*image.FileExtra{}}
	for _, step := range []func() error{t.loadInventory, t.loadFiles, t.loadTree, t.spaces, t.terminals, t.processes, t.mappings, t.remaps, t.descriptors, t.table, t.extras} {
		if err := step(); err != nil {
			return err
		}
	}
	if err := errors.Join(t.refused...); err != nil {
		return err
	}
	r.Translate(image.Translation{Manifest: t.m, Files: t.files, Names: t.names})
	return nil
}

// translation is one under way.
type translation struct {
	r       *image.Reader
	m       *image.Manifest
	files   map[string][]byte
	names   map[string]string
	entries map[uint32]*fdinfo.FileEntry // of files.img by id
	copies  map[uint32]uint32            // of what those entries are that CRIU has once
	pidfds  map[uint32]*image.FileExtra  // by file
	host    *criu_core.TaskKobjIdsEntry  // namespaces of criu itself: those that the processes have not of their own
	procs   []*process                   // in the order of pstree.img
	refused []error
}

func (t *translation) refuse(err error) {
	if err != nil {
		t.refused = append(t.refused, err)
	}
}

// refuseOf refuses something of a process.
func (t *translation) refuseOf(p *process, what string, err error) {
	if err != nil {
		t.refuse(&failure.Error{Doing: "restore", VPID: int(p.entry.GetPid()), Comm: p.comm(), What: what, Err: err})
	}
}

// notCarried refuses what criu itself can restore.
func notCarried(format string, args ...any) error {
	return failure.WithHint(failure.Unsupportedf(format, args...), "restore the image by criu")
}

// put gives a file of ckpt's, or one in the place of CRIU's.
func put[M proto.Message](t *translation, f image.Format, id string, entries ...M) error {
	b, err := image.Encode(f, entries...)
	if err != nil {
		return err
	}
	t.files[f.Name(id)] = b
	return nil
}

// each gathers the entries of a file.
func each[M proto.Message](r *image.Reader, f image.Format, id string) (out []M, err error) {
	err = image.Each(r, f, id, func(m M, _ func(int) ([]byte, error)) error {
		out = append(out, m)
		return nil
	})
	return out, err
}

func (t *translation) loadFiles() error {
	all, err := each[*fdinfo.FileEntry](t.r, image.Files, "")
	if err != nil {
		return err
	}
	for _, e := range all {
		if t.entries[e.GetId()] != nil {
			return failure.Damagedf("files.img: file %d stands there twice", e.GetId())
		}
		t.entries[e.GetId()] = e
	}
	slices.SortFunc(all, func(a, b *fdinfo.FileEntry) int { return int(int64(a.GetId()) - int64(b.GetId())) })
	for _, e := range all {
		if e.GetType() == typePidfd {
			t.refuse(t.pidfd(e))
			continue
		}
		t.refuse(checkFile(e))
		if e.GetTfd() != nil {
			goOn(e.GetTfd())
		}
	}
	return nil
}

// arch is the only machine whose images are carried, as uname(2) names it.
const arch = "x86_64"
