package wire

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// DecodeJSON is Decode of [JSON].
func DecodeJSON(data []byte) (Frame, error) { return decodeJSON(data, fromClient) }

// span is a value in the data, from its first byte to behind its last. The zero one is no value.
type span struct{ start, end int32 }

func (s span) exists() bool            { return s.end > 0 }
func (s span) of(data []byte) []byte   { return data[s.start:s.end] }
func (s span) first(data []byte) byte  { return data[s.start] }
func (s span) isNull(data []byte) bool { return s.first(data) == 'n' }

func decodeJSON(data []byte, from direction) (fr Frame, err error) {
	if !utf8.Valid(data) {
		return fr, Errorf(CodeMalformed, "the frame is not UTF-8")
	}
	var m members
	if err := m.scan(data); err != nil {
		return fr, err
	}
	if fr.Type, err = parseType(data, m.raw[fType]); err != nil {
		return fr, err
	}
	l, err := layoutFor(fr.Type, from)
	if err != nil {
		return fr, err
	}
	set, err := fr.fillJSON(data, &m.raw, l, from)
	return fr, fr.finish(l, from, set, m.twice, err)
}

// parseType reads the type, a JSON string or number.
func parseType(data []byte, v span) (Type, error) {
	if !v.exists() || v.isNull(data) {
		return 0, Errorf(CodeBadField, `field "type" is missing`)
	}
	text := v.of(data)
	switch c := text[0]; {
	case c == '"':
		if text = text[1 : len(text)-1]; bytes.IndexByte(text, '\\') >= 0 {
			text = []byte(unquote(v.of(data)))
		}
	case c == '-' || c >= '0' && c <= '9':
	default:
		return 0, Errorf(CodeBadField, `field "type" must be a string or a number`)
	}
	if n, ok := parseSmall(text); ok && Type(n).Known() {
		return Type(n), nil
	}
	return 0, unknownType(string(text))
}

// parseSmall reads a number below 256 without leading zeros.
func parseSmall(digits []byte) (n int, ok bool) {
	if len(digits) == 0 || len(digits) > 3 || len(digits) > 1 && digits[0] == '0' {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, n < len(frames)
}

func unknownType(text string) error {
	return Errorf(CodeUnknownType, "type %s is not known", strconv.Quote(clip(text, 32)))
}

// fillJSON reads the fields of the layout. It goes on after an error, so that the ids are there for the answer, and
// returns which fields there are.
func (fr *Frame) fillJSON(data []byte, raw *[numFields + 1]span, l *layout, from direction) (set fieldSet, first error) {
	for _, f := range l.fields {
		v := raw[f]
		if !v.exists() || !l.wanted(f, from) {
			continue
		}
		k := fieldTable[f].kind
		if k != kindContent && v.isNull(data) {
			continue
		}
		if k == kindText && v.end-v.start == 2 && v.first(data) == '"' {
			continue // "" means absent, as in protobuf
		}
		set |= setOf(f)
		if err := fr.setJSON(f, k, v.of(data)); err != nil && first == nil {
			first = err
		}
	}
	return set, first
}

// setJSON sets field f, which has kind k, to a value.
func (fr *Frame) setJSON(f field, k kind, v []byte) error {
	switch k {
	case kindContent:
		fr.Content = append([]byte(nil), v...)
	case kindText:
		if v[0] != '"' {
			return Errorf(CodeBadField, "field %q must be a string", f)
		}
		*fr.text(f) = unquote(v)
	case kindBool:
		if v[0] != 't' && v[0] != 'f' {
			return Errorf(CodeBadField, "field %q must be a boolean", f)
		}
		*fr.flag(f) = v[0] == 't'
	case kindNumber, kindCode:
		n, ok := parseInteger(v)
		if !ok {
			return Errorf(CodeBadField, "field %q must be an integer", f)
		}
		return fr.setInteger(f, n)
	case kindList:
		return fr.setUsers(v)
	case kindPresence:
		return fr.setPresence(v)
	}
	return nil
}

// setInteger sets a number or the code.
func (fr *Frame) setInteger(f field, n int64) error {
	if f != fCode {
		*fr.integer(f) = n
		return checkNumber(f, n)
	}
	if n < 0 || n > 999 {
		return Errorf(CodeBadField, "field %q is not a code", f)
	}
	fr.Code = Code(n)
	return nil
}

// parseInteger reads a JSON number without a fraction, 1e3 and 5.0 included.
func parseInteger(v []byte) (int64, bool) {
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return n, true
	}
	n, err := strconv.ParseFloat(string(v), 64)
	return int64(n), err == nil && n >= -maxNumber && n <= maxNumber && n == float64(int64(n))
}

var errUsers = Errorf(CodeBadField, "field %q must be a list of strings", fUsers)

// setUsers reads the list of users.
func (fr *Frame) setUsers(v []byte) error {
	if v[0] != '[' {
		return errUsers
	}
	fr.Users = nil
	s := scanner{data: v, pos: 1}
	for {
		switch s.space(); s.data[s.pos] {
		case ']':
			return nil
		case ',':
			s.pos++
		case '"':
			start := s.pos
			_ = s.text() // it is valid
			fr.Users = append(fr.Users, unquote(v[start:s.pos]))
		default:
			return errUsers
		}
	}
}

// unquote returns what a valid JSON string in quotes stands for. Surrogates that stand alone become U+FFFD.
func unquote(v []byte) string {
	plain := v[1 : len(v)-1]
	if bytes.IndexByte(plain, '\\') < 0 {
		return string(plain)
	}
	var text string
	_ = json.Unmarshal(v, &text) // it is valid
	return text
}

// AppendJSON is Append of [JSON].
func AppendJSON(dst []byte, fr *Frame) []byte {
	dst = append(dst, `{"type":"`...)
	dst = strconv.AppendUint(dst, uint64(fr.Type), 10)
	dst = append(dst, '"')
	for _, f := range frames[fr.Type].fields {
		switch fieldTable[f].kind {
		case kindText:
			if text := *fr.text(f); text != "" {
				dst = appendString(append(dst, jsonKeys[f]...), text)
			}
		case kindContent:
			if len(fr.Content) > 0 {
				dst = append(append(dst, jsonKeys[f]...), fr.Content...)
			}
		case kindNumber:
			if n := *fr.integer(f); n != 0 {
				dst = strconv.AppendInt(append(dst, jsonKeys[f]...), n, 10)
			}
		case kindCode:
			dst = strconv.AppendUint(append(dst, jsonKeys[f]...), uint64(fr.Code), 10)
		case kindBool:
			if *fr.flag(f) {
				dst = append(append(dst, jsonKeys[f]...), "true"...)
			}
		case kindList:
			if len(fr.Users) > 0 {
				dst = appendList(append(dst, jsonKeys[f]...), fr.Users)
			}
		case kindPresence:
			if len(fr.Presence) > 0 {
				dst = appendPresenceList(append(dst, jsonKeys[f]...), fr.Presence)
			}
		}
	}
	return append(dst, '}')
}

// jsonKeys is what stands before the value of each field.
var jsonKeys = func() (keys [numFields]string) {
	for f := range numFields {
		keys[f] = `,"` + fieldTable[f].name + `":`
	}
	return keys
}()

func appendList(dst []byte, texts []string) []byte {
	dst = append(dst, '[')
	for i, text := range texts {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, text)
	}
	return append(dst, ']')
}

// appendString appends a JSON string. What is not UTF-8 becomes U+FFFD.
func appendString(dst []byte, text string) []byte {
	dst = append(dst, '"')
	done := 0 // so much of the text is in dst
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			if c < ' ' || c == '"' || c == '\\' {
				dst = appendEscaped(append(dst, text[done:i]...), c)
				done = i + 1
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(append(dst, text[done:i]...), "\uFFFD"...)
			done = i + 1
		}
		i += size
	}
	return append(append(dst, text[done:]...), '"')
}

func appendEscaped(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
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
