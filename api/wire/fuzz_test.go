package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	wirev1 "github.com/imcluster/imcluster/api/wire/v1"
)

var jsonSeeds = []string{
	`{"token":"2","type":"10"}`, `{"type":"40","fromId":"2"}`,
	`{"type":"80","fromId":"1","toId":"2","content":{"contentType":1,"body":"测试消息"}}`,
	`{"type":"90","msgId":"2bfea133-72a8-4315-82aa-80049fe4fb7b"}`, `{"type":80,"toId":"\ud800","content":1e400}`,
	`{"type":"84","action":"create","groupId":"g","users":["a","b"],"limit":1e2,"requestId":"r","cursor":"c"}`,
	`{"type":"82","groupId":"g","content":[1,-0.5e-7,true,null,"\u00e9\n"],"missed":1,"redelivered":true}`,
	`{"type":"86","content":"x","clientMsgId":"c"}`, `{"type":"58","limit":9007199254740992}`, `{"type":"10","token":"t","platform":null}`,
	`[[[[[`, `{"type":"80","toId":"2","content":{"a":"\""}}`, `{}`, `null`, "{\"type\":\"40\"}\x00", `{"type":"12","x":"\\"}`,
	`{"\u0074ype":"40","type":"40"}`, `{"type":"040"}`, `{"type":"40","x":0123}`, `{"type":"81","code":200,"msgId":"m"}`,
	`{"type":"52","action":"replace","users":["a","b"],"requestId":"r"}`, `{"type":"56","status":"invisible","statusText":"x"}`,
	`{"type":"54","presence":[{"userId":"a","state":"online","platforms":["ios"]},{"userId":"b","lastSeen":1}],"asOf":5}`,
	`{"type":"53","code":200,"presence":[{"userId":null}],"degraded":true}`, `{"type":"54","presence":{}}`,
}

// FuzzDecodeJSON decodes anything, as a server and as a client do.
func FuzzDecodeJSON(f *testing.F) {
	for _, seed := range jsonSeeds {
		f.Add([]byte(seed))
	}
	schema := readSchema(f, "client")
	f.Fuzz(func(t *testing.T, data []byte) {
		fr, err := checkDecode(t, JSON, data)
		// The scanner is ours: the standard library knows better what JSON is.
		isJSON := json.Valid(data) && utf8.Valid(data)
		if refused := codeOf(err) == CodeMalformed; refused && isJSON && data[len(leadingSpace(data))] == '{' && !deep(data) {
			t.Fatalf("refused %q: %v", data, err)
		} else if !refused && !isJSON {
			t.Fatalf("took %q for JSON", data)
		}
		if err != nil {
			return
		}
		if fr.Content != nil && (!json.Valid(fr.Content) || !bytes.Contains(data, fr.Content)) {
			t.Fatalf("content %q is not that of %q", fr.Content, data)
		}
		if err := validate(schema, data); err != nil && !isOddNumber(err) {
			t.Fatalf("the schema refuses %s: %v", data, err)
		}
	})
}

// isOddNumber tells whether the standard library cannot hold a number of the content, such as 1e400.
func isOddNumber(err error) bool {
	_, odd := errors.AsType[*json.UnmarshalTypeError](err)
	return odd
}

func leadingSpace(data []byte) []byte {
	return data[:len(data)-len(bytes.TrimLeft(data, " \t\r\n"))]
}

// deep tells whether valid JSON may be nested deeper than is allowed.
func deep(data []byte) bool {
	return bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) > maxDepth
}

// FuzzDecodeProtobuf decodes anything, as a server and as a client do, and compares with generated code.
func FuzzDecodeProtobuf(f *testing.F) {
	for _, seed := range jsonSeeds {
		if fr, err := DecodeJSON([]byte(seed)); err == nil {
			f.Add(AppendProtobuf(nil, &fr))
		}
	}
	for _, l := range Layouts() {
		f.Add(AppendProtobuf(nil, fullFrame(l.Type)))
	}
	f.Add(protowire.AppendGroup(protowire.AppendTag(nil, 100, protowire.StartGroupType), 100, []byte{8, 40}))
	f.Fuzz(func(t *testing.T, data []byte) {
		fr, err := checkDecode(t, Protobuf, data)
		var theirs wirev1.Frame
		theirErr := proto.Unmarshal(data, &theirs)
		if err != nil {
			return
		}
		if theirErr != nil {
			// Text of fields that do not matter is not looked at.
			if !strings.Contains(theirErr.Error(), "invalid UTF-8") {
				t.Fatalf("accepted %x, but generated code does not: %v", data, theirErr)
			}
			return
		}
		if fr.Type != Type(theirs.GetType()) || fr.ToID != "" && fr.ToID != theirs.GetToId() || !bytes.Equal(fr.Content, contentOf(&theirs, fr.Type)) {
			t.Fatalf("read %+v, generated code %v", fr, &theirs)
		}
	})
}

func contentOf(m *wirev1.Frame, t Type) []byte {
	if t == TypeChat || t == TypeGroupChat || t == TypeBroadcast {
		return m.GetContent()
	}
	return nil
}

// checkDecode decodes data as a server and as a client do, and checks what must hold whatever the data is: the data stays as
// it is, errors can be answered with, and a frame that is accepted goes through either codec unchanged.
func checkDecode(t *testing.T, codec Codec, data []byte) (Frame, error) {
	before := bytes.Clone(data)
	fr, err := codec.Decode(data)
	received, receivedErr := codec.DecodeServer(data)
	if !bytes.Equal(before, data) {
		t.Fatal("the input was changed")
	}
	checkError(t, err)
	checkError(t, receivedErr)
	if receivedErr == nil {
		checkSame(t, received, Codec.DecodeServer)
	}
	if err == nil {
		if !fr.Type.ClientMaySend() {
			t.Fatalf("accepted %q as %+v", data, fr)
		}
		checkSame(t, fr, Codec.Decode)
	}
	return fr, err
}

func checkError(t *testing.T, err error) {
	if err == nil {
		return
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Message == "" || e.Code.OK() || !utf8.ValidString(e.Message) || len(e.Message) > 300 {
		t.Fatalf("error %#v", err)
	}
}

// checkSame checks that a frame is the same after it was encoded and decoded by any codec.
func checkSame(t *testing.T, fr Frame, decode func(Codec, []byte) (Frame, error)) {
	if fr.Content != nil && checkContent(fr.Content) != nil {
		return // of a server, which clients trust
	}
	for codec := range NumCodecs {
		data := codec.Append(nil, &fr)
		if codec == JSON && !json.Valid(data) {
			t.Fatalf("encoded as %q", data)
		}
		again, err := decode(codec, data)
		if err != nil {
			t.Fatalf("%+v was encoded to what cannot be decoded: %v", fr, err)
		}
		// White space around content may be passed on.
		trimmed := cmp.Transformer("trim", func(content []byte) string { return string(bytes.TrimSpace(content)) })
		if diff := cmp.Diff(fr, again, trimmed); diff != "" {
			t.Fatalf("%s changed: -first +second\n%s", codec.Subprotocol(), diff)
		}
	}
}
