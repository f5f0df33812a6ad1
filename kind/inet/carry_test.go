package inet

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/kind/kindtest"
)

// pairOver is a connection over a listener at addr, which stays.
func pairOver(t testing.TB, family int, addr string) (client, server, listener *os.File) {
	t.Helper()
	listener = socket(t, family, sockStream, 0, [3]int{sol, unix.SO_REUSEADDR, 1})
	bind(t, listener, addr)
	listen(t, listener, 8)
	client = socket(t, family, sockStream, 0)
	sa, err := unix.Getsockname(int(listener.Fd()))
	must(t, err)
	must(t, unix.Connect(int(client.Fd()), sa))
	n, _, err := unix.Accept4(int(listener.Fd()), unix.SOCK_CLOEXEC)
	must(t, err)
	server = os.NewFile(uintptr(n), "accepted")
	t.Cleanup(func() { server.Close() })
	return client, server, listener
}

// fill sends as much as goes in without anybody reading.
func fill(t testing.TB, f *os.File) (sent []byte) {
	t.Helper()
	chunk := make([]byte, 10007)
	for n := byte(0); ; n++ {
		for i := range chunk {
			chunk[i] = n*31 + byte(i%251)
		}
		k, err := unix.SendmsgN(int(f.Fd()), chunk, nil, nil, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return sent
		}
		must(t, err)
		sent = append(sent, chunk[:k]...)
	}
}

func say(t testing.TB, f *os.File, what string) {
	t.Helper()
	_, err := f.Write([]byte(what))
	must(t, err)
}

// patient makes reads fail rather than wait for ever.
func patient(t testing.TB, f *os.File) *os.File {
	t.Helper()
	must(t, unix.SetsockoptTimeval(int(f.Fd()), sol, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	return f
}

func hear(t testing.TB, f *os.File, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(patient(t, f), got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes of %d, equal: %v (%v)", n, len(want), bytes.Equal(got, want), err)
	}
}

func hearEnd(t testing.TB, f *os.File, want error) {
	t.Helper()
	n, err := patient(t, f).Read(make([]byte, 1))
	if n != 0 || want == io.EOF && err != io.EOF || want != io.EOF && !errors.Is(err, want) {
		t.Fatalf("%d bytes, %v, want %v", n, err, want)
	}
}

// chat proves that a connection works in both directions and ends well.
func chat(t testing.TB, a, b *os.File) {
	t.Helper()
	say(t, a, "question")
	hear(t, b, []byte("question"))
	say(t, b, "answer")
	hear(t, a, []byte("answer"))
	must(t, unix.Shutdown(int(a.Fd()), unix.SHUT_WR))
	hearEnd(t, b, io.EOF)
	say(t, b, "bye")
	must(t, b.Close())
	hear(t, a, []byte("bye"))
	hearEnd(t, a, io.EOF)
}

// carry dumps files, sees that they are as before, closes them without a word
// being sent, and restores them.
func carry(t *testing.T, files ...*os.File) []*os.File {
	t.Helper()
	var was []facts
	for _, f := range files {
		was = append(was, factsOf(t, f))
	}
	box := kindtest.New(t, Kind)
	saved := box.Dump(files...)
	for i, f := range files {
		sameFacts(t, was[i], factsOf(t, f))
	}
	vanish(t, files...)
	return box.Restore(saved)
}

// carryBusy is carry for connections in which the kernel is at work (it tries
// again to send): no two looks are the same.
func carryBusy(t *testing.T, files ...*os.File) []*os.File {
	t.Helper()
	var was []facts
	for _, f := range files {
		was = append(was, factsOf(t, f))
	}
	box := kindtest.New(t, Kind)
	saved, err := box.Try(files...)
	must(t, err)
	for i, f := range files {
		sameStream(t, was[i], factsOf(t, f))
	}
	vanish(t, files...)
	return box.Restore(saved)
}

func vanish(t testing.TB, files ...*os.File) {
	t.Helper()
	for _, f := range files {
		if s, err := look(int(f.Fd())); err == nil && s.tcp() && s.connected() {
			must(t, repair(int(f.Fd()), repairOn))
		}
		must(t, f.Close())
	}
}
