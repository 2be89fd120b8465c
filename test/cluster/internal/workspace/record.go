package workspace

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Record is what cannot be derived from a cluster's name. It is written before anything else of a cluster is made.
type Record struct {
	Type string `json:"type"` // kind, local or current
	// Network is the second byte of a local cluster's 10.x.0.0/16.
	Network byte `json:"network,omitempty"`
}

const recordName = "cluster.json"

// ReadRecord reads the record of a cluster; that of one that does not exist is zero.
func (w Workspace) ReadRecord(name string) (Record, error) {
	return readRecord(filepath.Join(w.Cluster(name), recordName))
}

// Records reads the records of all clusters.
func (w Workspace) Records() ([]Record, error) {
	paths, err := filepath.Glob(filepath.Join(w.Cluster("*"), recordName))
	if err != nil {
		return nil, err
	}
	var records []Record
	for _, path := range paths {
		r, err := readRecord(path)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

func readRecord(path string) (Record, error) {
	var r Record
	body, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	} else if err != nil {
		return r, err
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

// WriteRecord replaces the record of a cluster.
func (w Workspace) WriteRecord(name string, r Record) error {
	return WriteJSON(filepath.Join(w.Cluster(name), recordName), r)
}

// WriteJSON replaces the file at path by v in one step.
func WriteJSON(path string, v any) error {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = WriteFile(path, append(body, '\n'), 0o644)
	return err
}

// PublishKubeconfig shows a cluster's kubeconfig in the checkout, as a link.
func (w Workspace) PublishKubeconfig(name, kubeconfig string) error {
	link := w.Kubeconfig(name)
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(kubeconfig, link)
}

// Forget removes a cluster's state and its kubeconfig in the checkout.
func (w Workspace) Forget(name string) error {
	if err := os.RemoveAll(w.Cluster(name)); err != nil {
		return fmt.Errorf("remove the cluster's files: %w", err)
	}
	link := w.Kubeconfig(name)
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// The directory is another cluster's as well, and stays if it is in use.
	_ = os.Remove(filepath.Dir(link))
	return nil
}
