package wire

// Layout is what the table of frames says of one type. It is for those who write schemas and documentation.
type Layout struct {
	Type                   Type
	FromClient, FromServer bool
	Fields                 []Field // in the order of JSON
}

// Field is what the table says of one field of a frame type.
type Field struct {
	Name       string   // in JSON
	Kind       string   // text, number, bool, code, list (of texts), presence (a list of [Presence]) or content (any JSON)
	Number     int      // in protobuf
	MaxBytes   int      // of an id that a client sends; 0: not an id
	Required   bool     // of a client
	ServerOnly bool     // ignored when a client sends it
	OneOf      []string // of a client, all that it may be; nil: anything
}

// Layouts returns the table of frames, by their types.
func Layouts() []Layout {
	var layouts []Layout
	for n := range frames {
		l := &frames[n]
		if l.dir == 0 {
			continue
		}
		layout := Layout{Type: Type(n), FromClient: l.dir&fromClient != 0, FromServer: l.dir&fromServer != 0}
		for _, f := range l.fields {
			layout.Fields = append(layout.Fields, f.describe(l))
		}
		layouts = append(layouts, layout)
	}
	return layouts
}

// Fields returns the table of fields, by their numbers in protobuf. Number 1 is the type of the frame.
func Fields() []Field {
	var fields []Field
	for _, f := range fieldsByNumber[numberOfType+1:] {
		fields = append(fields, f.describe(&layout{}))
	}
	return fields
}

func (f field) describe(l *layout) Field {
	info := &fieldTable[f]
	return Field{
		Name: info.name, Number: int(info.number), MaxBytes: info.id, Required: l.required.has(f), ServerOnly: l.serverOnly.has(f),
		Kind:  [...]string{kindText: "text", kindNumber: "number", kindBool: "bool", kindCode: "code", kindList: "list", kindContent: "content", kindPresence: "presence"}[info.kind],
		OneOf: f.oneOf(l),
	}
}

// oneOf returns what a client may send in a field that has few values.
func (f field) oneOf(l *layout) []string {
	switch f {
	case fAction:
		return l.actions
	case fStatus:
		return statuses
	}
	return nil
}

// PresenceFields returns the table of the fields of [Presence], in the order of JSON, which is that of their numbers. Those of
// kind list are lists of texts.
func PresenceFields() []Field {
	fields := make([]Field, numPresenceFields)
	for f, info := range presenceTable {
		fields[f] = Field{Name: info.name, Number: int(info.number), Kind: map[kind]string{kindText: "text", kindNumber: "number", kindList: "list"}[info.kind]}
	}
	return fields
}
