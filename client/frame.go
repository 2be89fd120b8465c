package client

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

// frame is a frame that the server sent; package wire reads those of clients only.
type frame struct {
	Type             frameType       `json:"type"`
	Code             wire.Code       `json:"code"`
	Message          string          `json:"message"`
	UserID           string          `json:"userId"`
	DeviceID         string          `json:"deviceId"`
	SessionID        string          `json:"sessionId"`
	MsgID            string          `json:"msgId"`
	ClientMsgID      string          `json:"clientMsgId"`
	FromID           string          `json:"fromId"`
	ToID             string          `json:"toId"`
	Content          json.RawMessage `json:"content"`
	Time             int64           `json:"time"`
	HeartbeatSeconds int64           `json:"heartbeatSeconds"`
	DelayMS          int64           `json:"delayMs"`
}

func (f *frame) delay() time.Duration { return time.Duration(f.DelayMS) * time.Millisecond }

func (f *frame) err() *Error { return &Error{Code: f.Code, Message: f.Message, Delay: f.delay()} }

// frameType is a wire.Type that is read from a JSON string or number.
type frameType struct{ wire.Type }

// UnmarshalJSON implements [json.Unmarshaler].
func (t *frameType) UnmarshalJSON(data []byte) error {
	n, err := strconv.ParseUint(strings.Trim(string(data), `"`), 10, 8)
	t.Type = wire.Type(n)
	return err
}
