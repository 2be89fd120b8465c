package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPublishedSchemasAreUpToDate(t *testing.T) {
	const wire = "../../../api/wire"
	dir := t.TempDir()
	if err := run(wire, dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"frame.proto", "client.schema.json", "server.schema.json"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(wire, "v1", name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s: run make generate; -want +got\n%s", name, diff)
		}
	}
}

func TestNamesInProtobuf(t *testing.T) {
	for name, want := range map[string]string{"clientMsgId": "client_msg_id", "delayMs": "delay_ms", "OK": "ok", "TooManyConns": "too_many_conns", "code": "code"} {
		if got := snake(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
