//go:build unix

package cork

import (
	"errors"
	"syscall"
)

// writeNow writes what a socket takes without waiting. Sockets of the runtime never block.
func writeNow(fd uintptr, b []byte) (n int, err error) {
	for {
		n, err = syscall.Write(int(fd), b) //nolint:gosec // a descriptor
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		case err != nil:
			return 0, err
		}
		return n, nil
	}
}
