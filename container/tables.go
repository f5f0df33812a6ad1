package container

import (
	"errors"
	"fmt"

	"ckpt/hold"
)

// LeaveTable notes an nftables table that a dump is about to leave behind: it
// goes when the container is back, or forgotten, whoever is to see to that.
func (c *Container) LeaveTable(name string) error {
	var names []string
	if _, err := readJSON(c.file(tablesFile), &names); err != nil {
		return fmt.Errorf("read what %s has left behind: %w", c.Name, err)
	}
	if err := writeJSON(c.file(tablesFile), append(names, name)); err != nil {
		return fmt.Errorf("note what %s leaves behind: %w", c.Name, err)
	}
	return nil
}

// liftTables removes those tables. Most have been by the restore.
func (c *Container) liftTables() error {
	var names []string
	if ok, err := readJSON(c.file(tablesFile), &names); err != nil || !ok {
		return err
	}
	var errs []error
	for _, n := range names {
		errs = append(errs, hold.Lift(n))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return remove(c.file(tablesFile))
}
