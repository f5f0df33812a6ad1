// Package uts saves the host name and the NIS domain name of a container.
//
// # What the kernel shows
//
// uname(2), called inside the uts namespace.
//
// # What is saved
//
// Both names, in utsns-N.img as CRIU does.
//
// # What is lost
//
// Nothing. Where the container shares its uts namespace with ckpt (a tree that
// ckpt did not start) the names are the host's and stay out of the image.
//
// # Needs
//
// Uts namespaces (Linux 2.6.19).
package uts

import (
	"bytes"
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/utsns"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/tracee"
)

// struct new_utsname (include/uapi/linux/utsname.h): six strings.
const (
	fieldSize    = 65 // with the NUL
	fields       = 6
	nodeField    = 1
	domainField  = 5
	maxNameBytes = fieldSize - 1
)

// Kind is the uts namespace.
func Kind() kind.Namespace {
	return kind.Namespace{
		Name:  "host name",
		Saves: "host name and NIS domain name",
		Sort:  "uts", Dump: dump, Restore: restore,
	}
}

func dump(d *kind.Dump) error {
	own, err := d.OwnNamespace("uts")
	if err != nil || !own {
		return err
	}
	var buf uint64
	return d.Inside(func(s *tracee.Script) error {
		buf = s.Space(fieldSize * fields)
		s.Note(s.Must(unix.SYS_UNAME, buf), "read the host name")
		return nil
	}, func(s *tracee.Script) error {
		return d.Out.Add(image.UTSNS, d.NamespaceFile(), parse(s.Bytes(buf, fieldSize*fields)))
	})
}

func parse(b []byte) *utsns.UtsnsEntry {
	field := func(i int) *string {
		f := b[i*fieldSize:][:fieldSize]
		if end := bytes.IndexByte(f, 0); end >= 0 {
			f = f[:end]
		}
		return proto.String(string(f))
	}
	return &utsns.UtsnsEntry{Nodename: field(nodeField), Domainname: field(domainField)}
}

func restore(r *kind.Restore) error {
	id := r.NamespaceFile((*criu_core.TaskKobjIdsEntry).GetUtsNsId)
	if !r.In.Has(image.UTSNS, id) {
		return nil // shared with the host when it was saved
	}
	e, err := image.One[*utsns.UtsnsEntry](r.In, image.UTSNS, id)
	if err != nil {
		return err
	}
	if n := max(len(e.GetNodename()), len(e.GetDomainname())); n > maxNameBytes {
		return failure.Damagedf("%s has a name of %d bytes, at most %d are possible", image.UTSNS.Name(id), n, maxNameBytes)
	}
	if err := unix.Sethostname([]byte(e.GetNodename())); err != nil {
		return fmt.Errorf("set host name %q: %w", e.GetNodename(), err)
	}
	if err := unix.Setdomainname([]byte(e.GetDomainname())); err != nil {
		return fmt.Errorf("set domain name %q: %w", e.GetDomainname(), err)
	}
	return nil
}
