package contract

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

func (d *Document) saw(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[what] = true
}

// sawAnswer notes which documented properties an answer has.
func (d *Document) sawAnswer(name string, status int, answer []byte) {
	_, op := d.operation(name)
	response := op.Responses.Status(status)
	if response == nil {
		return
	}
	media := response.Value.Content.Get("application/json")
	if media == nil {
		return
	}
	if value, err := decode(answer); err == nil {
		d.walk(name+" "+strconv.Itoa(status), media.Schema.Value, value)
	}
}

// walk notes the documented properties that a value has, by the schemas that name them.
func (d *Document) walk(at string, s *openapi3.Schema, value any) {
	for _, part := range s.AllOf {
		d.walk(at, part.Value, value)
	}
	switch v := value.(type) {
	case map[string]any:
		for name, p := range s.Properties {
			if field, ok := v[name]; ok {
				d.saw(at + "." + name)
				d.walk(at+"."+name, p.Value, field)
			}
		}
	case []any:
		if s.Items != nil {
			for _, item := range v {
				d.walk(at+"[]", s.Items.Value, item)
			}
		}
	}
}

// Unseen lists what the document promises and no exchange has had: statuses of operations, and properties of answers.
func (d *Document) Unseen() (list []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	note := func(what string) {
		if !d.seen[what] && !slices.Contains(list, what) {
			list = append(list, what)
		}
	}
	for path, item := range d.doc.Paths.Map() {
		for method, op := range item.Operations() {
			for status, response := range op.Responses.Map() {
				name := fmt.Sprintf("%s %s %s", method, path, status)
				note(name)
				if media := response.Value.Content.Get("application/json"); media != nil && strings.HasPrefix(status, "2") {
					promises(name, media.Schema.Value, note)
				}
			}
		}
	}
	slices.Sort(list)
	return list
}

// promises notes every property that a schema has.
func promises(at string, s *openapi3.Schema, note func(string)) {
	for _, part := range s.AllOf {
		promises(at, part.Value, note)
	}
	for name, p := range s.Properties {
		note(at + "." + name)
		promises(at+"."+name, p.Value, note)
	}
	if s.Items != nil {
		promises(at+"[]", s.Items.Value, note)
	}
}

func decode(data []byte) (value any, err error) {
	if err := json.Unmarshal(data, &value); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	return value, nil
}
