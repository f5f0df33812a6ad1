package kind

// Busy is a refusal that passes as soon as Holders have run on: what stands in
// the way is data on its way to them. The driver lets them, while all others
// are stopped, and looks again.
type Busy struct {
	Err     error
	Holders []*Proc
	// Done tells whether the data has been taken.
	Done func() bool
}

func (b *Busy) Error() string { return b.Err.Error() }

// Unwrap gives the refusal itself.
func (b *Busy) Unwrap() error { return b.Err }

// Holders are the processes that hold an open file description.
func (d *Dump) Holders(desc *Desc) (out []*Proc) {
	for _, p := range d.Procs {
		for _, fd := range p.Fds {
			if fd.Desc == desc {
				out = append(out, p)
				break
			}
		}
	}
	return out
}
