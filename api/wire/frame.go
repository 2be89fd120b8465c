package wire

import (
	"fmt"
	"strconv"
)

// Type says what a frame is. It is accepted as a JSON string or number and always sent as a string.
type Type uint8

// Frame types. C→S is sent by clients, S→C by gateways. The comments of this list, of [Frame] and of the codes are those of
// the published schemas.
const (
	TypeUnknown          Type = 0  // S→C: answers a frame that could not be understood, or whose type has no answer of its own
	TypeLogin            Type = 10 // C→S: must be the first frame, unless the handshake carried a token; later ones renew the token
	TypeLoginResp        Type = 11 // S→C: the answer to a login
	TypeLogout           Type = 12 // C→S: the device goes offline at once; the gateway closes with 1000
	TypeHeartbeatTimeout Type = 30 // S→C: nothing was received for the idle timeout; the connection closes
	TypeReconnect        Type = 31 // S→C: connect again after delayMs; this gateway is going away
	TypeKicked           Type = 32 // S→C: the device logged in elsewhere; do not reconnect
	TypePing             Type = 40 // C→S: the client is alive
	TypePong             Type = 41 // S→C: the answer to a ping
	TypePresenceQuery    Type = 50 // C→S: asks how users are, once; if the gateway allows it
	TypePresenceResp     Type = 51 // S→C: the answer to it
	TypeSubscribe        Type = 52 // C→S: which users the client wants to be told of; if the gateway allows it
	TypeSubscribeResp    Type = 53 // S→C: the answer to it: how those are who are new among them
	TypePresenceEvent    Type = 54 // S→C: how subscribed users are now who have changed
	TypeSetStatus        Type = 56 // C→S: what others are to see of the user who logged in
	TypeSetStatusResp    Type = 57 // S→C: the answer to it
	TypeOnlineList       Type = 58 // C→S: who is online; if the gateway allows it
	TypeOnlineListResp   Type = 59 // S→C: a page of users
	TypeChat             Type = 80 // both directions: a message to a user
	TypeChatResp         Type = 81 // S→C: the answer to the sender's chat; with code 200 it is stored
	TypeGroupChat        Type = 82 // both directions: a message to every member of a group
	TypeGroupChatResp    Type = 83 // S→C: the answer to the sender's group chat; with code 200 it is stored
	TypeGroup            Type = 84 // C→S: manage a group; action says what
	TypeGroupResp        Type = 85 // S→C: the answer to it
	TypeBroadcast        Type = 86 // both directions: a message to everybody online, not stored; if the gateway allows it
	TypeBroadcastResp    Type = 87 // S→C: the answer to the sender's broadcast
	TypeAck              Type = 90 // C→S: this device has the message, and need not be sent it again
	TypeAckResp          Type = 91 // S→C: the answer to an acknowledgement
)

// Frame is any frame. Only the fields that its type has, by the table below, are encoded and decoded; the others stay
// zero.
type Frame struct {
	Type             Type       // what the frame is
	Code             Code       // the result; the hundreds say what to do about it
	Message          string     // for people; programs look at the code
	Token            string     // proves who the client is
	FromID           string     // the user who sends; of a client's frame, if present, the one who logged in
	ToID             string     // the user to whom a chat goes
	UserID           string     // who is logged in
	DeviceID         string     // one of the user's devices; "default" if the client names none
	Platform         string     // what the device is: up to 16 characters of a-z, 0-9 and "-"
	SessionID        string     // stands for this login, for people who read logs
	MsgID            string     // stands for a message, the same whenever it is sent again
	ClientMsgID      string     // chosen by the sender of a message: the answer repeats it, and a message sent again with it is the same message
	RequestID        string     // chosen by the client for a request that is no message; the answer repeats it
	GroupID          string     // stands for a group; chosen by who creates it
	Action           string     // what to do with the group: create, add, remove, members or delete; with subscriptions: subscribe, unsubscribe or replace
	Owner            string     // owns the group
	Cursor           string     // where a page begins; in an answer, where the next one does, absent at the end
	Users            []string   // user ids
	Content          []byte     // opaque JSON, passed on byte for byte
	Time             int64      // by the server's clock, Unix milliseconds
	HeartbeatSeconds int64      // how often the client should ping
	ExpiresAt        int64      // when the token ends, Unix milliseconds; absent if it does not
	DelayMS          int64      // how many milliseconds the client should wait before it connects or tries again
	Limit            int64      // how many entries a page may have
	Count            int64      // how many there are in all
	Gateways         int64      // how many gateways there are to hand a broadcast to
	Reached          int64      // how many of them took it
	Missed           int64      // how many messages before this one were dropped: older than the retention, or over the cap
	Redelivered      bool       // sent on this connection before, and not acknowledged
	Degraded         bool       // not everything could be found out: what is said may be incomplete, or not the newest
	Status           string     // what others see of a user who is online: online, away, busy or invisible
	StatusText       string     // a short text of the user beside the status
	AsOf             int64      // what the answer says was true at this time at least, by the server's clock, Unix milliseconds
	Presence         []Presence // how users are
}

// Actions of a GROUP frame.
const (
	GroupCreate  = "create"  // with Users as the first members; the sender becomes the owner
	GroupAdd     = "add"     // Users become members; owner only
	GroupRemove  = "remove"  // Users are members no more; owner only, and everybody themselves
	GroupMembers = "members" // a page of the members; members only
	GroupDelete  = "delete"  // owner only
)

// Actions of a PRESENCE_SUBSCRIBE frame.
const (
	Subscribe   = "subscribe"   // to Users as well
	Unsubscribe = "unsubscribe" // from Users
	Replace     = "replace"     // all subscriptions by those to Users; to none without
)

var subscriptionActions = []string{Subscribe, Unsubscribe, Replace}

// LogoutForget is the action of LOGOUT by which the device is not known any more: nothing waits for it.
const LogoutForget = "forget"

var groupActions = []string{GroupCreate, GroupAdd, GroupRemove, GroupMembers, GroupDelete}

// direction is a set of senders.
type direction uint8

const (
	fromClient direction = 1 << iota
	fromServer
)

// layout is what the table says of one frame type.
type layout struct {
	name       string
	dir        direction
	fields     []field
	answer     Type     // of a frame that a client sends; UNKNOWN, which all refusals may be, if it has none of its own
	required   fieldSet // of a frame that a client sends
	serverOnly fieldSet // of a type that both send: ignored when a client sends them
	actions    []string // that a client may ask for
}

// ofMessage are the fields that a message gets from the server.
var ofMessage = setOf(fMsgID, fTime, fRedelivered, fMissed)

// frames is the one table of frames, by type. JSON has the fields in the order given here. Those with a zero value are
// left out, except code in JSON.
var frames = [256]layout{
	TypeUnknown:          {name: "UNKNOWN", dir: fromServer, fields: []field{fCode, fMessage, fDelayMS}},
	TypeLogin:            {name: "USER_LOGIN", dir: fromClient, answer: TypeLoginResp, fields: []field{fToken, fDeviceID, fPlatform, fStatus, fStatusText, fFromID}, required: setOf(fToken)},
	TypeLoginResp:        {name: "USER_LOGIN_RESP", dir: fromServer, fields: []field{fCode, fMessage, fUserID, fDeviceID, fSessionID, fHeartbeatSeconds, fExpiresAt, fTime, fStatus, fStatusText, fDelayMS}},
	TypeLogout:           {name: "LOGOUT", dir: fromClient, fields: []field{fAction, fFromID}, actions: []string{LogoutForget}},
	TypeHeartbeatTimeout: {name: "HEARTBEAT_TIMEOUT", dir: fromServer, fields: []field{fCode, fMessage}},
	TypeReconnect:        {name: "RECONNECT", dir: fromServer, fields: []field{fCode, fMessage, fDelayMS}},
	TypeKicked:           {name: "KICKED", dir: fromServer, fields: []field{fCode, fMessage}},
	TypePing:             {name: "PING", dir: fromClient, fields: []field{fFromID}},
	TypePong:             {name: "PONG", dir: fromServer},
	TypePresenceQuery: {name: "PRESENCE_QUERY", dir: fromClient, answer: TypePresenceResp, required: setOf(fUsers),
		fields: []field{fUsers, fRequestID, fFromID}},
	TypePresenceResp: {name: "PRESENCE_QUERY_RESP", dir: fromServer, fields: []field{fCode, fMessage, fPresence, fAsOf, fDegraded, fRequestID, fDelayMS}},
	TypeSubscribe: {name: "PRESENCE_SUBSCRIBE", dir: fromClient, answer: TypeSubscribeResp, required: setOf(fAction), actions: subscriptionActions,
		fields: []field{fAction, fUsers, fRequestID, fFromID}},
	TypeSubscribeResp: {name: "PRESENCE_SUBSCRIBE_RESP", dir: fromServer,
		fields: []field{fCode, fMessage, fPresence, fCount, fAsOf, fDegraded, fRequestID, fDelayMS}},
	TypePresenceEvent: {name: "PRESENCE_EVENT", dir: fromServer, fields: []field{fPresence, fAsOf}},
	TypeSetStatus: {name: "SET_STATUS", dir: fromClient, answer: TypeSetStatusResp, required: setOf(fStatus),
		fields: []field{fStatus, fStatusText, fRequestID, fFromID}},
	TypeSetStatusResp:  {name: "SET_STATUS_RESP", dir: fromServer, fields: []field{fCode, fMessage, fStatus, fStatusText, fRequestID, fDelayMS}},
	TypeOnlineList:     {name: "ONLINE_LIST", dir: fromClient, answer: TypeOnlineListResp, fields: []field{fCursor, fLimit, fRequestID, fFromID}},
	TypeOnlineListResp: {name: "ONLINE_LIST_RESP", dir: fromServer, fields: []field{fCode, fMessage, fUsers, fCount, fCursor, fRequestID, fDelayMS}},
	TypeChat: {name: "CHAT", dir: fromClient | fromServer, answer: TypeChatResp, required: setOf(fToID, fContent), serverOnly: ofMessage,
		fields: []field{fMsgID, fFromID, fToID, fClientMsgID, fTime, fRedelivered, fMissed, fContent}},
	TypeChatResp: {name: "CHAT_RESP", dir: fromServer, fields: []field{fCode, fMessage, fMsgID, fClientMsgID, fTime, fDelayMS}},
	TypeGroupChat: {name: "GROUP_CHAT", dir: fromClient | fromServer, answer: TypeGroupChatResp, required: setOf(fGroupID, fContent), serverOnly: ofMessage,
		fields: []field{fMsgID, fFromID, fGroupID, fClientMsgID, fTime, fRedelivered, fMissed, fContent}},
	TypeGroupChatResp: {name: "GROUP_CHAT_RESP", dir: fromServer, fields: []field{fCode, fMessage, fMsgID, fClientMsgID, fTime, fDelayMS}},
	TypeGroup: {name: "GROUP", dir: fromClient, answer: TypeGroupResp, required: setOf(fAction, fGroupID), actions: groupActions,
		fields: []field{fAction, fGroupID, fUsers, fCursor, fLimit, fRequestID, fFromID}},
	TypeGroupResp: {name: "GROUP_RESP", dir: fromServer, fields: []field{fCode, fMessage, fGroupID, fOwner, fUsers, fCount, fCursor, fRequestID, fDelayMS}},
	TypeBroadcast: {name: "BROADCAST", dir: fromClient | fromServer, answer: TypeBroadcastResp, required: setOf(fContent), serverOnly: setOf(fMsgID, fTime),
		fields: []field{fMsgID, fFromID, fClientMsgID, fTime, fContent}},
	TypeBroadcastResp: {name: "BROADCAST_RESP", dir: fromServer, fields: []field{fCode, fMessage, fMsgID, fClientMsgID, fTime, fGateways, fReached, fDelayMS}},
	TypeAck:           {name: "ACK", dir: fromClient, answer: TypeAckResp, fields: []field{fMsgID, fFromID}, required: setOf(fMsgID)},
	TypeAckResp:       {name: "ACK_RESP", dir: fromServer, fields: []field{fCode, fMessage, fMsgID, fDelayMS}},
}

// String returns the name of the type, or its number when it has none.
func (t Type) String() string {
	if name := frames[t].name; name != "" {
		return name
	}
	return strconv.Itoa(int(t))
}

// ClientMaySend tells whether t is a known type that clients send.
func (t Type) ClientMaySend() bool { return frames[t].dir&fromClient != 0 }

// Answer is the type of the answer to a frame of type t that is refused: UNKNOWN, unless t has an answer of its own, which
// then repeats its clientMsgId, msgId, groupId or requestId.
func (t Type) Answer() Type { return frames[t].answer }

// Known tells whether t is in the table.
func (t Type) Known() bool { return frames[t].dir != 0 }

// Error is a frame that was refused: the code to answer with and what the client should do about it.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("code %d: %s", e.Code, e.Message) }

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
