package harness

import (
	"fmt"
	"os"
	"path/filepath"
)

// Container is one container that ckpt knows by Name.
type Container struct {
	Env  *Env
	Name string
}

// Figures are those of `ckpt dump --json` and `ckpt restore --json`.
type Figures struct {
	Processes int   `json:"processes"`
	Threads   int   `json:"threads"`
	Bytes     int64 `json:"bytes"`
	FrozenNS  int64 `json:"frozen_ns"`
	TotalNS   int64 `json:"total_ns"`
}

// Own makes e end the container when the test ends.
func (e *Env) Own(name string) *Container {
	e.names = append(e.names, name)
	return &Container{Env: e, Name: name}
}

// Start starts a container that runs command.
func (e *Env) Start(name string, flags []string, command ...string) *Container {
	e.T.Helper()
	c := e.Own(name)
	args := append([]string{"start", name}, flags...)
	e.Run(append(append(args, "--"), command...)...)
	return c
}

// Dump saves the container in dir, which is removed with the test.
func (c *Container) Dump(dir string, flags ...string) Figures {
	c.Env.T.Helper()
	var f Figures
	c.Env.JSON(&f, append([]string{"dump", c.Name, dir}, flags...)...)
	return f
}

// Restore brings an image back. name is "" for the name it had.
func (e *Env) Restore(dir, name string, flags ...string) *Container {
	e.T.Helper()
	args := append([]string{"restore", dir}, flags...)
	if name != "" {
		args = append(args, "--name", name)
		e.Own(name)
	}
	e.JSON(new(Figures), args...)
	return &Container{Env: e, Name: name}
}

// Remove ends the container and forgets it.
func (c *Container) Remove() {
	c.Env.T.Helper()
	c.Env.Run("rm", "-f", c.Name)
}

// Log is what the container's processes have written so far. It is read
// from the state directory, not through `ckpt logs`, whose own tests are
// elsewhere, because a test reads it many times a second.
func (c *Container) Log() string {
	c.Env.T.Helper()
	b, err := os.ReadFile(filepath.Join(c.Env.State(), c.Name, "log"))
	if err != nil {
		c.Env.T.Fatal(err)
	}
	return string(b)
}

// Kill sends a signal to the container's command.
func (c *Container) Kill(signal string) {
	c.Env.T.Helper()
	c.Env.Run("kill", c.Name, "-s", signal)
}

// Alive is nil while the container runs, else Final.
func (c *Container) Alive() error {
	c.Env.T.Helper()
	s := c.Ps()
	if s.State != "running" {
		return Final{Err: fmt.Errorf("%s is %s; its log ends with: %s", c.Name, s.State, c.LogTail())}
	}
	return nil
}

// LogTail is the end of Log.
func (c *Container) LogTail() string {
	s := c.Log()
	return s[max(0, len(s)-1000):]
}
