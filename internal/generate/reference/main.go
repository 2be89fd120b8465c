// Command reference writes the reference of the IMCluster resource from its definition, so that the page
// and "kubectl explain" always say the same.
//
//	go run ./internal/generate/reference charts/imcluster/files/crd.yaml > docs/configuration.md
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const intro = `<!-- Generated from the resource definition by "make generate"; change the comments in api/v1alpha1 instead. -->

# Configuration of an IMCluster

Everything that can be set, as "kubectl explain imc.spec --recursive" shows it, too. Only **auth** and **redis** are
required. Examples are in [config/samples](../config/samples), who may connect is explained in
[authentication.md](authentication.md), and what the status says in
[conditions.md](conditions.md).

## Ports

| pods | port | name | who connects |
|---|---|---|---|
| gateway | 8080 | ws | clients, with WebSocket at /ws, through port 80 of the Service &lt;name&gt;-gateway |
| gateway | 9091 | peer | other gateways of the same IMCluster, directly |
| presence | 8080 | http | back ends that query presence, through port 80 of the Service &lt;name&gt;-presence |
| presence | 9090 | grpc | back ends and chat servers, by gRPC, through the same port of the Services &lt;name&gt;-presence and, with all pods under one name, &lt;name&gt;-presence-grpc; gateways through the latter |
| presence | 8082 | internal | the operator, through port 8082 of the Service &lt;name&gt;-presence |
| gateway, presence | 8081 | ops | the kubelet (/livez, /readyz) and Prometheus (/metrics) |
| redis | 6379 | redis | gateway and presence pods, through the Service &lt;name&gt;-redis |
`

// hidden are types of Kubernetes itself; their fields are documented there.
var hidden = map[string]bool{"tolerations": true, "requests": true, "limits": true, "conditions": true}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: reference DEFINITION")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func run(file string, w io.Writer) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(data, &crd); err != nil {
		return fmt.Errorf("parse %s: %w", file, err)
	}
	var out strings.Builder
	out.WriteString(intro)
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	for _, part := range []string{"spec", "status"} {
		section(&out, part, schema.Properties[part])
	}
	_, err = io.WriteString(w, out.String())
	return err
}

// section writes the fields of an object as a table, and then those of the objects in it.
func section(out *strings.Builder, path string, schema apiextensionsv1.JSONSchemaProps) {
	fmt.Fprintf(out, "\n## %s\n\n%s\n\n", path, text(schema.Description))
	for _, rule := range schema.XValidations {
		fmt.Fprintf(out, "- Rule: %s.\n", strings.TrimSuffix(rule.Message, "."))
	}
	if len(schema.XValidations) > 0 {
		out.WriteString("\n")
	}
	out.WriteString("| field | type | description |\n|---|---|---|\n")
	var nested []string
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		field := schema.Properties[name]
		label := "`" + name + "`"
		if slices.Contains(schema.Required, name) {
			label += " (required)"
		}
		if len(field.Properties) > 0 && !hidden[name] {
			nested = append(nested, name)
			anchor := strings.ToLower(strings.ReplaceAll(path+name, ".", ""))
			label = fmt.Sprintf("[%s](#%s)", label, anchor)
		}
		fmt.Fprintf(out, "| %s | %s | %s |\n", label, kind(field), strings.ReplaceAll(description(name, field), "|", `\|`))
	}
	for _, name := range nested {
		section(out, path+"."+name, schema.Properties[name])
	}
}

// kind names the type of a field with its bounds.
func kind(s apiextensionsv1.JSONSchemaProps) string {
	switch {
	case len(s.Enum) > 0:
		values := make([]string, 0, len(s.Enum))
		for _, v := range s.Enum {
			var value string
			if json.Unmarshal(v.Raw, &value) == nil {
				values = append(values, value)
			}
		}
		return strings.Join(values, ", ")
	case s.Type == "array":
		return "list"
	case s.Type == "object" && s.AdditionalProperties != nil:
		return "map"
	case s.Minimum != nil && s.Maximum != nil:
		return fmt.Sprintf("%s, %.0f–%.0f", s.Type, *s.Minimum, *s.Maximum)
	case s.Format == "date-time":
		return "time"
	default:
		return s.Type
	}
}

// description returns a comment without the name that it starts with, where that makes a sentence.
func description(name string, s apiextensionsv1.JSONSchemaProps) string {
	out := text(s.Description)
	for _, verb := range []string{" is ", " are "} {
		if rest, ok := strings.CutPrefix(out, name+verb); ok {
			out = strings.ToUpper(rest[:1]) + rest[1:]
		}
	}
	return out
}

// text puts a comment on one line, as Markdown.
func text(s string) string {
	return strings.NewReplacer("<", "&lt;", ">", "&gt;").Replace(strings.Join(strings.Fields(s), " "))
}
