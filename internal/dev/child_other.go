//go:build !linux

package dev

import "syscall"

// boundToUs does nothing where the kernel cannot end a child with its parent.
func boundToUs() *syscall.SysProcAttr { return nil }
