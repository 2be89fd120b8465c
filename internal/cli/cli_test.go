package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
)

type fakeCommand struct {
	Listen string `default:":1" help:"Where to listen."`
	err    error
	ran    bool
}

func (f *fakeCommand) Run(context.Context) error {
	f.ran = true
	return f.err
}

func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		name   string
		args   []string
		err    error
		code   int
		ran    bool
		stderr string
	}{
		{name: "success", code: 0, ran: true},
		{name: "stopped by a signal", err: context.Canceled, code: 0, ran: true},
		{name: "failure", err: errors.New("disk on fire"), code: 1, ran: true, stderr: "x: disk on fire"},
		{name: "bad configuration", err: Configf("--listen must be set"), code: 2, ran: true, stderr: "--help"},
		{name: "unknown flag", args: []string{"--lisen=:2"}, code: 2, stderr: "unknown flag --lisen"},
		{name: "help", args: []string{"--help"}, code: 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			cmd := &fakeCommand{err: tc.err}
			if code := run(t.Context(), "x", "Does x.", cmd, tc.args, &stdout, &stderr); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if cmd.ran != tc.ran {
				t.Errorf("ran = %v, want %v", cmd.ran, tc.ran)
			}
			if !strings.Contains(stderr.String(), tc.stderr) {
				t.Errorf("stderr %q lacks %q", stderr.String(), tc.stderr)
			}
		})
	}
}

func TestFlagsAreEnvironmentVariables(t *testing.T) {
	t.Setenv("IMC_LISTEN", ":7")
	cmd := &fakeCommand{}
	if code := run(t.Context(), "x", "", cmd, nil, &bytes.Buffer{}, &bytes.Buffer{}); code != 0 || cmd.Listen != ":7" {
		t.Errorf("code %d, listen %q; want 0 and the value of IMC_LISTEN", code, cmd.Listen)
	}
}
