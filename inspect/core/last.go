package core

// last keeps what was opened last, by its id: what is read next mostly is of the same.
type last[T interface{ Close() }] struct {
	id   uint64
	now  T
	held bool
}

// get gives what has an id, and opens it with how unless it is the last.
func (l *last[T]) get(id uint64, how func() (T, error)) (T, error) {
	if l.held && l.id == id {
		return l.now, nil
	}
	l.close()
	now, err := how()
	if err == nil {
		l.id, l.now, l.held = id, now, true
	}
	return now, err
}

func (l *last[T]) close() {
	if l.held {
		l.now.Close()
	}
	l.held = false
}
