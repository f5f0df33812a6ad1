package image

// The formats ckpt writes or reads. Names and magics are CRIU's (its
// image-desc.c and magic.h, 3.19 and 4.x); the test compares the magics with
// those of go-criu. Behind each stands what the id of a file name is.
var (
	Inventory = Format{"inventory", 0x58313116}
	PSTree    = Format{"pstree", 0x50273030}
	Core      = Format{"core", 0x55053847}   // vpid; a thread's vtid
	IDs       = Format{"ids", 0x54432030}    // vpid
	MM        = Format{"mm", 0x57492820}     // vpid
	FS        = Format{"fs", 0x51403912}     // vpid
	FDInfo    = Format{"fdinfo", 0x56213732} // files_id of ids-VPID.img
	Files     = Format{"files", 0x56303138}
	// Pagemap has the vpid, or "shmem-N" for shared memory of shmid N.
	Pagemap    = Format{"pagemap", 0x56084025}
	PipesData  = Format{"pipes-data", 0x56453709}
	FifoData   = Format{"fifo-data", 0x59333054}
	SkQueues   = Format{"sk-queues", 0x56264026}
	TCPStream  = Format{"tcp-stream", 0x51465506} // socket inode, hexadecimal
	Seccomp    = Format{"seccomp", 0x64413049}
	UTSNS      = Format{"utsns", 0x54473203}       // uts_ns_id
	TimeNS     = Format{"timens", 0x43114433}      // time_ns_id; CRIU has 0 for the first namespace
	PIDNS      = Format{"pidns", 0x61157326}       // pid_ns_id
	UserNS     = Format{"userns", 0x55474906}      // user_ns_id
	NetNS      = Format{"netns", 0x55933752}       // net_ns_id
	NetDev     = Format{"netdev", 0x57373951}      // net_ns_id
	Mounts     = Format{"mountpoints", 0x55563928} // mnt_ns_id
	CGroup     = Format{"cgroup", 0x59383330}
	IPCVar     = Format{"ipcns-var", 0x53115007}  // ipc_ns_id
	IPCShm     = Format{"ipcns-shm", 0x46283044}  // ipc_ns_id
	IPCMsg     = Format{"ipcns-msg", 0x55453737}  // ipc_ns_id
	IPCSem     = Format{"ipcns-sem", 0x59573019}  // ipc_ns_id
	GhostFile  = Format{"ghost-file", 0x52583605} // id of the remap entry, hexadecimal
	RemapFpath = Format{"remap-fpath", 0x59133954}
	TTYInfo    = Format{"tty-info", 0x59453036}
	TTYData    = Format{"tty-data", 0x59413026}
	MemfdInode = Format{"memfd", 0x48453499}
	FileLocks  = Format{"filelocks", 0x54323616}
	CPUInfo    = Format{"cpuinfo", 0x61404013}

	// Ours. CRIU's magics spell places; these are the bytes "ckp" and a number.
	manifestFormat = Format{"ckpt", 0x016b6370}
	TaskExtra      = Format{"ckpt-task", 0x026b6370} // vpid
	FilesExtra     = Format{"ckpt-files", 0x036b6370}
	MountsExtra    = Format{"ckpt-mounts", 0x046b6370} // mnt_ns_id
	MessageQueues  = Format{"ckpt-mqueues", 0x056b6370}
	SysVExtra      = Format{"ckpt-sysv", 0x076b6370} // ipc_ns_id
	Console        = Format{"ckpt-console", 0x096b6370}
	// Never encrypted, and in no manifest.
	signatureFormat = Format{"ckpt-signature", 0x086b6370}
)

// NamespaceID is the id of each of the container's namespaces in ids-VPID.img
// and in file names ("utsns-1.img"); those made inside count up from there.
// Images of criu's have other ids: read them from ids-VPID.img.
const NamespaceID = 1

// Flags of pagemap entries (CRIU's pagemap.h).
const (
	PEParent  = 1 << 0 // the contents stand in the parent image
	PELazy    = 1 << 1 // may be brought in after the restore
	PEPresent = 1 << 2 // the contents stand in the pages file
)
