package fault

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// thing is one that e2e/program/refuses.c holds.
type thing struct {
	name string
	root bool // an ordinary user is refused it, or something before it
	// ordinary: root carries it.
	ordinary bool
	says     string // what the dump says
	// check is what ckpt check says: "" the same, "-" that it would dump, since
	// only a stop shows it and programs ordinarily have no such thing, else what
	// it has not looked at.
	check string
}

var things = []thing{
	{name: "secret file", says: "fd 3: /secretmem is secret memory (memfd_secret), which nobody else can read"},
	{name: "secret memory", says: " /secretmem: secret memory (memfd_secret), which nobody else can read"},
	{name: "dispatch", says: "its system calls are dispatched to itself (PR_SET_SYSCALL_USER_DISPATCH)", check: "-"},
	{name: "ldt", says: "it has a local descriptor table (modify_ldt)", check: "-"},
	{name: "vdso", says: " [vdso]: the program has changed the kernel's code in it"},
	{name: "address space", says: "kB of address space (RLIMIT_AS) and has "},
	{name: "mappings", says: " that a process may have (vm.max_map_count), which leaves no room for ckpt's"},
	{name: "addresses", says: "kB of addresses is left among its mappings"},
	{name: "all locked", ordinary: true, says: "all it maps is locked (mlockall), and it may lock no more (RLIMIT_MEMLOCK)", check: "-"},
	{name: "guards", ordinary: true, says: "there are guard pages in shared memory (MADV_GUARD_INSTALL), and only root can look behind them"},
	{name: "guarded memfd", ordinary: true, says: "there are guard pages in shared memory (MADV_GUARD_INSTALL), and only root can look behind them"},
	{name: "socket memory", says: "memory into which a socket receives without copying (TCP_ZEROCOPY_RECEIVE)"},
	{name: "requests", says: "a request of io_submit(2) was under way in AIO context 0x", check: "-"},
	{name: "notifier", root: true, says: "a seccomp listener: system calls of other processes wait for its answers"},
	{name: "notifier gone", root: true, says: "a seccomp filter hands calls to a supervisor (SECCOMP_RET_USER_NOTIF)", check: "seccomp filters that ask a supervisor"},
	{name: "undo", says: "it shares semaphore undo values with pid ", check: "undo values of semaphores"},
	{name: "hung up", root: true, says: "a slave of terminal /dev/pts/0 was hung up (vhangup) while its master is open"},
	{name: "discipline", says: "fd 3: terminal /dev/pts/0 has line discipline 27: only the ordinary one is carried"},
	{name: "landlock", root: true, says: landlocked, check: "-"}, // others have to have no_new_privs
	{name: "sandbox", says: landlocked, check: "rules of Landlock"},
	{name: "user's sandbox", root: true, says: landlocked, check: "rules of Landlock"},
	{name: "path of epoll", says: "fd 4: anon_inode:[eventpoll], opened once more with O_PATH, is not carried"},
	{name: "path of socket", says: ", opened once more with O_PATH, is not carried"},
	{name: "path of pipe", says: "a pipe opened with O_PATH is not carried"},
	{name: "detached", root: true, says: "fd 3: a mount that has no place in the file system (open_tree, fsmount)"},
	{name: "dnotify", says: " has an owner (F_SETOWN), as a directory has whose changes are told by a signal (F_NOTIFY)"},
	{name: "pressure", root: true, says: "/proc/pressure/memory is open for writing: a trigger (pressure stall information) is not carried"},
	{name: "error queue", says: faulty},
	{name: "corked", says: "fd 3: a datagram not yet sent waits in it (UDP_CORK or MSG_MORE)"},
	{name: "sent queue", root: true, says: strings.Replace(faulty, "3", "4", 1)}, // connections on the host's network are root's
	{name: "early stream", says: early},
	{name: "early packet", says: early},
	{name: "early rights", says: early},
	{name: "gone stream", says: "has gone before it was accepted; what it sent is shown to nobody"},
	{name: "gone packet", says: "has gone before it was accepted; what it sent is shown to nobody"},
	{name: "early TCP", says: ", over which data has come"},
	{name: "gone TCP", says: ", over which data has come"},
	{name: "filtered inet", root: true, says: filtered},
	{name: "filtered unix", root: true, says: filtered},
	{name: "filtered netlink", root: true, says: filtered},
	{name: "filtered packet", root: true, says: filtered},
	{name: "moved name", root: true, says: "/before/s leads to its file cannot be found out"}, // to an ordinary user the file is gone
	{name: "deep file", says: "fd 4: its path is longer than 4095 bytes, and the kernel does not show it"},
	{name: "deep directory", says: "working directory: its path is longer than 4095 bytes, and the kernel does not show it"},
	{name: "urgent", says: "fd 3: unix socket: out-of-band data (MSG_OOB) waits to be read"},
	{name: "urgent TCP", root: true, says: "urgent data (MSG_OOB) from 127.0.0.1:"},
	{name: "leased memfd", says: "a lease (F_SETLEASE) on a memfd, whose contents cannot be read without breaking it"},
	{name: "long message", root: true, says: "message 0 is longer than kernel.msgmax, or than 524288 bytes", check: "System V objects"},
	{name: "multipath", says: "a Multipath TCP connection to 127.0.0.1:"},
}

const filtered = "fd 3: a socket with an eBPF filter (SO_ATTACH_BPF)"

const early = "before the connection was accepted, and the kernel shows it to nobody"

const landlocked = "it has given up rights by landlock(7), and its rules are shown to nobody"

const faulty = "fd 3: an error, or what has become of something it has sent, waits to be read (SO_ERROR, MSG_ERRQUEUE)"

// TestRefusedThings: a dump says what it does not carry, and what to do; the
// program goes on. A check says the same, or that it has not looked.
func TestRefusedThings(t *testing.T) {
	for _, th := range things {
		for _, user := range harness.Users() {
			if th.root && !harness.AsRoot(user) || th.ordinary && harness.AsRoot(user) {
				continue
			}
			t.Run(th.name+"/as "+user, func(t *testing.T) {
				t.Parallel()
				e := harness.New(t, user)
				c := e.Start("refuses", nil, harness.Program(t, "refuses.c"), th.name)
				var j harness.Journal
				counts(c, &j, "main")
				r := e.Try("dump", c.Name, e.Join("image"))
				if r.Code != 3 || !strings.Contains(r.Err, th.says) || !strings.Contains(r.Err, "ckpt: hint: ") {
					t.Errorf("want exit code 3, %q and a hint: %v", th.says, r)
				}
				code, says := 0, th.check
				switch th.check {
				case "":
					code, says = 3, th.says
				case "-":
					says = "would dump"
				}
				if r := e.Try("check", c.Name); r.Code != code || !strings.Contains(r.Out, says) {
					t.Errorf("check: want exit code %d and %q: %v", code, says, r)
				}
				absent(e, e.Join("image"))
				untraced(c)
				counts(c, &j, "main")
			})
		}
	}
}

// TestRefused32Bit: a check tells such a program by its file, a dump by its
// registers.
func TestRefused32Bit(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			path := e.Join("waits")
			if err := os.WriteFile(path, elf32(t), 0o755); err != nil {
				t.Fatal(err)
			}
			if !runs(t, path) {
				return // a kernel without CONFIG_IA32_EMULATION
			}
			c := e.Start("waits", nil, path)
			for _, args := range [][]string{{"check", c.Name}, {"dump", c.Name, e.Join("image")}} {
				r := e.Try(args...)
				if told := r.Out + r.Err; r.Code != 3 || !strings.Contains(told, "pid 2 (waits): registers: it runs 32-bit code") || !strings.Contains(told, "use a 64-bit build") {
					t.Errorf("want exit code 3, the reason and a way out: %v", r)
				}
			}
			absent(e, e.Join("image"))
			untraced(c)
			if err := c.Alive(); err != nil {
				t.Error(err)
			}
		})
	}
}

// elf32 is a 32-bit program that calls pause(2) for ever.
func elf32(t *testing.T) []byte {
	const base = 0x8048000
	code := []byte{
		0xb8, 29, 0, 0, 0, // mov $29, %eax
		0xcd, 0x80, // int $0x80
		0xeb, 0xf7, // jmp to the beginning
	}
	h := elf.Header32{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_386), Version: uint32(elf.EV_CURRENT), Phnum: 1}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS32), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	var p elf.Prog32
	h.Ehsize, h.Phentsize = uint16(binary.Size(h)), uint16(binary.Size(p))
	h.Phoff = uint32(h.Ehsize)
	start := uint32(h.Ehsize + h.Phentsize)
	h.Entry = base + start
	p = elf.Prog32{Type: uint32(elf.PT_LOAD), Vaddr: base, Filesz: start + uint32(len(code)), Memsz: start + uint32(len(code)), Flags: uint32(elf.PF_R | elf.PF_X), Align: 4096}
	b, err := binary.Append(nil, binary.LittleEndian, h)
	if err == nil {
		b, err = binary.Append(b, binary.LittleEndian, p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return append(b, code...)
}

// runs tells whether this kernel executes a program.
func runs(t *testing.T, path string) bool {
	t.Helper()
	c := exec.CommandContext(t.Context(), path)
	err := c.Start()
	if errors.Is(err, unix.ENOEXEC) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Process.Kill(), ignoreExit(c.Wait())); err != nil {
		t.Fatal(err)
	}
	return true
}

func ignoreExit(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}
