package dev

import "syscall"

// boundToUs has the kernel end a child when we are gone, even by SIGKILL, and keeps Ctrl-C in the terminal from it: it
// has to outlive the gateways, which log their users out.
func boundToUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
