package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Limits of ids, in bytes.
const (
	MaxUserID      = 128
	MaxDeviceID    = 64
	MaxPlatform    = 16
	MaxClientMsgID = 128
	MaxMsgID       = 128
	MaxRequestID   = 128
	MaxGroupID     = 128
	MaxCursor      = 512
	MaxStatusText  = 128
)

// DefaultDevice is the device of a login that names none. One stable device per user, so that two such logins replace
// each other.
const DefaultDevice = "default"

// CheckUserID refuses what cannot be a user id: anything but 1–128 bytes of UTF-8 without control characters.
func CheckUserID(id string) error { return checkID("user id", id, MaxUserID) }

// CheckDeviceID refuses what cannot be a device id: anything but 1–64 bytes of UTF-8 without control characters.
func CheckDeviceID(id string) error { return checkID("deviceId", id, MaxDeviceID) }

// CheckPlatform refuses what cannot be a platform: anything but up to 16 characters of a–z, 0–9 and '-'.
func CheckPlatform(p string) error {
	if len(p) > MaxPlatform {
		return Errorf(CodeBadField, "platform must have at most %d characters", MaxPlatform)
	}
	for _, c := range []byte(p) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return Errorf(CodeBadField, "platform must consist of a-z, 0-9 and '-'")
		}
	}
	return nil
}

// CheckClientMsgID refuses what cannot be a clientMsgId: anything above 128 bytes or with control characters. The
// empty one is allowed: it means that the client does not resend.
func CheckClientMsgID(id string) error {
	if id == "" {
		return nil
	}
	return checkID("clientMsgId", id, MaxClientMsgID)
}

// CheckGroupID refuses what cannot be a group id: anything but 1–128 bytes of UTF-8 without control characters.
func CheckGroupID(id string) error { return checkID("groupId", id, MaxGroupID) }

// CheckRequestID refuses what cannot be a requestId: anything above 128 bytes or with control characters. The empty one is
// allowed.
func CheckRequestID(id string) error {
	if id == "" {
		return nil
	}
	return checkID("requestId", id, MaxRequestID)
}

// CheckMsgID refuses what cannot be a msgId: anything but 1–128 bytes of UTF-8 without control characters.
func CheckMsgID(id string) error { return checkID("msgId", id, MaxMsgID) }

func checkID(what, id string, limit int) error {
	switch {
	case id == "":
		return Errorf(CodeBadField, "%s is empty", what)
	case len(id) > limit:
		return Errorf(CodeBadField, "%s must have at most %d bytes, not %d", what, limit, len(id))
	case isPrintableASCII(id):
		return nil
	case !utf8.ValidString(id):
		return Errorf(CodeBadField, "%s is not UTF-8", what)
	}
	for _, r := range id {
		if unicode.IsControl(r) {
			return Errorf(CodeBadField, "%s must not contain control characters", what)
		}
	}
	return nil
}

// isPrintableASCII is the quick check of nearly all ids.
func isPrintableASCII(id string) bool {
	for i := range len(id) {
		if id[i] < ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}

// MessageID returns the id of a message: derived from its sender, recipient and clientMsgId, so that a resend has the
// same id on every gateway without any memory (a version 8 UUID, RFC 9562 §5.8); random (version 4) without a
// clientMsgId.
func MessageID(from, to, clientMsgID string) string {
	if clientMsgID == "" {
		return uuid.NewString()
	}
	var space [512]byte // for ids of the usual lengths without an allocation
	b := space[:0]
	for _, s := range []string{from, to, clientMsgID} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	sum := sha256.Sum256(b)
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}
