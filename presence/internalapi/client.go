package internalapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxResponseBytes bounds what the client reads of an answer: 1,000 gateways take about 200 KB.
const maxResponseBytes = 8 << 20

// ErrUnauthenticated is wrapped by errors of calls that presence refused because of the key.
var ErrUnauthenticated = errors.New("presence refused the peer key")

// ErrUnavailable is wrapped by errors of calls that presence could not answer because Redis cannot be
// asked. Nothing was fenced for certain; the call may be repeated.
var ErrUnavailable = errors.New("presence cannot ask Redis")

// Client calls the internal API of one IMCluster. It is safe for concurrent use and keeps no state.
// Every call is bounded by its context alone: the client sets no timeout and retries nothing.
type Client struct {
	// BaseURL is scheme, host and port, for example http://chat-presence.default.svc:8082.
	BaseURL string
	// Key is the peer key, sent as bearer token.
	Key string
	// HTTP sends the requests. Nil means [http.DefaultClient].
	HTTP *http.Client
}

// Incarnations lists the gateway incarnations that the registry holds, with the connection and user counts.
func (c *Client) Incarnations(ctx context.Context) (*IncarnationList, error) {
	var out IncarnationList
	if err := c.call(ctx, http.MethodGet, IncarnationsPath, nil, &out); err != nil {
		return nil, fmt.Errorf("list gateway incarnations: %w", err)
	}
	return &out, nil
}

// Hooks tells what the receiver of the hooks is still to be told.
func (c *Client) Hooks(ctx context.Context) (*HookDelivery, error) {
	var out HookDelivery
	if err := c.call(ctx, http.MethodGet, HooksPath, nil, &out); err != nil {
		return nil, fmt.Errorf("ask for the delivery of hooks: %w", err)
	}
	return &out, nil
}

// Fence ends the given incarnations and bans the given pod UIDs.
func (c *Client) Fence(ctx context.Context, req FenceRequest) (*FenceResponse, error) {
	var out FenceResponse
	if err := c.call(ctx, http.MethodPost, FencePath, req, &out); err != nil {
		return nil, fmt.Errorf("fence gateway incarnations: %w", err)
	}
	return &out, nil
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.BaseURL, "/")+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.Key)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxResponseBytes))
	if err != nil {
		return fmt.Errorf("read response: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return statusError(resp.StatusCode, data)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("decode response: %w", err)
	}
	return nil
}

// statusError turns an answer other than 200 into an error that carries presence's own message.
func statusError(code int, data []byte) error {
	var body ErrorBody
	message := http.StatusText(code)
	if json.Unmarshal(data, &body) == nil && body.Error.Message != "" {
		message = body.Error.Message
	}
	switch code {
	case http.StatusUnauthorized:
		return fmt.Errorf("%w: %s", ErrUnauthenticated, message)
	case http.StatusServiceUnavailable:
		return fmt.Errorf("%w: %s", ErrUnavailable, message)
	default:
		return fmt.Errorf("presence answered %d: %s", code, message)
	}
}
