package hostile

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/creds"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"google.golang.org/protobuf/proto"

	"ckpt/e2e/harness"
	"ckpt/e2e/imagetest"
)

// TestRights: whatever ids and capabilities an image gives its processes, they get no
// more by it than who restores has: no other id, no group that is not his.
func TestRights(t *testing.T) {
	all := []uint32{0xffffffff, 0x1ff}
	for _, tt := range []struct {
		name    string
		change  func(c *creds.CredsEntry)
		refused bool
	}{
		{"as it was", func(*creds.CredsEntry) {}, false},
		{"real user", func(c *creds.CredsEntry) { c.Uid = proto.Uint32(0) }, true},
		{"effective user", func(c *creds.CredsEntry) { c.Euid = proto.Uint32(0) }, true},
		{"saved user", func(c *creds.CredsEntry) { c.Suid = proto.Uint32(0) }, true},
		{"user of files", func(c *creds.CredsEntry) { c.Fsuid = proto.Uint32(0) }, true},
		{"real group", func(c *creds.CredsEntry) { c.Gid = proto.Uint32(0) }, true},
		{"effective group", func(c *creds.CredsEntry) { c.Egid = proto.Uint32(0) }, true},
		{"group of files", func(c *creds.CredsEntry) { c.Fsgid = proto.Uint32(0) }, true},
		{"groups", func(c *creds.CredsEntry) { c.Groups = []uint32{0, 4, 42} }, true},
		{"no such user", func(c *creds.CredsEntry) { c.Uid = proto.Uint32(0xffffffff) }, true},
		{"capabilities", func(c *creds.CredsEntry) { c.CapPrm, c.CapEff, c.CapInh, c.CapBnd = all, all, all, all }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			user := slices.DeleteFunc(harness.Users(), func(u string) bool { return u == "" && os.Geteuid() == 0 })[0]
			e := harness.New(t, user)
			e.Own("mutant")
			whole := saved(t, e, "subject", []string{"pending.c"}, "ready")
			m := imagetest.Mutation{Name: tt.name, Apply: func(i *imagetest.Image) {
				for name, f := range i.Files {
					if strings.HasPrefix(name, "core-") {
						tt.change(f.Entries[0].Message.(*criu_core.CoreEntry).ThreadCore.Creds)
					}
				}
			}}
			mutant(t, e, whole, m, func(t *testing.T, e *harness.Env, name, dir string) int {
				r := e.Try("restore", dir, "--name", "mutant")
				if refused := r.Code == 1 || r.Code == 3 || r.Code == 4; refused != tt.refused || !refused && r.Code != 0 || refused && !strings.HasPrefix(r.Err, "ckpt: error: ") {
					t.Errorf("%v", r)
				}
				if r.Code != 0 {
					t.Logf("%s", r.Err)
					return r.Code
				}
				for _, p := range (&harness.Container{Env: e, Name: "mutant"}).Ps().Processes {
					if err := hasOnly(p.PID, e.UID, e.GID); err != nil {
						t.Errorf("pid %d: %v", p.VPID, err)
					}
				}
				e.Try("rm", "-f", "mutant")
				return r.Code
			})
		})
	}
}

// hasOnly compares the ids of a process of the host.
func hasOnly(pid, uid, gid int) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		name, ids, _ := strings.Cut(line, ":")
		want := map[string]int{"Uid": uid, "Gid": gid, "Groups": gid}[name]
		if name != "Uid" && name != "Gid" && name != "Groups" {
			continue
		}
		for _, id := range strings.Fields(ids) {
			if id != fmt.Sprint(want) {
				return fmt.Errorf("it has %s", strings.TrimSpace(line))
			}
		}
	}
	return nil
}
