package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/imcluster/imcluster/api/wire"
)

// schema is a JSON Schema, draft 2020-12, with its keywords in the order in which people read them.
type schema struct {
	Schema      string             `json:"$schema,omitempty"`
	ID          string             `json:"$id,omitempty"`
	Ref         string             `json:"$ref,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        any                `json:"type,omitempty"`
	Enum        []any              `json:"enum,omitempty"`
	MinLength   int                `json:"minLength,omitempty"`
	MaxLength   int                `json:"maxLength,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	Minimum     *int               `json:"minimum,omitempty"`
	Maximum     int                `json:"maximum,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	Required    []string           `json:"required,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	If          *schema            `json:"if,omitempty"`
	Then        *schema            `json:"then,omitempty"`
	AllOf       []*schema          `json:"allOf,omitempty"`
	Defs        map[string]*schema `json:"$defs,omitempty"`
}

const (
	maxNumber   = 1 << 53
	noControls  = "^[^\\x00-\\x1f\\x7f-\\x9f]*$"
	platforms   = "^[a-z0-9-]{0,16}$"
	schemaBase  = "https://raw.githubusercontent.com/imcluster/imcluster/main/api/wire/v1/"
	clientTitle = "A frame that a client of IMCluster sends"
	serverTitle = "A frame that a server of IMCluster sends"
)

// jsonSchema is the schema of the frames that clients send, or of those that servers send. Beside what it says, a field must
// not occur twice, ids are bounded in bytes and not in characters, and content must not be nested deeper than 127 levels.
func jsonSchema(c comments, client bool) ([]byte, error) {
	root := &schema{
		Schema: "https://json-schema.org/draft/2020-12/schema", ID: schemaBase + "server.schema.json", Title: serverTitle,
		Description: "Generated from the table of frames. One JSON object in a WebSocket text message of the sub-protocol imcluster.v1.json. " +
			"Fields that are not known are ignored.",
		Type: "object", Required: []string{"type"}, Defs: map[string]*schema{},
	}
	if client {
		root.ID, root.Title = schemaBase+"client.schema.json", clientTitle
	}
	var types []any
	for _, l := range wire.Layouts() {
		if client && !l.FromClient || !client && !l.FromServer {
			continue
		}
		this := []any{strconv.Itoa(int(l.Type))}
		if client {
			this = append(this, int(l.Type))
		}
		types = append(types, this...)
		root.Defs[l.Type.String()] = frameSchema(c, l, client)
		root.AllOf = append(root.AllOf, &schema{
			If:   &schema{Properties: map[string]*schema{"type": {Enum: this}}},
			Then: &schema{Ref: "#/$defs/" + l.Type.String()},
		})
	}
	if !client {
		root.Defs["Presence"] = presenceSchema(c)
	}
	root.Properties = map[string]*schema{"type": {Description: c.field("type"), Enum: types}}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("encode a schema: %w", err)
	}
	return out.Bytes(), nil
}

// frameSchema is the schema of one type of frames.
func frameSchema(c comments, l wire.Layout, client bool) *schema {
	s := &schema{Title: l.Type.String(), Description: sentence(c.types[l.Type]), Properties: map[string]*schema{}}
	for _, f := range l.Fields {
		if client && f.ServerOnly {
			continue
		}
		p := fieldSchema(f, client)
		p.Description = c.field(f.Name)
		s.Properties[f.Name] = p
		if f.Required && client || f.Name == "code" {
			s.Required = append(s.Required, f.Name)
		}
	}
	slices.Sort(s.Required)
	return s
}

// presenceSchema is the schema of one element of the field presence.
func presenceSchema(c comments) *schema {
	s := &schema{Title: "Presence", Description: "How one user is, as others may know.", Type: "object",
		Required: []string{"state", "userId"}, Properties: map[string]*schema{}}
	for _, f := range wire.PresenceFields() {
		p := fieldSchema(f, false)
		p.Description = sentence(c.presence[strings.ToLower(f.Name)])
		s.Properties[f.Name] = p
	}
	return s
}

func fieldSchema(f wire.Field, client bool) *schema {
	p := &schema{}
	switch f.Kind {
	case "content":
		return p
	case "text":
		p.Type = "string"
		if client && f.MaxBytes > 0 {
			p.MaxLength, p.Pattern = f.MaxBytes, noControls
		}
		if client && f.Name == "platform" {
			p.Pattern = platforms
		}
		if client {
			for _, value := range f.OneOf {
				p.Enum = append(p.Enum, value)
			}
			if f.OneOf != nil && !f.Required {
				p.Enum = append(p.Enum, "", nil) // which mean absent
			}
		}
		if f.Required {
			p.MinLength = 1
		}
	case "list":
		p.Type, p.Items = "array", &schema{Type: "string"}
		if client {
			p.Items.MinLength, p.Items.MaxLength, p.Items.Pattern = 1, f.MaxBytes, noControls
		}
	case "presence":
		p.Type, p.Items = "array", &schema{Ref: "#/$defs/Presence"}
	case "bool":
		p.Type = "boolean"
	case "code":
		low := 200
		p.Type, p.Minimum, p.Maximum = "integer", &low, 699
	case "number":
		zero := 0
		p.Type, p.Minimum, p.Maximum = "integer", &zero, maxNumber
	}
	if client && !f.Required {
		p.Type = []any{p.Type, "null"} // null means absent
	}
	return p
}
