package feed

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Session is one connected device of a user.
type Session struct {
	Device string
	Epoch  Epoch
	// Conn tells the connections of the epoch apart.
	Conn uint64
	// Since is the time of the login by Redis' clock, unix ms.
	Since    int64
	Platform string
	// Addr is the IP address that the client connected from; empty if it is not known: only facts tell it.
	Addr string
}

// LoginTime is Since as a time.
func (s *Session) LoginTime() time.Time { return time.UnixMilli(s.Since) }

// ParseSession reads the value of a session, "epoch.connection.since[.platform]" with numbers in base 36.
func ParseSession(device, value string) (Session, error) {
	epoch, rest, _ := strings.Cut(value, ".")
	conn, rest, _ := strings.Cut(rest, ".")
	since, platform, _ := strings.Cut(rest, ".")
	s := Session{Device: device, Epoch: Epoch(epoch), Platform: platform}
	var err error
	if s.Conn, err = strconv.ParseUint(conn, 36, 64); err != nil {
		return Session{}, fmt.Errorf("session %q: %w", value, err)
	}
	if s.Since, err = strconv.ParseInt(since, 36, 64); err != nil {
		return Session{}, fmt.Errorf("session %q: %w", value, err)
	}
	return s, nil
}
