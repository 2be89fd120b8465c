package wire

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
)

// readSchema reads a published JSON Schema.
func readSchema(t testing.TB, name string) *jsonschema.Resolved {
	t.Helper()
	data, err := os.ReadFile("v1/" + name + ".schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// validate checks a frame in JSON against a schema.
func validate(s *jsonschema.Resolved, data []byte) error {
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	return s.Validate(v)
}

// TestSchemasAcceptAllFrames: with all fields, and of servers also with none that may be left out.
func TestSchemasAcceptAllFrames(t *testing.T) {
	client, server := readSchema(t, "client"), readSchema(t, "server")
	for _, l := range Layouts() {
		full := fullFrame(l.Type)
		if l.FromClient {
			fr := asClient(*full)
			if err := validate(client, AppendJSON(nil, &fr)); err != nil {
				t.Errorf("%s of a client: %v", l.Type, err)
			}
		}
		if l.FromServer {
			for _, fr := range []*Frame{full, {Type: l.Type, Code: CodeOK}} {
				if err := validate(server, AppendJSON(nil, fr)); err != nil {
					t.Errorf("%s of a server: %v", l.Type, err)
				}
			}
		}
	}
}

// TestSchemaRefusesWhatTheCodecRefuses, as far as a schema can.
func TestSchemaRefusesWhatTheCodecRefuses(t *testing.T) {
	client := readSchema(t, "client")
	for _, data := range []string{
		`[]`, `{}`, `{"type":null}`, `{"type":"99"}`, `{"type":"81"}`, `{"type":"10"}`, `{"type":"10","token":""}`, `{"type":"10","token":5}`,
		`{"type":"10","token":"t","platform":"Windows"}`, `{"type":"10","token":"t","deviceId":"a\u0000b"}`,
		`{"type":"80","toId":"2"}`, `{"type":"80","toId":["2"],"content":1}`, `{"type":"80","toId":null,"content":1}`,
		`{"type":"84","action":"explode","groupId":"g"}`, `{"type":"84","action":"add","groupId":"g","users":["a",""]}`,
		`{"type":"58","limit":-1}`, `{"type":"58","limit":1.5}`, `{"type":"58","limit":"1"}`, `{"type":90,"msgId":""}`,
		`{"type":"50"}`, `{"type":"50","users":[""]}`, `{"type":"52","action":"add"}`, `{"type":"52"}`, `{"type":"56","status":"asleep"}`,
		`{"type":"56"}`, `{"type":"10","token":"t","status":"offline"}`, `{"type":"56","status":"busy","statusText":"a\u0000"}`,
	} {
		if _, err := DecodeJSON([]byte(data)); err == nil {
			t.Errorf("the codec accepts %s", data)
		}
		if err := validate(client, []byte(data)); err == nil {
			t.Errorf("the schema accepts %s", data)
		}
	}
}
