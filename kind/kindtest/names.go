package kindtest

// unnoted is kind.Names for a test, which is not killed.
type unnoted struct{}

func (unnoted) Making(string, uint32) error                   { return nil }
func (unnoted) Removing(string, uint32, uint32, uint32) error { return nil }
