//go:build !linux

package proc

import "syscall"

// endWithParent does nothing where the kernel has no such signal.
func endWithParent() *syscall.SysProcAttr { return nil }
