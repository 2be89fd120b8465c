package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/imcluster/imcluster/api/wire"
)

// Headers of the requests to a webhook, if there is a secret.
const (
	// TimestampHeader is when the request was made, in Unix seconds.
	TimestampHeader = "X-IMCluster-Timestamp"
	// SignatureHeader is "v1=" and the HMAC-SHA256 of the timestamp, a dot and the body, in lower-case hexadecimal.
	SignatureHeader = "X-IMCluster-Signature"
)

const (
	defaultWebhookTimeout = 3 * time.Second
	// maxAnswerBytes is the size of the largest answer of a webhook.
	maxAnswerBytes = 64 << 10
)

// WebhookConfig says whom to ask about tokens.
type WebhookConfig struct {
	// URL is where requests are posted. Required. Redirects are not followed.
	URL string
	Service
	// Timeout is how long an answer may take. Zero means 3 s.
	Timeout time.Duration
	// CacheFor is how long a positive answer is used again for the same token, device, platform and address, so that a
	// client that reconnects is not asked about again. Zero means never. At most 20,000 answers are kept.
	CacheFor time.Duration
	// Secret signs the requests; nil means that they are not signed.
	Secret Keys

	now func() time.Time // nil: time.Now
}

// Webhook asks a service of the user about tokens: POST
//
//	{"token":"…","deviceId":"…","platform":"…","address":"203.0.113.7"}
//
// It is answered with 200 and
//
//	{"userId":"alice","expires":1767225600,"issued":1767222000,"tokenId":"7f3a"}
//
// or with 401 if the token is not good. expires and issued are Unix seconds; all but userId may be left out. Without expires
// the session does not end by itself; without issued the time of the answer counts. Anything else, and no answer within the
// timeout, means that the client should try again.
type Webhook struct {
	// Fixed after construction.
	url    string
	caller *caller
	secret Keys
	now    func() time.Time
	cache  *cache

	flights singleflight.Group
}

// NewWebhook returns a Webhook. Nothing is asked yet.
func NewWebhook(cfg WebhookConfig) (*Webhook, error) {
	if err := checkURL(cfg.URL); err != nil {
		return nil, fmt.Errorf("the URL of the webhook: %w", err)
	}
	if cfg.Timeout < 0 || cfg.CacheFor < 0 {
		return nil, errors.New("the times of the webhook must not be negative")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultWebhookTimeout
	}
	if cfg.now == nil {
		cfg.now = time.Now
	}
	caller, err := newCaller(cfg.Service, "webhook", cfg.Timeout, maxConnsPerHost)
	if err != nil {
		return nil, err
	}
	return &Webhook{url: cfg.URL, caller: caller, secret: cfg.Secret, now: cfg.now,
		cache: newCache(cfg.CacheFor)}, nil
}

type webhookRequest struct {
	Token    string `json:"token"`
	DeviceID string `json:"deviceId"`
	Platform string `json:"platform"`
	Address  string `json:"address"`
}

type webhookAnswer struct {
	UserID  string `json:"userId"`
	Expires int64  `json:"expires"`
	Issued  int64  `json:"issued"`
	TokenID string `json:"tokenId"`
}

// Authenticate asks the webhook, unless it knows the answer or the same question is under way.
func (w *Webhook) Authenticate(ctx context.Context, c Credentials) (Identity, error) {
	body, err := json.Marshal(webhookRequest(c))
	if err != nil {
		return Identity{}, fmt.Errorf("encode the request to the auth webhook: %w", err)
	}
	question := sha256.Sum256(body) // tokens are not kept
	if id, ok := w.cache.get(question, w.now()); ok {
		return id, nil
	}
	flight := w.flights.DoChan(string(question[:]), func() (any, error) {
		// It goes on when the login that started it ends: others may wait for it. The client has a timeout.
		id, err := w.ask(context.WithoutCancel(ctx), body)
		if err == nil {
			w.cache.put(question, id, w.now())
		}
		return id, err
	})
	select {
	case result := <-flight:
		id, _ := result.Val.(Identity)
		return id, result.Err
	case <-ctx.Done():
		return Identity{}, fmt.Errorf("ask the auth webhook: %w", context.Cause(ctx))
	}
}

// ask posts the request.
func (w *Webhook) ask(ctx context.Context, body []byte) (Identity, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return Identity{}, errors.New("the URL of the auth webhook cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	w.sign(req, body)
	status, answer, err := w.caller.do(req, maxAnswerBytes)
	switch {
	case err != nil:
		return Identity{}, fmt.Errorf("ask the auth webhook: %w", err)
	case status == http.StatusUnauthorized:
		return Identity{}, wire.Errorf(wire.CodeInvalidToken, "the token was refused")
	case status != http.StatusOK:
		return Identity{}, fmt.Errorf("the auth webhook answered %d, not 200 or 401", status)
	}
	return w.read(answer)
}

// sign proves to the webhook that the request is the platform's, and not an old one.
func (w *Webhook) sign(req *http.Request, body []byte) {
	if w.secret == nil {
		return
	}
	timestamp := strconv.FormatInt(w.now().Unix(), 10)
	mac := hmac.New(sha256.New, w.secret.Values()[0])
	mac.Write([]byte(timestamp))
	mac.Write([]byte{'.'})
	mac.Write(body)
	req.Header.Set(TimestampHeader, timestamp)
	req.Header.Set(SignatureHeader, "v1="+hex.EncodeToString(mac.Sum(nil)))
}

// read understands a positive answer. One that cannot be understood is a fault of the webhook, not of the token.
func (w *Webhook) read(body []byte) (Identity, error) {
	var answer webhookAnswer
	if err := json.Unmarshal(body, &answer); err != nil {
		return Identity{}, errors.New("the auth webhook answered 200, but not with the JSON that is expected")
	}
	id := Identity{User: answer.UserID, TokenID: answer.TokenID, Issued: w.now()}
	if answer.Issued != 0 {
		id.Issued = time.Unix(answer.Issued, 0)
	}
	if answer.Expires != 0 {
		id.Expires = time.Unix(answer.Expires, 0)
		if !w.now().Before(id.Expires) {
			return Identity{}, wire.Errorf(wire.CodeTokenExpired, "the token has expired; log in with a fresh one")
		}
	}
	if err := id.check("the answer of the auth webhook"); err != nil {
		return Identity{}, errors.New(message(err))
	}
	return id, nil
}
