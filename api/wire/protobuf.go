package wire

import (
	"slices"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The encoding is written by hand from the table. Measured for a chat of 110 bytes: reading takes 0.42 µs and 112 bytes of
// memory with the check of the content, generated code 0.5 µs and 528 bytes without; writing 0.06 µs instead of 0.26. Tests
// compare the two.

// fieldOrders are the fields of each type by their numbers, the order in which generated code writes them.
var fieldOrders = func() (orders [len(frames)][]field) {
	for t := range frames {
		orders[t] = slices.Clone(frames[t].fields)
		slices.SortFunc(orders[t], func(a, b field) int { return int(fieldTable[a].number - fieldTable[b].number) })
	}
	return orders
}()

// AppendProtobuf is Append of [Protobuf].
func AppendProtobuf(dst []byte, fr *Frame) []byte {
	dst = appendVarint(dst, numberOfType, uint64(fr.Type))
	for _, f := range fieldOrders[fr.Type] {
		switch info := &fieldTable[f]; info.kind {
		case kindText:
			if text := *fr.text(f); text != "" {
				dst = protowire.AppendString(protowire.AppendTag(dst, info.number, protowire.BytesType), text)
			}
		case kindContent:
			if len(fr.Content) > 0 {
				dst = protowire.AppendBytes(protowire.AppendTag(dst, info.number, protowire.BytesType), fr.Content)
			}
		case kindNumber:
			dst = appendVarint(dst, info.number, uint64(*fr.integer(f)))
		case kindCode:
			dst = appendVarint(dst, info.number, uint64(fr.Code))
		case kindBool:
			dst = appendVarint(dst, info.number, protowire.EncodeBool(*fr.flag(f)))
		case kindList:
			for _, text := range fr.Users {
				dst = protowire.AppendString(protowire.AppendTag(dst, info.number, protowire.BytesType), text)
			}
		case kindPresence:
			for i := range fr.Presence {
				dst = Protobuf.AppendPresence(dst, &fr.Presence[i])
			}
		}
	}
	return dst
}

// appendVarint appends a field with a number, unless it is zero.
func appendVarint(dst []byte, number protowire.Number, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, number, protowire.VarintType), n)
}

// rawField is an encoded field: a varint, or what has a length, without it.
type rawField struct {
	span
	wire protowire.Type
}

func decodeProtobuf(data []byte, from direction) (fr Frame, err error) {
	raw, twice, err := scanProtobuf(data)
	if err != nil {
		return fr, err
	}
	var typ uint64 // zero is not sent
	if v := raw[fType]; v.exists() {
		if v.wire != protowire.VarintType {
			return fr, Errorf(CodeBadField, `field "type" must be a number`)
		}
		typ, _ = protowire.ConsumeVarint(v.of(data))
	}
	if typ >= uint64(len(frames)) || !Type(typ).Known() {
		return fr, unknownType(strconv.FormatUint(typ, 10))
	}
	fr.Type = Type(typ)
	l, err := layoutFor(fr.Type, from)
	if err != nil {
		return fr, err
	}
	set, err := fr.fillProtobuf(data, &raw, l, from)
	return fr, fr.finish(l, from, set, twice, err)
}

// scanProtobuf checks that data is a message, and finds its known fields.
func scanProtobuf(data []byte) (raw [numFields + 1]rawField, twice, err error) {
	for pos := 0; pos < len(data); {
		number, wireType, n := protowire.ConsumeTag(data[pos:])
		// Nobody sends groups any more, and to pass over one may take recursion without bounds.
		if n < 0 || !number.IsValid() || wireType == protowire.StartGroupType {
			return raw, nil, errProtobuf
		}
		pos += n
		if n = protowire.ConsumeFieldValue(number, wireType, data[pos:]); n < 0 {
			return raw, nil, errProtobuf
		}
		v := span{int32(pos), int32(pos + n)}
		pos += n
		f, ok := fieldNumbered(number)
		if !ok {
			continue
		}
		if raw[f].exists() {
			if f != fUsers && f != fPresence && twice == nil {
				twice = Errorf(CodeBadField, "field %q occurs twice", fieldName(f))
			}
			continue
		}
		if wireType == protowire.BytesType {
			text, _ := protowire.ConsumeBytes(v.of(data))
			v.start = v.end - int32(len(text))
		}
		raw[f] = rawField{v, wireType}
	}
	return raw, twice, nil
}

var errProtobuf = Errorf(CodeMalformed, "the frame is not a protobuf message")

// fillProtobuf reads the fields of the layout. It goes on after an error, so that the ids are there for the answer, and
// returns which fields there are.
func (fr *Frame) fillProtobuf(data []byte, raw *[numFields + 1]rawField, l *layout, from direction) (set fieldSet, first error) {
	for _, f := range l.fields {
		v := raw[f]
		if !v.exists() || !l.wanted(f, from) {
			continue
		}
		k := fieldTable[f].kind
		if v.start == v.end && (k == kindText || k == kindContent) {
			continue // empty means absent
		}
		set |= setOf(f)
		if err := fr.setProtobuf(f, k, v, data, from); err != nil && first == nil {
			first = err
		}
	}
	return set, first
}

// setProtobuf sets field f, which has kind k, to a value.
func (fr *Frame) setProtobuf(f field, k kind, v rawField, data []byte, from direction) error {
	want := protowire.BytesType
	if k == kindNumber || k == kindBool || k == kindCode {
		want = protowire.VarintType
	}
	if v.wire != want {
		return Errorf(CodeBadField, "field %q has wire type %d, not %d", f, v.wire, want)
	}
	switch k {
	case kindText:
		if !utf8.Valid(v.of(data)) {
			return Errorf(CodeBadField, "field %q is not UTF-8", f)
		}
		*fr.text(f) = string(v.of(data))
	case kindContent:
		if from == fromClient {
			if err := checkContent(v.of(data)); err != nil {
				return err
			}
		}
		fr.Content = append([]byte(nil), v.of(data)...)
	case kindBool:
		n, _ := protowire.ConsumeVarint(v.of(data))
		*fr.flag(f) = protowire.DecodeBool(n)
	case kindNumber, kindCode:
		n, _ := protowire.ConsumeVarint(v.of(data))
		return fr.setInteger(f, int64(n))
	case kindList:
		return fr.setUsersProtobuf(data)
	case kindPresence:
		return fr.setPresenceProtobuf(data)
	}
	return nil
}

// setUsersProtobuf reads the list of users, wherever in the data its elements stand.
func (fr *Frame) setUsersProtobuf(data []byte) error {
	for pos := 0; pos < len(data); {
		number, wireType, n := protowire.ConsumeTag(data[pos:])
		pos += n
		n = protowire.ConsumeFieldValue(number, wireType, data[pos:])
		if number == fieldTable[fUsers].number {
			user, size := protowire.ConsumeString(data[pos:])
			if wireType != protowire.BytesType || size != n || !utf8.ValidString(user) {
				return errUsers
			}
			fr.Users = append(fr.Users, user)
		}
		pos += n
	}
	return nil
}

// checkContent refuses content that a JSON frame could not carry.
func checkContent(content []byte) error {
	if !utf8.Valid(content) {
		return Errorf(CodeBadField, "field %q is not UTF-8", fContent)
	}
	s := scanner{data: content}
	s.space()
	err := s.value(maxContentDepth)
	if s.space(); err == nil && s.pos < len(content) {
		err = errJSON
	}
	if err != nil {
		return Errorf(CodeBadField, "field %q is not valid JSON, or nested deeper than %d levels", fContent, maxContentDepth)
	}
	return nil
}

// fieldNumbered returns the field with a number.
func fieldNumbered(number protowire.Number) (field, bool) {
	if number <= 0 || int(number) >= len(fieldsByNumber) {
		return 0, false
	}
	return fieldsByNumber[number], true // every number up to the last is taken
}

var fieldsByNumber = func() (fields [numFields + 2]field) {
	fields[numberOfType] = fType
	for f := range numFields {
		fields[fieldTable[f].number] = f
	}
	return fields
}()
