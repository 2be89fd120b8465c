package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/imcluster/imcluster/test/cluster/internal/workspace"
)

// kernelSettings are those that a kubelet sets for the whole machine.
var kernelSettings = []string{
	"/proc/sys/vm/overcommit_memory",
	"/proc/sys/vm/panic_on_oom",
	"/proc/sys/kernel/panic",
	"/proc/sys/kernel/panic_on_oops",
	"/proc/sys/kernel/keys/root_maxkeys",
	"/proc/sys/kernel/keys/root_maxbytes",
}

// hostRecord is how the machine was before the first cluster.
type hostRecord struct {
	Settings    map[string]string `json:"settings"`
	Directories []string          `json:"directories"` // that did not exist
}

func recordFile(shared string) string { return filepath.Join(shared, "host.json") }

// prepareHost records what clusters change of the machine, unless another cluster has, and makes the directories that
// the mount namespaces hide, because a mount needs something to be mounted on.
func prepareHost(shared string) error {
	record := hostRecord{Settings: map[string]string{}}
	if body, err := os.ReadFile(recordFile(shared)); err == nil {
		if err := json.Unmarshal(body, &record); err != nil {
			return fmt.Errorf("read %s: %w", recordFile(shared), err)
		}
	} else {
		for _, setting := range kernelSettings {
			if value, err := os.ReadFile(setting); err == nil {
				record.Settings[setting] = string(value)
			}
		}
		for _, dir := range hidden {
			if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
				record.Directories = append(record.Directories, dir)
			}
		}
		if err := workspace.WriteJSON(recordFile(shared), record); err != nil {
			return err
		}
	}
	for _, dir := range hidden {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// restoreHost undoes prepareHost when no cluster is left on the machine.
func restoreHost(shared string) error {
	entries, err := os.ReadDir(shared)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			return nil // another cluster's
		}
	}
	var record hostRecord
	if body, err := os.ReadFile(recordFile(shared)); err == nil {
		if err := json.Unmarshal(body, &record); err != nil {
			return fmt.Errorf("read %s: %w", recordFile(shared), err)
		}
	}
	for setting, value := range record.Settings {
		if err := os.WriteFile(setting, []byte(value), 0o644); err != nil {
			return fmt.Errorf("restore kernel setting: %w", err)
		}
	}
	for _, dir := range record.Directories {
		// Stays if something else has come to use it.
		_ = os.Remove(dir)
	}
	return os.RemoveAll(shared)
}
