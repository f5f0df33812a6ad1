package tracee

import "fmt"

// Runner runs the calls that build adds in some process, and lets read, which
// may be nil, look at their results.
type Runner func(build, read func(*Script) error) error

// Runner of a bare child. where is whose it is, for errors ("pid 7").
func (t *Thread) Runner(site Site, where string) Runner {
	return runner(site, where, func(s *Script) error { return t.Run(site, s) })
}

// Runner of a thread of the process.
func (in *Injection) Runner(t *Thread, where string) Runner {
	return runner(in.site, where, func(s *Script) error { return in.Run(t, s) })
}

func runner(site Site, where string, run func(*Script) error) Runner {
	return func(build, read func(*Script) error) error {
		s := NewScript(site.Base)
		if err := build(s); err != nil {
			return err
		}
		if s.Size() > site.Size {
			return fmt.Errorf("run calls in %s: %d bytes of calls do not fit into %d", where, s.Size(), site.Size)
		}
		if err := run(s); err != nil {
			return fmt.Errorf("run calls in %s: %w", where, err)
		}
		if read == nil {
			return nil
		}
		return read(s)
	}
}
