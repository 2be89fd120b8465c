package gateway

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/imcluster/imcluster/api/wire"
	wirev1 "github.com/imcluster/imcluster/api/wire/v1"
)

// protoClient is a client that speaks protobuf by generated code.
type protoClient struct {
	testing.TB
	ws *websocket.Conn
}

func subprotocols(names ...string) http.Header { return http.Header{"Sec-Websocket-Protocol": names} }

func dialProtobuf(t testing.TB, g *Gateway, query string) *protoClient {
	t.Helper()
	c := dial(t, g, query, subprotocols(wire.SubprotocolProtobuf))
	if got := c.ws.Subprotocol(); got != wire.SubprotocolProtobuf {
		t.Fatalf("agreed on sub-protocol %q", got)
	}
	return &protoClient{t, c.ws}
}

func (c *protoClient) send(fr *wirev1.Frame) {
	c.Helper()
	data, err := proto.Marshal(fr)
	if err == nil {
		err = c.ws.WriteMessage(websocket.BinaryMessage, data)
	}
	if err != nil {
		c.Fatalf("send: %v", err)
	}
}

func (c *protoClient) read() *wirev1.Frame {
	c.Helper()
	_ = c.ws.SetReadDeadline(time.Now().Add(testTimeout))
	kind, data, err := c.ws.ReadMessage()
	if err != nil || kind != websocket.BinaryMessage {
		c.Fatalf("read a message of kind %d, error %v", kind, err)
	}
	var fr wirev1.Frame
	if err := proto.Unmarshal(data, &fr); err != nil {
		c.Fatalf("read %x: %v", data, err)
	}
	return &fr
}

// expect reads a frame, and compares it but for times, the session's id and text for people.
func (c *protoClient) expect(want *wirev1.Frame) *wirev1.Frame {
	c.Helper()
	got := c.read()
	ignored := protocmp.IgnoreFields(&wirev1.Frame{}, "time", "session_id", "message", "expires_at")
	if diff := cmp.Diff(want, got, protocmp.Transform(), ignored); diff != "" {
		c.Fatalf("-want +got\n%s", diff)
	}
	return got
}

func loginProtobuf(t testing.TB, g *Gateway, user string) *protoClient {
	t.Helper()
	c := dialProtobuf(t, g, "")
	c.send(&wirev1.Frame{Type: wirev1.Type_TYPE_USER_LOGIN, Token: user, DeviceId: "phone"})
	c.expect(&wirev1.Frame{Type: wirev1.Type_TYPE_USER_LOGIN_RESP, Code: wirev1.Code_CODE_OK, UserId: user, DeviceId: "phone", HeartbeatSeconds: 10})
	return c
}

// TestProtobufAndJSONClientsTalk to each other, and to themselves.
func TestProtobufAndJSONClientsTalk(t *testing.T) {
	g := startGateway(t, newWorld())
	const content = `{ "contentType":1,"body":"测试消息" }`
	j, p := login(t, g, "j", "phone"), loginProtobuf(t, g, "p")
	jj, pp := login(t, g, "jj", "phone"), loginProtobuf(t, g, "pp")
	id := func(from, to string) string { return wire.MessageID(from, to, "1") }

	for _, to := range []string{"p", "jj"} {
		j.send(`{"type":"80","toId":%q,"clientMsgId":"1","content":%s}`, to, content)
		j.expect(frame{"type": "81", "code": 200, "msgId": id("j", to), "clientMsgId": "1"})
	}
	jj.expect(frame{"type": "80", "msgId": id("j", "jj"), "fromId": "j"})
	p.expect(&wirev1.Frame{Type: wirev1.Type_TYPE_CHAT, MsgId: id("j", "p"), FromId: "j", ToId: "p", Content: []byte(content)})

	for _, to := range []string{"j", "pp"} {
		p.send(&wirev1.Frame{Type: wirev1.Type_TYPE_CHAT, ToId: to, ClientMsgId: "1", Content: []byte(content)})
		p.expect(&wirev1.Frame{Type: wirev1.Type_TYPE_CHAT_RESP, Code: wirev1.Code_CODE_OK, MsgId: id("p", to), ClientMsgId: "1"})
	}
	pp.expect(&wirev1.Frame{Type: wirev1.Type_TYPE_CHAT, MsgId: id("p", "pp"), FromId: "p", ToId: "pp", Content: []byte(content)})
	got := j.expect(frame{"type": "80", "msgId": id("p", "j"), "fromId": "p"})
	if diff := cmp.Diff(any(map[string]any{"contentType": 1.0, "body": "测试消息"}), got["content"]); diff != "" {
		t.Error(diff)
	}
	p.send(&wirev1.Frame{Type: wirev1.Type_TYPE_ACK, MsgId: id("j", "p")})
	p.expect(&wirev1.Frame{Type: wirev1.Type_TYPE_ACK_RESP, Code: wirev1.Code_CODE_OK, MsgId: id("j", "p")})
}

// TestContentOfProtobufClientsIsJSON, or clients that speak JSON would get broken frames.
func TestContentOfProtobufClientsIsJSON(t *testing.T) {
	g := startGateway(t, newWorld())
	j, p := login(t, g, "j", "phone"), loginProtobuf(t, g, "p")
	for _, content := range []string{"hello", "", `"`, `1,"type":"81"`, "\xff", `"` + "\xff" + `"`} {
		p.send(&wirev1.Frame{Type: wirev1.Type_TYPE_CHAT, ToId: "j", ClientMsgId: "1", Content: []byte(content)})
		p.expect(&wirev1.Frame{Type: wirev1.Type_TYPE_CHAT_RESP, Code: wirev1.Code_CODE_BAD_FIELD, ClientMsgId: "1"})
	}
	j.expectSilence()
}

// TestMessagesOfTheOtherKindAreRefused: text where protobuf was agreed on, binary ones where JSON was.
func TestMessagesOfTheOtherKindAreRefused(t *testing.T) {
	g := startGateway(t, newWorld())
	p := loginProtobuf(t, g, "p")
	if err := p.ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"40"}`)); err != nil {
		t.Fatal(err)
	}
	p.expect(&wirev1.Frame{Type: wirev1.Type_TYPE_UNKNOWN, Code: wirev1.Code_CODE_BAD_MESSAGE})
	p.send(&wirev1.Frame{Type: wirev1.Type_TYPE_PING})
	p.expect(&wirev1.Frame{Type: wirev1.Type_TYPE_PONG})

	j := login(t, g, "j", "phone")
	data, err := proto.Marshal(&wirev1.Frame{Type: wirev1.Type_TYPE_PING})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.ws.WriteMessage(websocket.BinaryMessage, data); err != nil {
		t.Fatal(err)
	}
	j.expect(frame{"type": "0", "code": 406})
	j.expectSilence()
}

// TestNegotiation: the client's order counts, and who asks for nothing that is known gets JSON.
func TestNegotiation(t *testing.T) {
	g := startGateway(t, newWorld())
	for _, tc := range []struct {
		name   string
		header http.Header
		want   string
		binary bool
	}{
		{"none", nil, "", false},
		{"JSON", subprotocols("imcluster.v1.json"), "imcluster.v1.json", false},
		{"protobuf", subprotocols("imcluster.v1.protobuf"), "imcluster.v1.protobuf", true},
		{"JSON before protobuf", subprotocols("imcluster.v1.json, imcluster.v1.protobuf"), "imcluster.v1.json", false},
		{"protobuf before JSON", subprotocols("x, imcluster.v1.protobuf", "imcluster.v1.json"), "imcluster.v1.protobuf", true},
		{"unknown", subprotocols("imcluster.v9.cbor"), "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := dial(t, g, "?token=a&deviceId=d", tc.header)
			if got := c.ws.Subprotocol(); got != tc.want {
				t.Errorf("agreed on %q, want %q", got, tc.want)
			}
			if tc.binary {
				(&protoClient{t, c.ws}).expect(&wirev1.Frame{Type: wirev1.Type_TYPE_USER_LOGIN_RESP, Code: wirev1.Code_CODE_OK,
					UserId: "a", DeviceId: "d", HeartbeatSeconds: 10})
				return
			}
			c.expect(frame{"type": "11", "code": 200, "userId": "a", "deviceId": "d"})
		})
	}
}
