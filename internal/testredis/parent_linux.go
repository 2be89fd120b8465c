package testredis

import "syscall"

// endWithParent has the kernel end the server if the test process is killed before its cleanup runs.
func endWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
