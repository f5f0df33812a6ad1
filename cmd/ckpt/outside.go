package main

import (
	"errors"

	"ckpt/kind"
)

// outside is the value of --tcp.
type outside kind.Outside

func (o *outside) String() string { return string(*o) }
func (o *outside) Type() string   { return "string" }

func (o *outside) Set(s string) error {
	switch v := kind.Outside(s); v {
	case kind.Keep, kind.Close:
		*o = outside(v)
		return nil
	}
	return errors.New("it is keep or close")
}
