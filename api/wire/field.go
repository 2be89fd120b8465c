package wire

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// field is one field of a Frame.
type field uint8

const (
	fCode field = iota
	fMessage
	fToken
	fFromID
	fToID
	fUserID
	fDeviceID
	fPlatform
	fSessionID
	fMsgID
	fClientMsgID
	fContent
	fTime
	fHeartbeatSeconds
	fDelayMS
	fRequestID
	fGroupID
	fAction
	fOwner
	fCursor
	fUsers
	fLimit
	fCount
	fGateways
	fReached
	fMissed
	fRedelivered
	fExpiresAt
	fPresence
	fAsOf
	fDegraded
	fStatus
	fStatusText
	numFields
	fType = numFields // of the frame; it has a place beside the fields where they are looked up
)

// kind says what values a field has.
type kind uint8

const (
	kindText kind = iota
	kindNumber
	kindBool
	kindCode
	kindList    // of texts
	kindContent // opaque JSON
	kindPresence
)

// fieldInfo is what the table says of one field.
type fieldInfo struct {
	name   string
	number protowire.Number // in protobuf; fixed for ever
	kind   kind
	id     int // not zero: clients must send an id of at most so many bytes
}

// numberOfType is the field number of the frame's type in protobuf.
const numberOfType protowire.Number = 1

// fieldTable is the one table of fields. The numbers below 16, which take one byte, are those of messages and their
// answers.
var fieldTable = [numFields]fieldInfo{
	fCode:             {name: "code", number: 2, kind: kindCode},
	fFromID:           {name: "fromId", number: 3},
	fToID:             {name: "toId", number: 4, id: MaxUserID},
	fGroupID:          {name: "groupId", number: 5, id: MaxGroupID},
	fMsgID:            {name: "msgId", number: 6, id: MaxMsgID},
	fClientMsgID:      {name: "clientMsgId", number: 7, id: MaxClientMsgID},
	fTime:             {name: "time", number: 8, kind: kindNumber},
	fContent:          {name: "content", number: 9, kind: kindContent},
	fRedelivered:      {name: "redelivered", number: 10, kind: kindBool},
	fMissed:           {name: "missed", number: 11, kind: kindNumber},
	fDelayMS:          {name: "delayMs", number: 12, kind: kindNumber},
	fMessage:          {name: "message", number: 13},
	fUsers:            {name: "users", number: 14, kind: kindList, id: MaxUserID},
	fRequestID:        {name: "requestId", number: 15, id: MaxRequestID},
	fToken:            {name: "token", number: 16},
	fUserID:           {name: "userId", number: 17},
	fDeviceID:         {name: "deviceId", number: 18, id: MaxDeviceID},
	fPlatform:         {name: "platform", number: 19},
	fSessionID:        {name: "sessionId", number: 20},
	fHeartbeatSeconds: {name: "heartbeatSeconds", number: 21, kind: kindNumber},
	fAction:           {name: "action", number: 22},
	fOwner:            {name: "owner", number: 23},
	fCursor:           {name: "cursor", number: 24, id: MaxCursor},
	fLimit:            {name: "limit", number: 25, kind: kindNumber},
	fCount:            {name: "count", number: 26, kind: kindNumber},
	fGateways:         {name: "gateways", number: 27, kind: kindNumber},
	fReached:          {name: "reached", number: 28, kind: kindNumber},
	fExpiresAt:        {name: "expiresAt", number: 29, kind: kindNumber},
	fPresence:         {name: "presence", number: 30, kind: kindPresence},
	fAsOf:             {name: "asOf", number: 31, kind: kindNumber},
	fDegraded:         {name: "degraded", number: 32, kind: kindBool},
	fStatus:           {name: "status", number: 33},
	fStatusText:       {name: "statusText", number: 34, id: MaxStatusText},
}

func (f field) String() string { return fieldTable[f].name }

// fieldSet is a set of fields.
type fieldSet uint64

func setOf(fields ...field) (s fieldSet) {
	for _, f := range fields {
		s |= 1 << f
	}
	return s
}

func (s fieldSet) has(f field) bool { return s&(1<<f) != 0 }

// maxNumber is the largest integer that every client can represent: JavaScript's numbers have 53 bits.
const maxNumber = 1 << 53

// checkNumber refuses integers that not every client can represent.
func checkNumber(f field, n int64) error {
	if n > maxNumber || n < -maxNumber {
		return Errorf(CodeBadField, "field %q must be between -2^53 and 2^53", f)
	}
	return nil
}

// check refuses what a client must not send, whichever codec read it, and removes ids that an answer must not repeat. set
// are the fields that the frame has.
func (fr *Frame) check(l *layout, set fieldSet) (first error) {
	for _, f := range l.fields {
		var err error
		if set.has(f) {
			err = fr.checkField(f)
		} else if l.required.has(f) {
			err = Errorf(CodeBadField, "field %q is missing", f)
		}
		if err == nil {
			continue
		}
		if first == nil {
			first = err
		}
		if fieldTable[f].kind == kindText {
			*fr.text(f) = ""
		}
	}
	return first
}

func (fr *Frame) checkField(f field) error {
	switch f {
	case fPlatform:
		return CheckPlatform(fr.Platform)
	case fAction:
		if actions := frames[fr.Type].actions; !slices.Contains(actions, fr.Action) {
			return Errorf(CodeBadField, "field %q must be one of %q", fAction, actions)
		}
	case fStatus:
		return CheckStatus(fr.Status)
	case fLimit:
		if fr.Limit < 0 {
			return Errorf(CodeBadField, "field %q must not be negative", fLimit)
		}
	case fUsers:
		for _, user := range fr.Users {
			if err := checkID("each of users", user, fieldTable[f].id); err != nil {
				return err
			}
		}
	default:
		if limit := fieldTable[f].id; limit > 0 {
			return checkID(f.String(), *fr.text(f), limit)
		}
	}
	return nil
}

// text returns where the frame keeps text field f, nil if f is not text.
func (fr *Frame) text(f field) *string {
	switch f {
	case fMessage:
		return &fr.Message
	case fToken:
		return &fr.Token
	case fFromID:
		return &fr.FromID
	case fToID:
		return &fr.ToID
	case fUserID:
		return &fr.UserID
	case fDeviceID:
		return &fr.DeviceID
	case fPlatform:
		return &fr.Platform
	case fSessionID:
		return &fr.SessionID
	case fMsgID:
		return &fr.MsgID
	case fClientMsgID:
		return &fr.ClientMsgID
	case fRequestID:
		return &fr.RequestID
	case fGroupID:
		return &fr.GroupID
	case fAction:
		return &fr.Action
	case fOwner:
		return &fr.Owner
	case fCursor:
		return &fr.Cursor
	case fStatus:
		return &fr.Status
	case fStatusText:
		return &fr.StatusText
	}
	return nil
}

// flag returns where the frame keeps boolean field f.
func (fr *Frame) flag(f field) *bool {
	if f == fDegraded {
		return &fr.Degraded
	}
	return &fr.Redelivered
}

// integer returns where the frame keeps integer field f, nil if f is not one. Code has a type of its own.
func (fr *Frame) integer(f field) *int64 {
	switch f {
	case fTime:
		return &fr.Time
	case fHeartbeatSeconds:
		return &fr.HeartbeatSeconds
	case fExpiresAt:
		return &fr.ExpiresAt
	case fDelayMS:
		return &fr.DelayMS
	case fLimit:
		return &fr.Limit
	case fCount:
		return &fr.Count
	case fGateways:
		return &fr.Gateways
	case fReached:
		return &fr.Reached
	case fMissed:
		return &fr.Missed
	case fAsOf:
		return &fr.AsOf
	}
	return nil
}
