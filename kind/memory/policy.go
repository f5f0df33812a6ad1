package memory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

const (
	policyOfAddress = 2   // MPOL_F_ADDR of get_mempolicy(2)
	nodeBytes       = 128 // as many nodes as a kernel can be built for: 1024
	nodeBits        = nodeBytes*8 + 1
	// askedAtOnce is of how many mappings one script asks the memory policy: more
	// would not leave others their room in the area.
	askedAtOnce = 1024
	// askedSize is what the question for one takes there, in bytes, at most.
	askedSize = 512
)

// policies asks for the memory policies of mappings (mbind(2)). MPOL_F_ADDR tells
// a mapping's own policy from that of its thread, as /proc/PID/numa_maps does not.
type policies struct {
	s     *tracee.Script
	maps  []*procfs.Map
	steps []tracee.Step
	mode  uint64 // an address
	nodes []uint64
}

func askPolicies(s *tracee.Script, maps []*procfs.Map) *policies {
	a := &policies{s: s, maps: maps, mode: s.Space(4 * len(maps))}
	for i, m := range maps {
		a.nodes = append(a.nodes, s.Space(nodeBytes))
		a.steps = append(a.steps, s.Try(unix.SYS_GET_MEMPOLICY, a.mode+4*uint64(i), a.nodes[i], nodeBits, m.Start, policyOfAddress))
	}
	return a
}

// read notes the policies that are not the default. A kernel without
// CONFIG_NUMA has none.
func (a *policies) read(p *kind.Proc) error {
	for i, m := range a.maps {
		_, err := a.s.Result(a.steps[i])
		if errors.Is(err, unix.ENOSYS) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("mapping %#x-%#x %s: read its memory policy: %w", m.Start, m.End, m.Path, err)
		}
		mode := binary.LittleEndian.Uint32(a.s.Bytes(a.mode+4*uint64(i), 4))
		if mode == 0 { // MPOL_DEFAULT
			continue
		}
		x := extraOf(p, m.Start)
		x.Mempolicy = mode
		x.MempolicyNodes = bytes.TrimRight(bytes.Clone(a.s.Bytes(a.nodes[i], nodeBytes)), "\x00")
	}
	return nil
}

// ownPolicies are the mappings that may have a policy.
func ownPolicies(p *kind.Proc) (maps []*procfs.Map) {
	for i := range p.Maps {
		if !p.Maps[i].IsSpecial() {
			maps = append(maps, &p.Maps[i])
		}
	}
	return maps
}

// manyPolicies asks for those of a process with more mappings than are asked for
// beside all else.
func manyPolicies(d *kind.Dump, p *kind.Proc) error {
	maps := ownPolicies(p)
	if len(maps) <= askedAtOnce {
		return nil
	}
	return d.As(p, askedAtOnce*askedSize, func(run tracee.Runner) error {
		for len(maps) > 0 {
			n := min(len(maps), askedAtOnce)
			var a *policies
			if err := run(func(s *tracee.Script) error { a = askPolicies(s, maps[:n]); return nil }, func(*tracee.Script) error { return a.read(p) }); err != nil {
				return err
			}
			maps = maps[n:]
		}
		return nil
	})
}

// bind gives a mapping its memory policy, where there are its nodes.
func (b *space) bind(v *vma.VmaEntry, x *image.VMA) {
	if x.GetMempolicy() == 0 {
		return
	}
	mask := make([]byte, nodeBytes)
	copy(mask, x.GetMempolicyNodes())
	b.s.Try(unix.SYS_MBIND, v.GetStart(), v.GetEnd()-v.GetStart(), uint64(x.GetMempolicy()), b.s.Data(mask), nodeBits, 0)
}
