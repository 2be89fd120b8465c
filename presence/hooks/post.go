package hooks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// SignatureHeader carries "t=<unix seconds>,v1=<signature>", with a second v1 while the secret is being rotated. A signature is
// the HMAC-SHA256, in hex, of the seconds, a dot, and the body.
const SignatureHeader = "X-IMCluster-Signature"

// Event is what the receiver is told about one user.
type Event struct {
	// Hook is ClientOnline or ClientOffline.
	Hook string `json:"hook"`
	// PeerID is the user.
	PeerID string `json:"peerId"`
	// Timestamp is when the user was in that state, in unix milliseconds.
	Timestamp int64 `json:"timestamp"`
	// Seq orders the events of one user: what carries a smaller one than was seen is old.
	Seq int64 `json:"seq"`
	// SourceIP is where the user's last session came from, and Reason, of an offline event, why it ended; both may be unknown.
	SourceIP string `json:"sourceIP,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// Batch is the body of a request.
type Batch struct {
	Events []Event `json:"events"`
}

// Sign returns the value of SignatureHeader for a body that is sent at a time.
func Sign(body []byte, at time.Time, keys [][]byte) string {
	seconds := strconv.FormatInt(at.Unix(), 10)
	var b strings.Builder
	b.WriteString("t=" + seconds)
	for _, key := range keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(seconds + "."))
		mac.Write(body)
		b.WriteString(",v1=" + hex.EncodeToString(mac.Sum(nil)))
	}
	return b.String()
}

// refused is an answer of the receiver that is not success.
type refused struct {
	status int
	after  time.Duration // when to come again, if it said so
	body   string        // the beginning of it
}

func (r *refused) Error() string {
	if r.body == "" {
		return fmt.Sprintf("the receiver answered %d", r.status)
	}
	return fmt.Sprintf("the receiver answered %d: %s", r.status, r.body)
}

// plain says why a request failed, in the same words each time: without the URL, of which a part may be secret, and without the
// port that the connection was made from.
func plain(err error) string {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "the receiver did not answer in time"
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if e.IsNotFound {
			return "lookup " + e.Name + ": no such host"
		}
		return "lookup " + e.Name + ": the DNS server gave no answer"
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Source != nil {
		err = e.Err
	}
	return err.Error()
}

// maxAnswer is how much of an answer is read, so that the connection can be used again; maxQuoted is how much is logged.
const maxAnswer, maxQuoted = 64 << 10, 200

// post sends a batch. The receiver has taken it if there is no error, and perhaps if there is one.
func (d *Dispatcher) post(ctx context.Context, events []Event) error {
	body, err := json.Marshal(Batch{Events: events})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "IMCluster-Hooks/1")
	req.Header.Set(SignatureHeader, Sign(body, time.Now(), d.cfg.Secret.Values()))
	resp, err := d.cfg.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // only for the log
	if resp.StatusCode/100 == 2 {
		return nil
	}
	quoted := strings.ToValidUTF8(string(answer[:min(len(answer), maxQuoted)]), "")
	return &refused{resp.StatusCode, retryAfter(resp.Header), quoted}
}

// retryAfter reads Retry-After, in seconds or as a date.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		return min(time.Duration(seconds)*time.Second, maxBackoff)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, min(time.Until(at), maxBackoff))
	}
	return 0
}
