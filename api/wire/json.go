package wire

import (
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// maxDepth bounds the nesting of a frame, content included. The validator recurses once a level.
const maxDepth = 128

// DecodeJSON reads the frame that a client sent. The error is an *Error with the code to answer with; the returned
// frame then holds at least the type and the ids that could be read, so that the answer can name them.
//
// Unknown fields are ignored. A known field must not occur twice, and must have the type of the table.
func DecodeJSON(data []byte) (Frame, error) {
	var fr Frame
	if !utf8.Valid(data) {
		return fr, Errorf(CodeMalformed, "the frame is not UTF-8")
	}
	if nestedDeeper(data, maxDepth) {
		return fr, Errorf(CodeMalformed, "the frame is nested deeper than %d levels", maxDepth)
	}
	if !gjson.ValidBytes(data) {
		return fr, Errorf(CodeMalformed, "the frame is not valid JSON")
	}
	object := gjson.ParseBytes(data)
	if !object.IsObject() {
		return fr, Errorf(CodeMalformed, "the frame is not a JSON object")
	}
	raw, typ, err := scan(object)
	if err != nil {
		return fr, err
	}
	if fr.Type, err = parseType(typ); err != nil {
		return fr, err
	}
	l := frames[fr.Type]
	if l.dir&fromClient == 0 {
		return fr, Errorf(CodeNotAllowed, "frames of type %d (%s) are sent by the server only", fr.Type, fr.Type)
	}
	err = fr.fill(l, &raw)
	return fr, err
}

// scan collects the known fields of the object, and its type.
func scan(object gjson.Result) (raw [numFields]gjson.Result, typ gjson.Result, err error) {
	object.ForEach(func(key, value gjson.Result) bool {
		name := key.String()
		if name == "type" {
			if typ.Exists() {
				err = Errorf(CodeBadField, "field %q occurs twice", name)
			}
			typ = value
			return err == nil
		}
		for f := range numFields {
			if fieldNames[f] != name {
				continue
			}
			if raw[f].Exists() {
				err = Errorf(CodeBadField, "field %q occurs twice", name)
			}
			raw[f] = value
			break
		}
		return err == nil
	})
	return raw, typ, err
}

// parseType reads the type, a JSON string or number.
func parseType(v gjson.Result) (Type, error) {
	switch v.Type {
	case gjson.String, gjson.Number:
	case gjson.Null:
		return 0, Errorf(CodeBadField, `field "type" is missing`)
	default:
		return 0, Errorf(CodeBadField, `field "type" must be a string or a number`)
	}
	n, err := strconv.ParseUint(v.String(), 10, 8)
	if err != nil || !Type(n).Known() {
		return 0, Errorf(CodeUnknownType, "type %s is not known", strconv.Quote(clip(v.String(), 32)))
	}
	return Type(n), nil
}

// fill copies the fields of the layout from raw. It goes on after an error, so that the ids are there for the answer.
func (fr *Frame) fill(l layout, raw *[numFields]gjson.Result) error {
	var first error
	fail := func(e *Error) {
		if first == nil {
			first = e
		}
	}
	for _, f := range l.fields {
		v := raw[f]
		if v.Type == gjson.Null && f != fContent {
			if l.required.has(f) {
				fail(Errorf(CodeBadField, "field %q is missing", f))
			}
			continue
		}
		switch text, number := fr.text(f), fr.number(f); {
		case f == fContent:
			if !v.Exists() {
				fail(Errorf(CodeBadField, "field %q is missing", f))
				continue
			}
			fr.Content = []byte(v.Raw)
		case text != nil:
			if v.Type != gjson.String {
				fail(Errorf(CodeBadField, "field %q must be a string", f))
				continue
			}
			*text = v.String()
			if *text == "" && l.required.has(f) {
				fail(Errorf(CodeBadField, "field %q is empty", f))
			}
		case f == fRedelivered:
			if !v.IsBool() {
				fail(Errorf(CodeBadField, "field %q must be a boolean", f))
				continue
			}
			fr.Redelivered = v.Bool()
		case f == fUsers:
			if err := fr.fillUsers(v); err != nil {
				fail(err)
			}
		case number != nil:
			if v.Type != gjson.Number || v.Num != math.Trunc(v.Num) || math.Abs(v.Num) > 1<<53 {
				fail(Errorf(CodeBadField, "field %q must be an integer", f))
				continue
			}
			*number = v.Int()
		}
	}
	return first
}

// fillUsers reads the list of users.
func (fr *Frame) fillUsers(v gjson.Result) *Error {
	if !v.IsArray() {
		return Errorf(CodeBadField, "field %q must be a list of strings", fUsers)
	}
	var err *Error
	v.ForEach(func(_, user gjson.Result) bool {
		if user.Type != gjson.String {
			err = Errorf(CodeBadField, "field %q must be a list of strings", fUsers)
			return false
		}
		fr.Users = append(fr.Users, user.String())
		return true
	})
	return err
}

func appendUsers(dst []byte, users []string) []byte {
	dst = append(dst, '[')
	for i, u := range users {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = gjson.AppendJSONString(dst, u)
	}
	return append(dst, ']')
}

// AppendJSON appends the frame as one JSON object to dst. Content is appended as it is and must be valid JSON.
func AppendJSON(dst []byte, fr *Frame) []byte {
	dst = append(dst, `{"type":"`...)
	dst = strconv.AppendUint(dst, uint64(fr.Type), 10)
	dst = append(dst, '"')
	for _, f := range frames[fr.Type].fields {
		switch text, number := fr.text(f), fr.number(f); {
		case f == fCode:
			dst = strconv.AppendUint(appendName(dst, f), uint64(fr.Code), 10)
		case f == fContent:
			if len(fr.Content) > 0 {
				dst = append(appendName(dst, f), fr.Content...)
			}
		case text != nil:
			if *text != "" {
				dst = gjson.AppendJSONString(appendName(dst, f), *text)
			}
		case f == fRedelivered:
			if fr.Redelivered {
				dst = append(appendName(dst, f), "true"...)
			}
		case f == fUsers:
			if len(fr.Users) > 0 {
				dst = appendUsers(appendName(dst, f), fr.Users)
			}
		case number != nil:
			if *number != 0 {
				dst = strconv.AppendInt(appendName(dst, f), *number, 10)
			}
		}
	}
	return append(dst, '}')
}

func appendName(dst []byte, f field) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, fieldNames[f]...)
	return append(dst, '"', ':')
}

// nestedDeeper tells whether data opens more than limit objects and arrays at once. It runs before the data is known
// to be valid, and only has to be right for data that is.
func nestedDeeper(data []byte, limit int) bool {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > limit {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// clip shortens s to n bytes at most, at a rune boundary.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
