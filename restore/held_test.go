package restore

import (
	"errors"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
)

// TestHostileHeld: an image may say anything of those who have ended.
func TestHostileHeld(t *testing.T) {
	for _, tt := range []struct {
		name string
		held []*image.Held
		want string // "": it is right
	}{
		{"a process, a zombie, the dead leader of a group, one without an id", []*image.Held{{Number: 1, Id: 9}, {Number: 2, Id: 4}, {Number: 3, Id: 5}, {Number: 4}}, ""},
		{"threads of one that lives and of one that has ended", []*image.Held{{Number: 1, Id: 8, Tgid: 2}, {Number: 2, Id: 9}, {Number: 3, Id: 10, Tgid: 9}}, ""},
		{"one number twice", []*image.Held{{Number: 1, Id: 9}, {Number: 1, Id: 8}}, "stands there twice"},
		{"one id twice", []*image.Held{{Number: 1, Id: 9}, {Number: 2, Id: 9}}, "stands there twice"},
		{"one that lives", []*image.Held{{Number: 1, Id: 2}}, "pid 2 has ended, and is there"},
		{"a thread that lives", []*image.Held{{Number: 1, Id: 3}}, "pid 3 has ended, and is there"},
		{"a thread of nobody", []*image.Held{{Number: 1, Id: 8, Tgid: 7}}, "of process 7, which is not there"},
		{"a thread of a zombie", []*image.Held{{Number: 1, Id: 8, Tgid: 4}}, "of process 4, which is not there"},
		{"a thread of a thread", []*image.Held{{Number: 1, Id: 8, Tgid: 9}, {Number: 2, Id: 9, Tgid: 2}}, "of process 9, which is not there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &image.Manifest{Held: tt.held, Table: []*image.Identity{{Id: 2, Tgid: 2}, {Id: 3, Tgid: 2}, {Id: 4, Tgid: 4, Zombie: true}, {Id: 5}}}
			s := &session{ids: newIdentities(m), r: &kind.Restore{Manifest: m}}
			for _, w := range m.Table[:3] {
				if w.Id == w.Tgid {
					s.r.Targets = append(s.r.Targets, &kind.Target{VPID: pidns.VPID(w.Id), Zombie: w.Zombie, IDs: &criu_core.TaskKobjIdsEntry{}})
				}
			}
			err := s.loadEnded()
			if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, failure.ErrDamaged) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
