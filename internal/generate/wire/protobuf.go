package main

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/imcluster/imcluster/api/wire"
)

const protoHead = `// Code generated from the table of frames by "make generate". DO NOT EDIT.

// The frames of the WebSocket sub-protocol imcluster.v1.protobuf. Each binary message is one Frame. Which fields a frame of
// a type has, and what they mean, is told at https://github.com/imcluster/imcluster/blob/main/docs/protocol.md; they are the
// same as those of imcluster.v1.json. Numbers never change.
syntax = "proto3";

package imcluster.v1;

option go_package = "github.com/imcluster/imcluster/api/wire/v1;wirev1";
`

// protobuf is the .proto file.
func protobuf(c comments) []byte {
	var out strings.Builder
	out.WriteString(protoHead)
	out.WriteString("\n// What a frame is, and who sends it. Clients ignore types that they do not know.\nenum Type {\n")
	for _, l := range wire.Layouts() {
		fmt.Fprintf(&out, "  // %s: %s\n  TYPE_%s = %d;\n", sender(l), c.types[l.Type], l.Type, l.Type)
	}
	out.WriteString("}\n\n// The result that a frame reports. The hundreds say what to do: 2xx ok; 3xx log in differently or not at all; 4xx the client\n" +
		"// has a bug; 5xx try again after delay_ms; 6xx a limit was exceeded.\nenum Code {\n  // Not of an answer.\n  CODE_UNSPECIFIED = 0;\n")
	for _, code := range c.codes {
		fmt.Fprintf(&out, "  // %s\n  CODE_%s = %d;\n", sentence(code.comment), strings.ToUpper(snake(code.name)), code.value)
	}
	out.WriteString("}\n\n// Presence is how one user is, as others may know.\nmessage Presence {\n")
	for _, f := range wire.PresenceFields() {
		fmt.Fprintf(&out, "  // %s\n  %s %s = %d;\n", sentence(c.presence[strings.ToLower(f.Name)]), protoTypes[f.Kind], snake(f.Name), f.Number)
	}
	fmt.Fprintf(&out, "}\n\n// Frame is any frame. Fields that its type does not have are ignored.\nmessage Frame {\n  // %s\n  Type type = 1;\n", c.field("type"))
	for _, f := range wire.Fields() {
		fmt.Fprintf(&out, "  // %s\n  %s %s = %d;\n", c.field(f.Name), protoTypes[f.Kind], snake(f.Name), f.Number)
	}
	out.WriteString("}\n")
	return []byte(out.String())
}

// protoTypes are the types of fields by their kinds.
var protoTypes = map[string]string{
	"text": "string", "number": "int64", "bool": "bool", "code": "Code", "list": "repeated string", "content": "bytes",
	"presence": "repeated Presence",
}

func sender(l wire.Layout) string {
	switch {
	case l.FromClient && l.FromServer:
		return "Both"
	case l.FromClient:
		return "Client"
	default:
		return "Server"
	}
}

// snake turns clientMsgId into client_msg_id, and OK into ok.
func snake(name string) string {
	var out strings.Builder
	after := true // an upper-case letter
	for _, r := range name {
		if unicode.IsUpper(r) && !after {
			out.WriteByte('_')
		}
		after = unicode.IsUpper(r)
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}
