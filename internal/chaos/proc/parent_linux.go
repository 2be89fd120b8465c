package proc

import "syscall"

// endWithParent has the kernel end the gateway if the test process is killed before its cleanup runs.
func endWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
