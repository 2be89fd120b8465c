package client

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Names of the hooks.
const (
	ClientOnline  = "_clientOnline"
	ClientOffline = "_clientOffline"
)

// HookEvent is what a receiver of hooks is told about one user.
type HookEvent struct {
	// Hook is ClientOnline or ClientOffline.
	Hook string `json:"hook"`
	// PeerID is the user.
	PeerID string `json:"peerId"`
	// Timestamp is when the user was in that state, in unix milliseconds.
	Timestamp int64 `json:"timestamp"`
	// Seq orders the events of one user: ignore one with a smaller Seq than was seen. A user may be told of twice.
	Seq int64 `json:"seq"`
	// SourceIP is where the user came from last, and Reason, of ClientOffline, why the last session ended; both may be empty.
	SourceIP string `json:"sourceIP"`
	Reason   string `json:"reason"`
}

// ErrNotSigned says that a request is not from the platform, or is not for this receiver, or is old. Answer 401.
var ErrNotSigned = errors.New("the request is not signed by a key that is known, or is old")

const (
	hookSignature = "X-IMCluster-Signature"
	// hookAge is how far the time of a signature may be off.
	hookAge = 5 * time.Minute
	// maxHookBytes is more than any request has.
	maxHookBytes = 1 << 20
)

// ReadHooks reads a request of the hooks and checks that it was signed with one of the keys within the last five minutes.
// Answer 2xx when the events have been taken: until then they are sent again. The error is ErrNotSigned, or that of reading.
func ReadHooks(r *http.Request, keys ...[]byte) ([]HookEvent, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxHookBytes))
	if err != nil {
		return nil, fmt.Errorf("read hooks: %w", err)
	}
	if !signed(r.Header.Get(hookSignature), body, keys) {
		return nil, ErrNotSigned
	}
	var batch struct {
		Events []HookEvent `json:"events"`
	}
	if err := json.Unmarshal(body, &batch); err != nil {
		return nil, fmt.Errorf("read hooks: %w", err)
	}
	return batch.Events, nil
}

// signed tells whether a header "t=<unix s>,v1=<hex>[,v1=<hex>]" is of the body, under one of the keys, and recent.
func signed(header string, body []byte, keys [][]byte) bool {
	var stamp string
	var given [][]byte
	for part := range strings.SplitSeq(header, ",") {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "t":
			stamp = value
		case "v1":
			if sum, err := hex.DecodeString(value); err == nil {
				given = append(given, sum)
			}
		}
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > hookAge {
		return false
	}
	fits := false
	for _, key := range keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(stamp + "."))
		mac.Write(body)
		want := mac.Sum(nil)
		for _, sum := range given {
			fits = hmac.Equal(want, sum) || fits
		}
	}
	return fits
}
