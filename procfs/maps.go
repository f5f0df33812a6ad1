package procfs

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Map is one mapping of /proc/PID/smaps or /proc/PID/maps.
type Map struct {
	Start, End                uint64
	Read, Write, Exec, Shared bool
	Offset                    uint64 // bytes into the file
	Dev                       uint64 // as unix.Mkdev makes it, of the super block: stat(2) may differ (btrfs, overlay)
	Ino                       uint64
	Path                      string // without " (deleted)"; "[heap]", "[anon:name]", "anon_inode:…", "" for plain anonymous memory
	Deleted                   bool   // the file has no name any more; memfd, SysV and shared anonymous memory never had one

	// The rest only from smaps. Sizes in bytes.
	Flags         []string // VmFlags, two letters each
	Rss           uint64
	Anonymous     uint64
	AnonHugePages uint64
	Swap          uint64
	PageSize      uint64 // KernelPageSize: that of huge pages for hugetlb
	ProtectionKey int
}

// Has tells whether smaps gave the two-letter VmFlags flag ("gd", "lo", "dc").
func (m *Map) Has(flag string) bool {
	for _, f := range m.Flags {
		if f == flag {
			return true
		}
	}
	return false
}

// Prot is the protection as mmap(2) takes it.
func (m *Map) Prot() int {
	p := unix.PROT_NONE
	if m.Read {
		p |= unix.PROT_READ
	}
	if m.Write {
		p |= unix.PROT_WRITE
	}
	if m.Exec {
		p |= unix.PROT_EXEC
	}
	return p
}

// Len is the size in bytes.
func (m *Map) Len() uint64 { return m.End - m.Start }

// IsSpecial tells whether the kernel made the mapping by itself: vDSO, vvar,
// vsyscall, uprobes. Such mappings cannot be made with mmap(2).
func (m *Map) IsSpecial() bool {
	return m.IsVDSO() || m.IsVvar() || m.Path == "[vsyscall]" || m.Path == "[uprobes]"
}

// IsVDSO: the code half of the vDSO.
func (m *Map) IsVDSO() bool { return m.Path == "[vdso]" }

// VDSO finds it; nil: there is none.
func VDSO(maps []Map) *Map {
	i := slices.IndexFunc(maps, func(m Map) bool { return m.IsVDSO() })
	if i < 0 {
		return nil
	}
	return &maps[i]
}

// IsVvar: the data half; [vvar_vclock] was split off in 6.13.
func (m *Map) IsVvar() bool { return m.Path == "[vvar]" || m.Path == "[vvar_vclock]" }

// File tells whether a file is mapped (device, memfd and SysV shared memory included).
func (m *Map) File() bool { return m.Ino != 0 || strings.HasPrefix(m.Path, "/") }

// Maps reads /proc/PID/smaps: about 7 ms a GB of memory, for the kernel walks
// the page tables. The memory must not change meanwhile.
func (p *Proc) Maps() ([]Map, error) { return p.maps("smaps") }

// MapsOnly reads /proc/PID/maps, which is cheap: no VmFlags, no sizes.
func (p *Proc) MapsOnly() ([]Map, error) { return p.maps("maps") }

func (p *Proc) maps(rel string) ([]Map, error) {
	b, err := p.read(rel, make([]byte, 0, 64<<10))
	if err != nil {
		return nil, err
	}
	ms, err := parseMaps(b)
	if err != nil {
		return nil, p.parseErr(rel, err)
	}
	for i := range ms {
		p.settle(&ms[i])
	}
	return ms, nil
}

const deleted = " (deleted)"

// settle asks the file system where the text of a path has two readings:
// " (deleted)" may be part of the file's own name, and `\012` may stand for a
// newline or for itself. The links of map_files are not escaped.
func (p *Proc) settle(m *Map) {
	if strings.Contains(m.Path, "\n") {
		if l, err := p.Link(m.link()); err == nil {
			m.Path, m.Deleted = strings.CutSuffix(l, deleted)
		}
	}
	if !m.Deleted {
		return
	}
	var st unix.Stat_t
	if unix.Fstatat(p.at("root"), "root"+m.Path+deleted, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Ino == m.Ino {
		m.Path, m.Deleted = m.Path+deleted, false
	}
}

func (m *Map) link() string { return fmt.Sprintf("map_files/%x-%x", m.Start, m.End) }

// OpenMap opens the mapped file itself, named or not (/proc/PID/map_files).
// It takes CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN in the first user namespace.
func (p *Proc) OpenMap(m *Map, flags int) (*os.File, error) { return p.OpenFile(m.link(), flags) }

// parseMaps reads maps and smaps alike: the lines smaps adds begin with an
// upper-case letter, an address never does.
func parseMaps(b []byte) ([]Map, error) {
	var out []Map
	for len(b) > 0 {
		var l []byte
		if l, b = line(b); len(l) == 0 {
			continue
		}
		if l[0] >= 'A' && l[0] <= 'Z' {
			if len(out) == 0 {
				return nil, fmt.Errorf("%q before the first address", l)
			}
			if err := out[len(out)-1].set(l); err != nil {
				return nil, err
			}
			continue
		}
		m, err := parseMapLine(l)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", l, err)
		}
		out = append(out, m)
	}
	return out, nil
}

func parseMapLine(l []byte) (Map, error) {
	var m Map
	span, rest := next(l)
	perm, rest := next(rest)
	off, rest := next(rest)
	dev, rest := next(rest)
	ino, path := next(rest)
	start, end, ok := bytes.Cut(span, []byte("-"))
	major, minor, ok2 := bytes.Cut(dev, []byte(":"))
	if !ok || !ok2 || len(perm) != 4 {
		return m, fmt.Errorf("not a mapping")
	}
	var maj, min uint64
	for _, f := range []struct {
		to   *uint64
		b    []byte
		base uint64
	}{{&m.Start, start, 16}, {&m.End, end, 16}, {&m.Offset, off, 16}, {&maj, major, 16}, {&min, minor, 16}, {&m.Ino, ino, 10}} {
		var err error
		if *f.to, err = uintOf(f.b, f.base); err != nil {
			return m, err
		}
	}
	if m.End <= m.Start || maj > 1<<32-1 || min > 1<<32-1 {
		return m, fmt.Errorf("not a mapping")
	}
	m.Dev = unix.Mkdev(uint32(maj), uint32(min))
	m.Read, m.Write, m.Exec, m.Shared = perm[0] == 'r', perm[1] == 'w', perm[2] == 'x', perm[3] == 's'
	// Blanks fill up to the column of the path. Only newlines are escaped in it.
	m.Path = unescapeNewlines(bytes.TrimLeft(path, " "))
	if strings.HasPrefix(m.Path, "/") {
		m.Path, m.Deleted = strings.CutSuffix(m.Path, deleted)
	}
	return m, nil
}

// unescapeNewlines undoes seq_file_path(m, file, "\n"), which leaves
// backslashes as they are.
func unescapeNewlines(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	return strings.ReplaceAll(string(b), `\012`, "\n")
}

func (m *Map) set(l []byte) error {
	i := bytes.IndexByte(l, ':')
	if i < 0 {
		return fmt.Errorf("%q: no colon", l)
	}
	var to *uint64
	switch string(l[:i]) {
	case "VmFlags":
		m.Flags = vmFlags(l[i+1:])
		return nil
	case "ProtectionKey":
		k, err := number(l[i+1:])
		m.ProtectionKey = k
		return err
	case "Rss":
		to = &m.Rss
	case "Anonymous":
		to = &m.Anonymous
	case "AnonHugePages":
		to = &m.AnonHugePages
	case "Swap":
		to = &m.Swap
	case "KernelPageSize":
		to = &m.PageSize
	default:
		return nil
	}
	v, err := kilobytes(l[i+1:])
	if err != nil {
		return fmt.Errorf("%q: %w", l, err)
	}
	*to = v
	return nil
}

// vmFlags splits the flags with a single allocation of text.
func vmFlags(b []byte) []string { return strings.Fields(string(b)) }
