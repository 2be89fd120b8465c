package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	wirev1 "github.com/imcluster/imcluster/api/wire/v1"
)

// fullFrame is a frame of type t with a value in every field that it has.
func fullFrame(t Type) *Frame {
	fr := &Frame{Type: t}
	for i, f := range frames[t].fields {
		switch fieldTable[f].kind {
		case kindText:
			*fr.text(f) = fmt.Sprintf("%s “%d” <\"\\\n\u2028>", f, i)
			if fieldTable[f].id > 0 {
				*fr.text(f) = fmt.Sprintf("%s “%d” <\"\\>", f, i)
			}
		case kindNumber:
			*fr.integer(f) = 1<<53 - int64(i)
		case kindCode:
			fr.Code = CodeTooMuch
		case kindBool:
			*fr.flag(f) = true
		case kindList:
			fr.Users = []string{"a", "测试", "a b"}
		case kindContent:
			fr.Content = []byte(`{"contentType":1, "body":"测试消息"}`)
		case kindPresence:
			fr.Presence = somePresence()
		}
	}
	if fr.Action != "" {
		fr.Action = frames[t].actions[len(frames[t].actions)-1]
	}
	if fr.Status != "" {
		fr.Status = StatusAway
	}
	if fr.Platform != "" {
		fr.Platform = "ios"
	}
	return fr
}

// somePresence is a list in which each field occurs, and one element is longer than 127 bytes.
func somePresence() []Presence {
	return []Presence{
		{UserID: "a", State: StateOnline, Status: StatusBusy, Text: strings.Repeat("“测试\"\\”", 9), Platforms: []string{"ios", "web"}},
		{UserID: "b", State: StateOffline, LastSeen: 1<<53 - 1},
		{UserID: "测试", State: StateUnknown, Reason: "never_seen"},
	}
}

// asClient is the frame as a server understands it when a client sends it.
func asClient(fr Frame) Frame {
	if fr.Type == TypeChat || fr.Type == TypeGroupChat || fr.Type == TypeBroadcast {
		fr.MsgID, fr.Time, fr.Redelivered, fr.Missed = "", 0, false, 0
	}
	return fr
}

// TestFramesSurviveBothCodecs: with all fields, and with none that may be left out.
func TestFramesSurviveBothCodecs(t *testing.T) {
	for _, l := range Layouts() {
		full := fullFrame(l.Type)
		for codec := range NumCodecs {
			for _, fr := range []*Frame{full, {Type: l.Type}} {
				data := codec.Append([]byte("kept"), fr)[len("kept"):]
				if codec == JSON && !json.Valid(data) {
					t.Errorf("%s is not valid JSON", data)
				}
				if l.FromServer {
					got, err := codec.DecodeServer(data)
					if diff := cmp.Diff(*fr, got); diff != "" || err != nil {
						t.Errorf("%s of a server in %s: %v, -want +got\n%s", l.Type, codec.Subprotocol(), err, diff)
					}
				} else if _, err := codec.DecodeServer(data); codeOf(err) != CodeNotAllowed {
					t.Errorf("%s of a server in %s: %v", l.Type, codec.Subprotocol(), err)
				}
			}
			data := codec.Append(nil, full)
			got, err := codec.Decode(data)
			if !l.FromClient {
				if codeOf(err) != CodeNotAllowed {
					t.Errorf("%s of a client in %s: %v", l.Type, codec.Subprotocol(), err)
				}
				continue
			}
			if diff := cmp.Diff(asClient(*full), got); diff != "" || err != nil {
				t.Errorf("%s of a client in %s: %v, -want +got\n%s", l.Type, codec.Subprotocol(), err, diff)
			}
		}
	}
}

func codeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return 0
}

// generated is the frame as the generated code has it.
func generated(fr *Frame) *wirev1.Frame {
	m := &wirev1.Frame{}
	r := m.ProtoReflect()
	set := func(f field, v protoreflect.Value) {
		r.Set(r.Descriptor().Fields().ByNumber(fieldTable[f].number), v)
	}
	m.Type = wirev1.Type(fr.Type)
	for _, f := range frames[fr.Type].fields {
		switch fieldTable[f].kind {
		case kindText:
			set(f, protoreflect.ValueOfString(*fr.text(f)))
		case kindNumber:
			set(f, protoreflect.ValueOfInt64(*fr.integer(f)))
		case kindCode:
			m.Code = wirev1.Code(fr.Code)
		case kindBool:
			set(f, protoreflect.ValueOfBool(*fr.flag(f)))
		case kindList:
			m.Users = fr.Users
		case kindContent:
			m.Content = fr.Content
		case kindPresence:
			for _, p := range fr.Presence {
				m.Presence = append(m.Presence, &wirev1.Presence{UserId: p.UserID, State: p.State, Reason: p.Reason, Status: p.Status,
					Text: p.Text, LastSeen: p.LastSeen, Platforms: p.Platforms})
			}
		}
	}
	return m
}

// TestGeneratedClientsUnderstandUs: what is written by hand is, byte for byte, what generated code writes, and either reads
// the other's.
func TestGeneratedClientsUnderstandUs(t *testing.T) {
	for _, l := range Layouts() {
		for _, fr := range []*Frame{fullFrame(l.Type), {Type: l.Type}} {
			want := generated(fr)
			theirs, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			ours := AppendProtobuf(nil, fr)
			if string(ours) != string(theirs) {
				t.Errorf("%s: wrote %x, generated code %x", l.Type, ours, theirs)
			}
			var got wirev1.Frame
			if err := proto.Unmarshal(ours, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, &got, protocmp.Transform()); diff != "" {
				t.Errorf("%s: generated code reads -want +got\n%s", l.Type, diff)
			}
		}
	}
}

// TestFieldNumbersAreFixed: clients in the field know them.
func TestFieldNumbersAreFixed(t *testing.T) {
	const want = "1 type, 2 code, 3 fromId, 4 toId, 5 groupId, 6 msgId, 7 clientMsgId, 8 time, 9 content, 10 redelivered, 11 missed, " +
		"12 delayMs, 13 message, 14 users, 15 requestId, 16 token, 17 userId, 18 deviceId, 19 platform, 20 sessionId, " +
		"21 heartbeatSeconds, 22 action, 23 owner, 24 cursor, 25 limit, 26 count, 27 gateways, 28 reached, 29 expiresAt, " +
		"30 presence, 31 asOf, 32 degraded, 33 status, 34 statusText"
	var got, published []string
	got = append(got, fmt.Sprintf("%d type", numberOfType))
	for _, f := range Fields() {
		got = append(got, fmt.Sprintf("%d %s", f.Number, f.Name))
	}
	for fields, i := (&wirev1.Frame{}).ProtoReflect().Descriptor().Fields(), 0; i < fields.Len(); i++ {
		published = append(published, fmt.Sprintf("%d %s", fields.Get(i).Number(), fields.Get(i).JSONName()))
	}
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("the table has %s", s)
	}
	if s := strings.Join(published, ", "); s != want {
		t.Errorf("frame.proto has %s", s)
	}
}

// TestBadProtobufFrames are refused with the code that the same frame has in JSON.
func TestBadProtobufFrames(t *testing.T) {
	text := func(number protowire.Number, s string) string {
		return string(protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), s))
	}
	number := func(number protowire.Number, n uint64) string {
		return string(protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), n))
	}
	chat := number(1, 80) + text(4, "2")
	for _, tc := range []struct {
		name, data string
		code       Code
		word       string
	}{
		{"JSON", `{"type":"40"}`, CodeMalformed, "protobuf"},
		{"cut off", (chat + text(9, "1"))[:7], CodeMalformed, "protobuf"},
		{"a length beyond the end", number(1, 40) + "\x1a\x7fabc", CodeMalformed, "protobuf"},
		{"a group", number(1, 40) + "\xa3\x06\xa4\x06", CodeMalformed, "protobuf"},
		{"field number above 2^29", number(1, 40) + "\xc8\x80\x80\xc8\x30\x30", CodeMalformed, "protobuf"},
		{"field number 0", number(1, 40) + "\x00\x01", CodeMalformed, "protobuf"},
		{"a varint without end", "\x08" + strings.Repeat("\xff", 11), CodeMalformed, "protobuf"},
		{"empty", "", CodeNotAllowed, "UNKNOWN"},
		{"type unknown", number(1, 99), CodeUnknownType, "99"},
		{"type is 256 more", number(1, 296), CodeUnknownType, "296"},
		{"type negative", number(1, 1<<64-1), CodeUnknownType, "18446744073709551615"},
		{"type is text", text(1, "40"), CodeBadField, "type"},
		{"type twice", number(1, 40) + number(1, 40), CodeBadField, "type"},
		{"server's type", number(1, 81), CodeNotAllowed, "CHAT_RESP"},
		{"login without token", number(1, 10), CodeBadField, "token"},
		{"login with an empty token", number(1, 10) + text(16, ""), CodeBadField, "token"},
		{"login with a number", number(1, 10) + number(16, 5), CodeBadField, "token"},
		{"chat without content", chat, CodeBadField, "content"},
		{"content is not JSON", chat + text(9, "hello"), CodeBadField, "content"},
		{"content is two values", chat + text(9, "1 2"), CodeBadField, "content"},
		{"content is not UTF-8", chat + text(9, "\"\xff\""), CodeBadField, "UTF-8"},
		{"content is too deep", chat + text(9, strings.Repeat("[", 128)+strings.Repeat("]", 128)), CodeBadField, "127"},
		{"toId is not UTF-8", number(1, 80) + text(4, "\xff") + text(9, "1"), CodeBadField, "toId"},
		{"toId with a control character", number(1, 80) + text(4, "\n") + text(9, "1"), CodeBadField, "toId"},
		{"field twice", chat + text(4, "3") + text(9, "1"), CodeBadField, "toId"},
		{"limit is negative", number(1, 58) + number(25, 1<<64-1), CodeBadField, "limit"},
		{"limit is huge", number(1, 58) + number(25, 1<<60), CodeBadField, "limit"},
		{"users are numbers", number(1, 84) + text(22, "add") + text(5, "g") + text(14, "a") + number(14, 5), CodeBadField, "users"},
		{"one of the users is empty", number(1, 84) + text(22, "add") + text(5, "g") + text(14, "a") + text(14, ""), CodeBadField, "users"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Protobuf.Decode([]byte(tc.data))
			if codeOf(err) != tc.code || !strings.Contains(err.Error(), tc.word) {
				t.Errorf("got %v, want code %d and the word %q", err, tc.code, tc.word)
			}
		})
	}
}

// TestProtobufFramesMayHaveAnyOrder, unknown fields, and fields of other types.
func TestProtobufFramesMayHaveAnyOrder(t *testing.T) {
	var data []byte
	data = protowire.AppendString(protowire.AppendTag(data, 14, protowire.BytesType), "a")
	data = protowire.AppendFixed64(protowire.AppendTag(data, 500, protowire.Fixed64Type), 7)
	data = protowire.AppendString(protowire.AppendTag(data, 22, protowire.BytesType), GroupCreate)
	data = protowire.AppendVarint(protowire.AppendTag(data, 16, protowire.VarintType), 7) // token, with a wrong type
	data = protowire.AppendVarint(protowire.AppendTag(data, 1, protowire.VarintType), uint64(TypeGroup))
	data = protowire.AppendString(protowire.AppendTag(data, 14, protowire.BytesType), "b")
	data = protowire.AppendString(protowire.AppendTag(data, 5, protowire.BytesType), "g")
	got, err := Protobuf.Decode(data)
	want := Frame{Type: TypeGroup, Action: GroupCreate, GroupID: "g", Users: []string{"a", "b"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, -want +got\n%s", err, diff)
	}
}

// TestRefusedFramesKeepTheirIDs, so that the answer can say which frame it is for; but not those that are too long.
func TestRefusedFramesKeepTheirIDs(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, tc := range []struct{ sent, want Frame }{
		{Frame{Type: TypeChat, ClientMsgID: "c"}, Frame{Type: TypeChat, ClientMsgID: "c"}},
		{Frame{Type: TypeChat, ClientMsgID: long, ToID: "2", Content: []byte("1")}, Frame{Type: TypeChat, ToID: "2", Content: []byte("1")}},
		{Frame{Type: TypeGroup, Action: "explode", GroupID: "g", RequestID: "r"}, Frame{Type: TypeGroup, GroupID: "g", RequestID: "r"}},
		{Frame{Type: TypeGroup, Action: GroupAdd, GroupID: long, RequestID: long}, Frame{Type: TypeGroup, Action: GroupAdd}},
		{Frame{Type: TypeAck, MsgID: long}, Frame{Type: TypeAck}},
	} {
		for codec := range NumCodecs {
			got, err := codec.Decode(codec.Append(nil, &tc.sent))
			if diff := cmp.Diff(tc.want, got); diff != "" || codeOf(err) != CodeBadField {
				t.Errorf("%s: %v, -want +got\n%s", codec.Subprotocol(), err, diff)
			}
		}
	}
}

func TestSubprotocols(t *testing.T) {
	for codec := range NumCodecs {
		if got, ok := CodecOf(codec.Subprotocol()); got != codec || !ok {
			t.Errorf("%s stands for %d", codec.Subprotocol(), got)
		}
	}
	if got, ok := CodecOf("soap"); got != JSON || ok {
		t.Errorf("an unknown sub-protocol stands for %d, known %t", got, ok)
	}
}
