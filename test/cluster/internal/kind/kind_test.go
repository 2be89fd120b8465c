package kind

import (
	"bytes"
	"strings"
	"testing"

	"github.com/imcluster/imcluster/test/cluster/internal/forward"
)

func TestNodePortServiceHasThePodsOfTheService(t *testing.T) {
	m := forward.Mapping{Port: 18080, Service: "gateway", Namespace: "chat", ServicePort: 80}
	got, err := nodePortService([]byte(`{"spec":{"selector":{"app":"gateway"},"ports":[
		{"port":8082,"targetPort":"internal"},{"port":80,"targetPort":"ws"}]}}`), m, 30080)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"forward-18080","namespace":"chat"},` +
		`"spec":{"type":"NodePort","selector":{"app":"gateway"},"ports":[{"port":80,"targetPort":"ws","nodePort":30080}]}}`
	if got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	if got, err := nodePortService([]byte(`{"spec":{"ports":[]}}`), m, 30080); err == nil {
		t.Errorf("a Service without the port gave %s", got)
	}
}

func TestConfigMapsTheHostsPorts(t *testing.T) {
	var config bytes.Buffer
	if err := configTemplate.Execute(&config, portMappings); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"listenAddress: 127.0.0.1, hostPort: 18080, containerPort: 30080", "hostPort: 18082"} {
		if !strings.Contains(config.String(), want) {
			t.Errorf("config lacks %q:\n%s", want, config.String())
		}
	}
}
