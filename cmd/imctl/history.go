package main

import (
	"os"
	"path/filepath"

	"github.com/imcluster/imcluster/internal/cli"
)

// historyOff is the --history-file that keeps no history.
const historyOff = "none"

// historyPath returns the file for what is typed, empty for none. Its directory is this user's only: the editor makes
// the file itself, again and again, with the permissions of any file.
func historyPath(flag string) (string, error) {
	switch {
	case flag == historyOff:
		return "", nil
	case flag != "":
		return flag, nil
	}
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", nil //nolint:nilerr // a user without a home has no history
		}
		state = filepath.Join(home, ".local", "state")
	}
	directory := filepath.Join(state, "imctl")
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return "", cli.Configf("--history-file: %w; \"none\" keeps no history", err)
	}
	return filepath.Join(directory, "history"), nil
}
