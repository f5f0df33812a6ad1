package kind

// Outside is what a dump does with TCP connections that lead out of the
// container.
type Outside string

const (
	Refused Outside = ""      // they stand in the way
	Keep    Outside = "keep"  // their other ends wait until they go on after a restore
	Close   Outside = "close" // they are saved as if their other ends had closed them
)
