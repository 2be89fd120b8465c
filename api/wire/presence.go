package wire

import (
	"encoding/json"
	"slices"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Presence is how one user is, as others may know. Fields without a value are left out.
type Presence struct {
	UserID    string   `json:"userId"`              // the user
	State     string   `json:"state"`               // online, offline or unknown
	Reason    string   `json:"reason,omitempty"`    // why the state is unknown: never_seen, or unavailable, which means that it cannot be found out now
	Status    string   `json:"status,omitempty"`    // of who is online: online, away or busy
	Text      string   `json:"text,omitempty"`      // of who is online: the text beside the status
	LastSeen  int64    `json:"lastSeen,omitempty"`  // of who is offline: when the last device went, Unix milliseconds
	Platforms []string `json:"platforms,omitempty"` // of who is online: what the devices call themselves, each once
}

// States of a user.
const (
	StateOnline  = "online"
	StateOffline = "offline"
	StateUnknown = "unknown"
)

// Reasons for an unknown state.
const (
	ReasonNeverSeen   = "never_seen"
	ReasonUnavailable = "unavailable"
)

// Statuses that a user may set. Who is invisible looks offline to everybody.
const (
	StatusOnline    = "online" // the default
	StatusAway      = "away"
	StatusBusy      = "busy"
	StatusInvisible = "invisible"
)

var statuses = []string{StatusOnline, StatusAway, StatusBusy, StatusInvisible}

// CheckStatus refuses what is no status.
func CheckStatus(status string) error {
	if !slices.Contains(statuses, status) {
		return Errorf(CodeBadField, "field %q must be one of %q", fStatus, statuses)
	}
	return nil
}

// presenceField is one field of a Presence, which are numbered from 1 in protobuf.
type presenceField uint8

const (
	pUserID presenceField = iota
	pState
	pReason
	pStatus
	pText
	pLastSeen
	pPlatforms
	numPresenceFields
)

var presenceTable = [numPresenceFields]fieldInfo{
	pUserID:    {name: "userId", number: 1},
	pState:     {name: "state", number: 2},
	pReason:    {name: "reason", number: 3},
	pStatus:    {name: "status", number: 4},
	pText:      {name: "text", number: 5},
	pLastSeen:  {name: "lastSeen", number: 6, kind: kindNumber},
	pPlatforms: {name: "platforms", number: 7, kind: kindList},
}

// text returns where text field f is kept, nil if f is not text.
func (p *Presence) text(f presenceField) *string {
	switch f {
	case pUserID:
		return &p.UserID
	case pState:
		return &p.State
	case pReason:
		return &p.Reason
	case pStatus:
		return &p.Status
	case pText:
		return &p.Text
	}
	return nil
}

// AppendPresence appends one element of the field presence, to be put into a frame with [Codec.AppendEvent]: whoever tells many
// clients of the same user encodes it once.
func (c Codec) AppendPresence(dst []byte, p *Presence) []byte {
	if c == JSON {
		return appendPresenceJSON(dst, p)
	}
	dst = protowire.AppendTag(dst, fieldTable[fPresence].number, protowire.BytesType)
	start := len(dst)
	dst = appendPresenceFields(append(dst, 0), p) // most have a length of one byte
	size := len(dst) - start - 1
	if size < 0x80 {
		dst[start] = byte(size)
		return dst
	}
	var length [10]byte
	return slices.Replace(dst, start, start+1, protowire.AppendVarint(length[:0], uint64(size))...)
}

func appendPresenceFields(dst []byte, p *Presence) []byte {
	for f, info := range presenceTable {
		switch info.kind {
		case kindNumber:
			dst = appendVarint(dst, info.number, uint64(p.LastSeen))
		case kindList:
			for _, platform := range p.Platforms {
				dst = protowire.AppendString(protowire.AppendTag(dst, info.number, protowire.BytesType), platform)
			}
		default:
			if text := *p.text(presenceField(f)); text != "" {
				dst = protowire.AppendString(protowire.AppendTag(dst, info.number, protowire.BytesType), text)
			}
		}
	}
	return dst
}

func appendPresenceJSON(dst []byte, p *Presence) []byte {
	dst = appendString(append(dst, `{"userId":`...), p.UserID)
	for f := pState; f < numPresenceFields; f++ {
		switch presenceTable[f].kind {
		case kindNumber:
			if p.LastSeen != 0 {
				dst = strconv.AppendInt(append(dst, presenceKeys[f]...), p.LastSeen, 10)
			}
		case kindList:
			if len(p.Platforms) > 0 {
				dst = appendList(append(dst, presenceKeys[f]...), p.Platforms)
			}
		default:
			if text := *p.text(f); text != "" {
				dst = appendString(append(dst, presenceKeys[f]...), text)
			}
		}
	}
	return append(dst, '}')
}

// presenceKeys is what stands before the value of each field but the first in JSON.
var presenceKeys = func() (keys [numPresenceFields]string) {
	for f, info := range presenceTable {
		keys[f] = `,"` + info.name + `":`
	}
	return keys
}()

func appendPresenceList(dst []byte, list []Presence) []byte {
	dst = append(dst, '[')
	for i := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendPresenceJSON(dst, &list[i])
	}
	return append(dst, ']')
}

// AppendEvent appends a PRESENCE_EVENT with elements, at least one, that [Codec.AppendPresence] of the same codec encoded.
func (c Codec) AppendEvent(dst []byte, asOf int64, elements ...[]byte) []byte {
	if c == Protobuf {
		dst = appendVarint(dst, numberOfType, uint64(TypePresenceEvent))
		for _, e := range elements {
			dst = append(dst, e...)
		}
		return appendVarint(dst, fieldTable[fAsOf].number, uint64(asOf))
	}
	dst = append(dst, `{"type":"54","presence":[`...)
	for i, e := range elements {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, e...)
	}
	dst = append(dst, ']')
	if asOf != 0 {
		dst = strconv.AppendInt(append(dst, jsonKeys[fAsOf]...), asOf, 10)
	}
	return append(dst, '}')
}

var errPresence = Errorf(CodeBadField, "field %q must be a list of users", fPresence)

// setPresence reads the list from JSON. Only clients do, so it need not be as fast as writing it.
func (fr *Frame) setPresence(v []byte) error {
	var list []Presence // not that of the frame, or every frame that is decoded would be on the heap: half a kilobyte
	if v[0] != '[' || json.Unmarshal(v, &list) != nil {
		return errPresence
	}
	fr.Presence = list
	return nil
}

// setPresenceProtobuf reads the list, wherever in the data its elements stand.
func (fr *Frame) setPresenceProtobuf(data []byte) error {
	return eachField(data, func(number protowire.Number, wireType protowire.Type, value []byte) error {
		if number != fieldTable[fPresence].number {
			return nil
		}
		var p Presence
		if wireType != protowire.BytesType || p.setProtobuf(value) != nil {
			return errPresence
		}
		fr.Presence = append(fr.Presence, p)
		return nil
	})
}

func (p *Presence) setProtobuf(data []byte) error {
	return eachField(data, func(number protowire.Number, wireType protowire.Type, value []byte) error {
		if number > protowire.Number(numPresenceFields) {
			return nil
		}
		f := presenceField(number - 1)
		if (wireType == protowire.VarintType) != (f == pLastSeen) || f != pLastSeen && (wireType != protowire.BytesType || !utf8.Valid(value)) {
			return errPresence
		}
		switch f {
		case pLastSeen:
			n, _ := protowire.ConsumeVarint(value)
			p.LastSeen = int64(n)
		case pPlatforms:
			p.Platforms = append(p.Platforms, string(value))
		default:
			*p.text(f) = string(value)
		}
		return nil
	})
}

// eachField calls do for the fields of a message, with the contents of those that have a length.
func eachField(data []byte, do func(protowire.Number, protowire.Type, []byte) error) error {
	for pos := 0; pos < len(data); {
		number, wireType, n := protowire.ConsumeTag(data[pos:])
		if n < 0 || !number.IsValid() || wireType == protowire.StartGroupType {
			return errProtobuf
		}
		pos += n
		if n = protowire.ConsumeFieldValue(number, wireType, data[pos:]); n < 0 {
			return errProtobuf
		}
		value := data[pos : pos+n]
		if wireType == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		if err := do(number, wireType, value); err != nil {
			return err
		}
		pos += n
	}
	return nil
}
