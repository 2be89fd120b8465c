package workspace

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"imc":              true,
		"imc-test":         true,
		"imc-a-1":          true,
		"imc-123456789ab":  true,
		"imc-123456789abc": false, // longer than a network link's name may be
		"":                 false,
		"lo":               false,
		"eth0":             false,
		"imc-":             false,
		"imc--a":           false,
		"imc/../x":         false,
		"IMC":              false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("CheckName(%q) = %v, want accepted: %v", name, err, ok)
		}
	}
}

func TestFindRootPassesOverNestedModules(t *testing.T) {
	root := t.TempDir()
	nested := filepath.Join(root, "test", "cluster")
	deep := filepath.Join(nested, "internal")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, body := range map[string]string{
		filepath.Join(root, "go.mod"):   "// A comment.\nmodule " + Module + "\n",
		filepath.Join(nested, "go.mod"): "module " + Module + "/test/cluster\n",
	} {
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := findRoot(deep); err != nil || got != root {
		t.Errorf("findRoot = %q, %v; want %q", got, err, root)
	}
	if got, err := findRoot(t.TempDir()); err == nil {
		t.Errorf("findRoot outside a checkout = %q, want an error", got)
	}
}

func TestWriteFileTellsWhetherItChangedAnything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "file")
	for _, step := range []struct {
		body    string
		changed bool
	}{{"one", true}, {"one", false}, {"two", true}} {
		changed, err := WriteFile(path, []byte(step.body), 0o600)
		if err != nil || changed != step.changed {
			t.Errorf("WriteFile(%q) = %v, %v; want %v", step.body, changed, err, step.changed)
		}
	}
	if body, err := os.ReadFile(path); err != nil || string(body) != "two" {
		t.Errorf("the file holds %q, %v", body, err)
	}
}

func TestRecordsOfClusters(t *testing.T) {
	w := Workspace{Root: t.TempDir(), Cache: t.TempDir()}
	if r, err := w.ReadRecord("imc"); err != nil || r != (Record{}) {
		t.Errorf("record of a cluster that does not exist: %v, %v", r, err)
	}
	for name, r := range map[string]Record{"imc": {Type: "local", Network: 230}, "imc-test": {Type: "kind"}} {
		if err := w.WriteRecord(name, r); err != nil {
			t.Fatal(err)
		}
		if got, err := w.ReadRecord(name); err != nil || got != r {
			t.Errorf("ReadRecord(%s) = %v, %v; want %v", name, got, err, r)
		}
	}
	if records, err := w.Records(); err != nil || len(records) != 2 {
		t.Errorf("Records = %v, %v; want two", records, err)
	}
	if err := w.PublishKubeconfig("imc", "/nowhere"); err != nil {
		t.Fatal(err)
	}
	if err := w.Forget("imc"); err != nil {
		t.Fatal(err)
	}
	if r, err := w.ReadRecord("imc"); err != nil || r != (Record{}) {
		t.Errorf("record of a forgotten cluster: %v, %v", r, err)
	}
	if _, err := os.Lstat(w.Kubeconfig("imc")); err == nil {
		t.Error("the kubeconfig of a forgotten cluster is still shown")
	}
}
