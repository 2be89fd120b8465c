package secretdir

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, dir, name, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRotationIsNoticedWithoutRestart(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "current", "one\n")
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([][]byte{[]byte("one")}, s.Values()); diff != "" {
			t.Error(diff)
		}
		write(t, dir, "current", "two")
		write(t, dir, "previous", "one")
		<-time.After(Interval)
		if diff := cmp.Diff([][]byte{[]byte("two"), []byte("one")}, s.Values()); diff != "" {
			t.Error(diff)
		}
		if err := os.Remove(filepath.Join(dir, "current")); err != nil {
			t.Fatal(err)
		}
		<-time.After(Interval)
		if got := s.Current(); string(got) != "two" {
			t.Errorf("after the file vanished: %q, want the last good value", got)
		}
	})
}

func TestOpenRefusesWhatIsNoSecret(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); err == nil {
		t.Error("a directory without current was accepted")
	}
	write(t, dir, "current", "\n")
	if _, err := Open(dir); err == nil {
		t.Error("an empty current was accepted")
	}
}
