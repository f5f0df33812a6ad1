package image

import (
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/magic"
)

// criuName is each format's name in CRIU's magic.h.
func criuNames() map[string]Format {
	return map[string]Format{
		"INVENTORY": Inventory, "PSTREE": PSTree, "CORE": Core, "IDS": IDs, "MM": MM, "FS": FS, "FDINFO": FDInfo,
		"FILES": Files, "PAGEMAP": Pagemap, "PIPES_DATA": PipesData, "FIFO_DATA": FifoData, "SK_QUEUES": SkQueues,
		"TCP_STREAM": TCPStream, "SECCOMP": Seccomp, "UTSNS": UTSNS, "TIMENS": TimeNS, "PIDNS": PIDNS, "USERNS": UserNS,
		"NETNS": NetNS, "NETDEV": NetDev, "MNTS": Mounts, "CGROUP": CGroup, "IPC_VAR": IPCVar, "IPCNS_SHM": IPCShm,
		"IPCNS_MSG": IPCMsg, "IPCNS_SEM": IPCSem, "GHOST_FILE": GhostFile, "REMAP_FPATH": RemapFpath, "TTY_INFO": TTYInfo,
		"TTY_DATA": TTYData, "MEMFD_INODE": MemfdInode, "FILE_LOCKS": FileLocks, "CPUINFO": CPUInfo,
		"IMG_COMMON": {Magic: magicCommon}, "IMG_SERVICE": {Magic: magicService},
	}
}

func TestMagicsAreCriusOwn(t *testing.T) {
	known := magic.LoadMagic()
	for name, f := range criuNames() {
		if want := known.ByName[name]; uint64(f.Magic) != want {
			t.Errorf("%s: magic %#x, CRIU has %#x", name, f.Magic, want)
		}
	}
	for _, f := range []Format{manifestFormat, TaskExtra, FilesExtra, MountsExtra, SysVExtra} {
		if name, taken := known.ByValue[uint64(f.Magic)]; taken {
			t.Errorf("%s: CRIU uses magic %#x for %s", f.Prefix, f.Magic, name)
		}
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{Core.Name(Core.ID(12)), "core-12.img"},
		{Inventory.Name(""), "inventory.img"},
		{GhostFile.Name(GhostFile.ID(26)), "ghost-file-1a.img"},
		{TCPStream.Name(TCPStream.ID(255)), "tcp-stream-ff.img"},
		{Pagemap.Name("shmem-10"), "pagemap-shmem-10.img"},
		{pagesName(3), "pages-3.img"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}
