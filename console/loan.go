package console

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Loan is the master of a terminal that somebody serves, lent to save it.
type Loan struct {
	Master *os.File
	conn   *net.UnixConn
}

// Borrow asks for the master at the other end of conn, which it takes over.
func Borrow(conn *net.UnixConn) (_ *Loan, err error) {
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	if err := send(conn, lend, nil); err != nil {
		return nil, fmt.Errorf("borrow the terminal: %w", err)
	}
	rights := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := conn.ReadMsgUnix(make([]byte, 1), rights)
	if err != nil || n != 1 {
		return nil, fmt.Errorf("borrow the terminal: its server has gone: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("borrow the terminal: %d messages: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("borrow the terminal: %d descriptors: %w", len(fds), err)
	}
	unix.CloseOnExec(fds[0])
	return &Loan{os.NewFile(uintptr(fds[0]), "/dev/ptmx"), conn}, nil
}

// Hold lets nothing come out of the terminal or go into it until Release, or until
// this process ends, and gives what shows what is seen there now.
func (l *Loan) Hold() (shows []byte, err error) {
	if err := send(l.conn, hold, nil); err != nil {
		return nil, fmt.Errorf("hold the terminal: %w", err)
	}
	for {
		kind, b, err := receive(l.conn)
		if err != nil {
			return nil, fmt.Errorf("hold the terminal: its server has gone: %w", err)
		}
		if kind == hold {
			return shows, nil
		}
		shows = append(shows, b...)
	}
}

// Release ends Hold. The server may have ended, as it does with the container.
func (l *Loan) Release() error {
	if err := send(l.conn, release, nil); err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		return fmt.Errorf("release the terminal: %w", err)
	}
	return nil
}

// Close gives the master back, and ends Hold.
func (l *Loan) Close() {
	_, _ = l.Master.Close(), l.conn.Close()
}
