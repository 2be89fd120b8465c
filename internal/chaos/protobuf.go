package chaos

import (
	"strconv"

	"github.com/imcluster/imcluster/api/wire"
)

// protobuf is the other encoding. Every third connection speaks it, so that what is sent in one arrives in the other.
func protobuf(f *frame) []byte {
	t, _ := strconv.ParseUint(f.Type, 10, 8) // one of the constants
	return wire.Protobuf.Append(nil, &wire.Frame{
		Type: wire.Type(t), Token: f.Token, FromID: f.FromID, ToID: f.ToID, DeviceID: f.DeviceID, MsgID: f.MsgID,
		ClientMsgID: f.ClientMsgID, GroupID: f.GroupID, RequestID: f.RequestID, Action: f.Action, Users: f.Users, Content: f.Content,
	})
}

func fromProtobuf(data []byte) (*frame, error) {
	w, err := wire.Protobuf.DecodeServer(data)
	return &frame{
		Type: strconv.Itoa(int(w.Type)), Code: int(w.Code), FromID: w.FromID, ToID: w.ToID, MsgID: w.MsgID,
		ClientMsgID: w.ClientMsgID, GroupID: w.GroupID, RequestID: w.RequestID, Missed: int(w.Missed), DelayMS: int(w.DelayMS),
		Redelivered: w.Redelivered, Content: w.Content,
	}, err
}
