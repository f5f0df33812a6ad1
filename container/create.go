package container

import "os"

type Root struct {
	HostPID int
	Status  *os.File
}

func (r *Root) Destroy() error { return nil }

type StartRequest struct{}
