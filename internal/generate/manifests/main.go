// Command manifests writes the kustomize bases in config/ from the Helm chart, so that there is one source
// for both ways of installing the operator.
//
//	helm template imcluster charts/imcluster --namespace imcluster-system | go run ./internal/generate/manifests config
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const header = "# Generated from charts/imcluster by \"make generate\"; change the chart instead.\n"

// bases are the files under config/ and the kinds that go there.
var bases = map[string][]string{
	"crd/imcluster.dev_imclusters.yaml": {"CustomResourceDefinition"},
	"rbac/rbac.yaml":                    {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"},
	"manager/manager.yaml":              {"Deployment", "Service"},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: helm template … | manifests DIRECTORY")
		os.Exit(2)
	}
	if err := run(os.Stdin, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

func run(chart io.Reader, directory string) error {
	rendered, err := io.ReadAll(chart)
	if err != nil {
		return fmt.Errorf("read the rendered chart: %w", err)
	}
	fileOf := map[string]string{}
	files := map[string]*bytes.Buffer{}
	for file, kinds := range bases {
		files[file] = bytes.NewBufferString(header)
		for _, kind := range kinds {
			fileOf[kind] = file
		}
	}
	for document := range bytes.SplitSeq(rendered, []byte("\n---\n")) {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &object.Object); err != nil {
			return fmt.Errorf("parse the rendered chart: %w", err)
		}
		if len(object.Object) == 0 {
			continue
		}
		file, ok := fileOf[object.GetKind()]
		if !ok {
			return fmt.Errorf("no file is known for kind %s", object.GetKind())
		}
		text, err := yaml.Marshal(withoutHelm(object).Object)
		if err != nil {
			return fmt.Errorf("encode %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		fmt.Fprintf(files[file], "---\n%s", text)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(directory, file), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// withoutHelm removes what only makes sense in an object that Helm manages.
func withoutHelm(object *unstructured.Unstructured) *unstructured.Unstructured {
	labels := object.GetLabels()
	delete(labels, "helm.sh/chart")
	delete(labels, "app.kubernetes.io/managed-by")
	object.SetLabels(labels)
	annotations := object.GetAnnotations()
	delete(annotations, "helm.sh/resource-policy")
	if len(annotations) == 0 {
		annotations = nil
	}
	object.SetAnnotations(annotations)
	return object
}
