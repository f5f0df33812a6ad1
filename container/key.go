package container

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"strings"

	"ckpt/procfs"
)

// A container has a key, made at its start and the same in every copy of it.
// It is the source of the mount of its /proc, where every process inside finds
// it, under whatever name the container was restored: so ckpt inside remembers
// its containers apart from those of the host.

const (
	keyPrefix = "ckpt:"
	keyBytes  = 8
)

// NewKey makes a key.
func NewKey() string {
	b := make([]byte, keyBytes)
	rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// IsKey tells whether k is one.
func IsKey(k string) bool {
	b, err := hex.DecodeString(k)
	return err == nil && len(b) == keyBytes
}

// KeyOf is the key of the container that the caller is in; "": in none.
func KeyOf() (string, error) { return keyOf(os.Getpid()) }

// keyOf is the key of the container that a process is in. Anybody may read it.
func keyOf(pid int) (string, error) {
	m, err := procfs.OnTop(pid, "proc", "/proc")
	if m == nil || err != nil {
		return "", err
	}
	k, ok := strings.CutPrefix(m.Source, keyPrefix)
	if !ok || !IsKey(k) {
		return "", nil
	}
	return k, nil
}

// insideDir is where ckpt inside a container keeps its state, by the directory
// that it would use outside.
func insideDir(dir, key string) string { return dir + "/.inside-" + key }
