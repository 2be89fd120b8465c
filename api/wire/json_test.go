package wire

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestServerFrames: every frame that the server sends, byte for byte.
func TestServerFrames(t *testing.T) {
	for _, tc := range []struct {
		frame Frame
		want  string
	}{
		{Frame{Type: TypeUnknown, Code: CodeUnknownType, Message: "type \"99\" is not known"}, `{"type":"0","code":404,"message":"type \"99\" is not known"}`},
		{Frame{Type: TypeUnknown, Code: CodeTooManyFrames, DelayMS: 500}, `{"type":"0","code":601,"delayMs":500}`},
		{
			Frame{Type: TypeLoginResp, Code: CodeOK, UserID: "2", DeviceID: "default", SessionID: "s-1", HeartbeatSeconds: 10, Time: 1700000000000},
			`{"type":"11","code":200,"userId":"2","deviceId":"default","sessionId":"s-1","heartbeatSeconds":10,"time":1700000000000}`,
		},
		{Frame{Type: TypeLoginResp, Code: CodeUnavailable, Message: "later", DelayMS: 1500}, `{"type":"11","code":500,"message":"later","delayMs":1500}`},
		{Frame{Type: TypeHeartbeatTimeout, Code: CodeIdle, Message: "silent"}, `{"type":"30","code":408,"message":"silent"}`},
		{Frame{Type: TypeReconnect, Code: CodeDraining, Message: "move", DelayMS: 250}, `{"type":"31","code":502,"message":"move","delayMs":250}`},
		{Frame{Type: TypeKicked, Code: CodeReplaced, Message: "elsewhere"}, `{"type":"32","code":304,"message":"elsewhere"}`},
		{Frame{Type: TypePong}, `{"type":"41"}`},
		{
			Frame{Type: TypeChat, FromID: "1", ToID: "2", Content: []byte(`{"contentType":1,"body":"测试消息"}`)},
			`{"type":"80","fromId":"1","toId":"2","content":{"contentType":1,"body":"测试消息"}}`,
		},
		{
			Frame{Type: TypeChat, MsgID: "m", FromID: "1", ToID: "2", ClientMsgID: "c", Time: 5, Content: []byte(` null`)},
			`{"type":"80","msgId":"m","fromId":"1","toId":"2","clientMsgId":"c","time":5,"content": null}`,
		},
		{
			Frame{Type: TypeChatResp, Code: CodeAccepted, Message: "accepted, not stored", MsgID: "m", ClientMsgID: "c", Time: 5},
			`{"type":"81","code":201,"message":"accepted, not stored","msgId":"m","clientMsgId":"c","time":5}`,
		},
		{
			Frame{Type: TypePresenceResp, Code: CodeOK, AsOf: 7, Degraded: true, RequestID: "r", Presence: []Presence{
				{UserID: "a", State: StateOnline, Status: StatusAway, Text: "lunch", Platforms: []string{"ios", "web"}},
				{UserID: "b", State: StateOffline, LastSeen: 5}, {UserID: "c", State: StateUnknown, Reason: "never_seen"},
			}},
			`{"type":"51","code":200,"presence":[{"userId":"a","state":"online","status":"away","text":"lunch","platforms":["ios","web"]},` +
				`{"userId":"b","state":"offline","lastSeen":5},{"userId":"c","state":"unknown","reason":"never_seen"}],"asOf":7,"degraded":true,"requestId":"r"}`,
		},
		{
			Frame{Type: TypePresenceEvent, AsOf: 7, Presence: []Presence{{UserID: "b", State: StateOffline}}},
			`{"type":"54","presence":[{"userId":"b","state":"offline"}],"asOf":7}`,
		},
		{Frame{Type: TypeSetStatusResp, Code: CodeOK, Status: StatusBusy, StatusText: "x"}, `{"type":"57","code":200,"status":"busy","statusText":"x"}`},
		{Frame{Type: TypeLogout, Action: LogoutForget}, `{"type":"12","action":"forget"}`},
		{Frame{Type: TypeAckResp, Code: CodeOK, MsgID: "m"}, `{"type":"91","code":200,"msgId":"m"}`},
		{Frame{Type: TypeAckResp, Code: CodeTooManyFrames, MsgID: "m", DelayMS: 5}, `{"type":"91","code":601,"msgId":"m","delayMs":5}`},
		{Frame{Type: TypeAckResp, Code: CodeBadField, Message: "a\u2028<b>\x01"}, ""},
	} {
		got := string(AppendJSON(nil, &tc.frame))
		if tc.want != "" && got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("%s is not valid JSON", got)
		}
	}
}

// TestClientFrames: every frame that clients send, the published ones byte for byte.
func TestClientFrames(t *testing.T) {
	for _, tc := range []struct {
		name, data string
		want       Frame
	}{
		{"published login", `{"token":"2","type":"10"}`, Frame{Type: TypeLogin, Token: "2"}},
		{"published ping", `{"type":"40","fromId":"2"}`, Frame{Type: TypePing, FromID: "2"}},
		{
			"published chat", `{"type":"80","fromId":"1","toId":"2","content":{"contentType":1,"body":"测试消息"}}`,
			Frame{Type: TypeChat, FromID: "1", ToID: "2", Content: []byte(`{"contentType":1,"body":"测试消息"}`)},
		},
		{
			"published ack", `{"type":"90","msgId":"2bfea133-72a8-4315-82aa-80049fe4fb7b"}`,
			Frame{Type: TypeAck, MsgID: "2bfea133-72a8-4315-82aa-80049fe4fb7b"},
		},
		{"full login", `{"type":"10","token":"t","deviceId":"d","platform":"ios","fromId":"u"}`,
			Frame{Type: TypeLogin, Token: "t", DeviceID: "d", Platform: "ios", FromID: "u"}},
		{"logout", `{"type":"12","fromId":"u"}`, Frame{Type: TypeLogout, FromID: "u"}},
		{"full chat", `{"type":"80","toId":"2","clientMsgId":"c","content":"x"}`,
			Frame{Type: TypeChat, ToID: "2", ClientMsgID: "c", Content: []byte(`"x"`)}},
		{"type is a number", `{"type":40}`, Frame{Type: TypePing}},
		{"unknown fields", `{"type":"40","x":{"type":"80"},"y":[1]}`, Frame{Type: TypePing}},
		{"fields of other types", `{"type":"40","token":5,"content":1}`, Frame{Type: TypePing}},
		{"what only servers send", `{"type":"80","toId":"2","content":1,"msgId":5,"time":"now","missed":null}`,
			Frame{Type: TypeChat, ToID: "2", Content: []byte(`1`)}},
		{"a list", `{"type":84,"action":"add","groupId":"g","users":[ "a" ,"\u00e9" ],"requestId":"r"}`,
			Frame{Type: TypeGroup, Action: GroupAdd, GroupID: "g", Users: []string{"a", "é"}, RequestID: "r"}},
		{"an integer with an exponent", `{"type":"58","limit":1e2,"cursor":"x"}`, Frame{Type: TypeOnlineList, Limit: 100, Cursor: "x"}},
		{"a login with a status", `{"type":"10","token":"t","status":"invisible","statusText":"é"}`,
			Frame{Type: TypeLogin, Token: "t", Status: StatusInvisible, StatusText: "é"}},
		{"no status is absent", `{"type":"10","token":"t","status":"","statusText":null}`, Frame{Type: TypeLogin, Token: "t"}},
		{"a subscription to nobody", `{"type":"52","action":"replace","users":[]}`, Frame{Type: TypeSubscribe, Action: Replace}},
		{"what only servers say of users", `{"type":"50","users":["a"],"presence":5,"degraded":"x"}`, Frame{Type: TypePresenceQuery, Users: []string{"a"}}},
		{"null means absent", `{"type":"40","fromId":null}`, Frame{Type: TypePing}},
		{"white space", " \n{ \"type\" : \"40\" }\t", Frame{Type: TypePing}},
		{"escapes", `{"type":"\u0034\u0030","from\u0049d":"\ud83d\ude00\n"}`, Frame{Type: TypePing, FromID: "😀\n"}},
		{"content null", `{"type":"80","toId":"2","content":null}`, Frame{Type: TypeChat, ToID: "2", Content: []byte(`null`)}},
		{"content keeps its bytes", `{"type":"80","toId":"2","content":{ "b" : 1.50, "a":"\u00e9", "b":2 }}`,
			Frame{Type: TypeChat, ToID: "2", Content: []byte(`{ "b" : 1.50, "a":"\u00e9", "b":2 }`)}},
		{"content is deep", `{"type":"80","toId":"2","content":` + strings.Repeat("[", 127) + strings.Repeat("]", 127) + `}`,
			Frame{Type: TypeChat, ToID: "2", Content: []byte(strings.Repeat("[", 127) + strings.Repeat("]", 127))}},
		{"braces in strings are not depth", `{"type":"40","x":"` + strings.Repeat(`[{\"`, 200) + `"}`, Frame{Type: TypePing}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := DecodeJSON([]byte(tc.data))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestBadFrames(t *testing.T) {
	for _, tc := range []struct {
		name, data string
		code       Code
		word       string // that the message must have
	}{
		{"empty", ``, CodeMalformed, "JSON"},
		{"text", `hello`, CodeMalformed, "JSON"},
		{"cut off", `{"type":"40"`, CodeMalformed, "JSON"},
		{"two objects", `{"type":"40"}{"type":"40"}`, CodeMalformed, "JSON"},
		{"trailing comma", `{"type":"40",}`, CodeMalformed, "JSON"},
		{"single quotes", `{'type':'40'}`, CodeMalformed, "JSON"},
		{"an array", `[]`, CodeMalformed, "object"},
		{"a string", `"40"`, CodeMalformed, "object"},
		{"null", `null`, CodeMalformed, "object"},
		{"not UTF-8", "{\"type\":\"40\",\"x\":\"\xff\"}", CodeMalformed, "UTF-8"},
		{"too deep", strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200), CodeMalformed, "128"},
		{"too deep and cut off", strings.Repeat("[", 1<<16), CodeMalformed, "128"},
		{"no type", `{"fromId":"2"}`, CodeBadField, "type"},
		{"type null", `{"type":null}`, CodeBadField, "type"},
		{"type true", `{"type":true}`, CodeBadField, "type"},
		{"type twice", `{"type":"40","type":"80"}`, CodeBadField, "type"},
		{"type twice, once escaped", `{"type":"40","\u0074ype":"80"}`, CodeBadField, "type"},
		{"type unknown", `{"type":"99"}`, CodeUnknownType, "99"},
		{"type with zero", `{"type":"040x"}`, CodeUnknownType, "040x"},
		{"type negative", `{"type":-1}`, CodeUnknownType, "-1"},
		{"type fraction", `{"type":40.5}`, CodeUnknownType, "40.5"},
		{"type huge", `{"type":1e300}`, CodeUnknownType, ""},
		{"type is 256 more", `{"type":296}`, CodeUnknownType, "296"},
		{"type long", `{"type":"` + strings.Repeat("9", 1000) + `"}`, CodeUnknownType, "…"},
		{"server's type", `{"type":"81"}`, CodeNotAllowed, "CHAT_RESP"},
		{"login without token", `{"type":"10"}`, CodeBadField, "token"},
		{"login with empty token", `{"type":"10","token":""}`, CodeBadField, "token"},
		{"login with a number", `{"type":"10","token":2}`, CodeBadField, "token"},
		{"chat without recipient", `{"type":"80","content":1}`, CodeBadField, "toId"},
		{"chat without content", `{"type":"80","toId":"2"}`, CodeBadField, "content"},
		{"chat to an array", `{"type":"80","toId":["2"],"content":1}`, CodeBadField, "toId"},
		{"field twice", `{"type":"80","toId":"2","toId":"3","content":1}`, CodeBadField, "toId"},
		{"limit is text", `{"type":"58","limit":"10"}`, CodeBadField, "limit"},
		{"limit is a fraction", `{"type":"58","limit":1.5}`, CodeBadField, "limit"},
		{"limit is huge", `{"type":"58","limit":9007199254740994}`, CodeBadField, "limit"},
		{"limit is negative", `{"type":"58","limit":-1}`, CodeBadField, "limit"},
		{"users are one", `{"type":"84","action":"add","groupId":"g","users":"a"}`, CodeBadField, "users"},
		{"users are numbers", `{"type":"84","action":"add","groupId":"g","users":["a",1]}`, CodeBadField, "users"},
		{"one of the users is empty", `{"type":"84","action":"add","groupId":"g","users":["a",""]}`, CodeBadField, "users"},
		{"unknown action", `{"type":"84","action":"explode","groupId":"g"}`, CodeBadField, "action"},
		{"ack without msgId", `{"type":"90"}`, CodeBadField, "msgId"},
		{"a query without users", `{"type":"50"}`, CodeBadField, "users"},
		{"a query of a control character", `{"type":"50","users":["a","\u0000"]}`, CodeBadField, "users"},
		{"a subscription without action", `{"type":"52","users":["a"]}`, CodeBadField, "action"},
		{"a subscription with a group's action", `{"type":"52","action":"add","users":["a"]}`, CodeBadField, "subscribe"},
		{"a group with a subscription's action", `{"type":"84","action":"replace","groupId":"g"}`, CodeBadField, "create"},
		{"no status to set", `{"type":"56","statusText":"x"}`, CodeBadField, "status"},
		{"an unknown status", `{"type":"56","status":"asleep"}`, CodeBadField, "invisible"},
		{"a login with an unknown status", `{"type":"10","token":"t","status":"offline"}`, CodeBadField, "status"},
		{"a long text", `{"type":"56","status":"away","statusText":"` + strings.Repeat("é", 65) + `"}`, CodeBadField, "statusText"},
		{"a text with a line break", `{"type":"56","status":"away","statusText":"a\nb"}`, CodeBadField, "statusText"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := DecodeJSON([]byte(tc.data))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got error %v", err)
			}
			if e.Code != tc.code || !strings.Contains(e.Message, tc.word) || len(e.Message) > 200 {
				t.Errorf("got %v, want code %d and the word %q", e, tc.code, tc.word)
			}
		})
	}
}

// TestBadFrameKeepsItsIDs: the answer to a bad chat names the chat.
func TestBadFrameKeepsItsIDs(t *testing.T) {
	fr, err := DecodeJSON([]byte(`{"type":"80","toId":5,"clientMsgId":"c1"}`))
	if err == nil || fr.Type != TypeChat || fr.ClientMsgID != "c1" {
		t.Errorf("got %+v, %v", fr, err)
	}
}

// TestTableIsWhole: each type has a name and a direction, names are unique, and required fields are fields.
func TestTableIsWhole(t *testing.T) {
	names := map[string]Type{}
	for n, l := range frames {
		typ := Type(n)
		if !typ.Known() {
			continue
		}
		if other, ok := names[l.name]; ok || l.name == "" {
			t.Errorf("types %d and %d are both called %q", typ, other, l.name)
		}
		names[l.name] = typ
		for f := range numFields {
			if l.required.has(f) && setOf(l.fields...)&setOf(f) == 0 {
				t.Errorf("type %s requires %s, which it does not have", typ, f)
			}
		}
	}
	for f := range numFields {
		if f.String() == "" {
			t.Errorf("field %d has no name", f)
		}
	}
}
