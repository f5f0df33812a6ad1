// Package harness runs the built ckpt from outside, as a user would: it
// starts containers, dumps and restores them, compares what `ckpt ps` says
// before and after, and checks that a test leaves nothing behind.
package harness
