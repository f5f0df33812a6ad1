// Package tracee is a stopped process: its registers, its memory, system
// calls run inside it. All ptrace(2), assembly and unsafe of ckpt live here.
//
// Every method of Thread that says so must be called from the OS thread that
// attached (ptrace(2): "a tracer is a thread, not a process"); callers hold
// it with runtime.LockOSThread.
package tracee
