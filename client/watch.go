package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"time"
)

// Kinds of events of a watch.
const (
	// Snapshot: Users are all that were asked for, or, of a watch of everybody, those online.
	Snapshot = "snapshot"
	// Change: Users have changed.
	Change = "change"
	// Bookmark: nothing has changed; the Token is newer, though.
	Bookmark = "bookmark"
	// Relist: what was told before is not to be relied on; a Snapshot follows.
	Relist = "relist"
)

// WatchEvent is what a watch tells.
type WatchEvent struct {
	Kind string
	// Users are as they are now, each once.
	Users []UserPresence `json:"users"`
	// More says that a Snapshot goes on with the next event.
	More bool `json:"more"`
	// Token is what WatchOptions.Token takes to go on after this event; empty if there is none yet.
	Token string
	Freshness
}

// WatchOptions say what to watch.
type WatchOptions struct {
	// Users are whom to watch, at most 5,000. All watches everybody instead.
	Users []string
	All   bool
	// Token goes on where another watch of the same users was.
	Token string
	// Interrupted, if not nil, is called when the service cannot be reached, or ended the stream, with the reason, nil if it
	// ended in the regular way, and the pause before the next attempt.
	Interrupted func(reason error, pause time.Duration)
}

const (
	// watchSilence is how long nothing may be heard of the service, which sends something every 20 s.
	watchSilence   = 45 * time.Second
	minWatchPause  = 500 * time.Millisecond
	maxWatchPause  = 15 * time.Second
	maxEventBytes  = maxAnswerBytes
	lastEventIDKey = "Last-Event-Id"
)

// Watch tells how users are, and then what changes, for as long as ctx lasts. It reconnects by itself and goes on where it
// was: nothing is missed, and events of the same users are never older than those before. The error ends it: that of ctx, or
// an [*APIError] that trying again does not heal. The HTTP client must have no Timeout.
func (p *Presence) Watch(ctx context.Context, o WatchOptions) iter.Seq2[WatchEvent, error] {
	return func(yield func(WatchEvent, error) bool) {
		w := &watch{p: p, o: o, token: o.Token, pauses: backoff{low: minWatchPause, high: maxWatchPause}}
		for {
			reason := w.follow(ctx, yield)
			switch {
			case w.done:
				return
			case ctx.Err() != nil:
				yield(WatchEvent{}, context.Cause(ctx))
				return
			case permanent(reason):
				yield(WatchEvent{}, reason)
				return
			}
			pause := w.pause(reason)
			if o.Interrupted != nil {
				o.Interrupted(reason, pause)
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
}

// permanent tells whether the answer would be the same again.
func permanent(err error) bool {
	var refused *APIError
	return errors.As(err, &refused) && refused.Status >= 400 && refused.Status < 500 && refused.Status != http.StatusTooManyRequests
}

// watch is what lasts from one stream to the next.
type watch struct {
	p      *Presence
	o      WatchOptions
	token  string
	pauses backoff
	hint   time.Duration // after how long the service wants us back; 0 if it did not say
	done   bool          // the caller wants no more
}

func (w *watch) pause(reason error) time.Duration {
	var refused *APIError
	switch hint := w.hint; {
	case reason == nil && hint > 0:
		w.hint = 0
		return hint
	case errors.As(reason, &refused):
		return max(refused.RetryAfter, w.pauses.next())
	}
	return w.pauses.next()
}

// follow yields the events of one stream. It returns nil when the service ends it.
func (w *watch) follow(ctx context.Context, yield func(WatchEvent, error) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(watchSilence, func() { cancel(errors.New("nothing was heard of the service for too long")) })
	defer silence.Stop()
	resp, err := w.open(ctx)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewReaderSize(resp.Body, 64<<10)
	var e eventLines
	for {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch presence: %w", cause(ctx, err))
		}
		silence.Reset(watchSilence)
		if len(line) > 0 {
			e.add(line)
			continue
		}
		if err := w.take(&e, yield); err != nil || w.done {
			return err
		}
		e = eventLines{}
	}
}

// cause is why a stream broke: err, unless we ended it.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// open asks for a stream.
func (w *watch) open(ctx context.Context) (*http.Response, error) {
	body := any(map[string]bool{"all": true})
	if !w.o.All {
		body = map[string][]string{"users": append([]string{}, w.o.Users...)}
	}
	var header http.Header
	if w.token != "" {
		header = http.Header{lastEventIDKey: {w.token}}
	}
	resp, err := w.p.send(ctx, header, http.MethodPost, "/v1/presence:watch", body)
	if err != nil {
		return nil, cause(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	return nil, apiError(resp, data)
}

// take yields what the lines of an event say.
func (w *watch) take(e *eventLines, yield func(WatchEvent, error) bool) error {
	if e.retry > 0 {
		w.hint = e.retry
	}
	if e.hasID {
		w.token = e.id
	}
	if e.data == nil {
		return nil // a comment
	}
	event := WatchEvent{Kind: e.kind, Token: w.token}
	if err := json.Unmarshal(e.data, &event); err != nil {
		return fmt.Errorf("watch presence: the event cannot be read: %w", err)
	}
	w.pauses.reset()
	w.done = !yield(event, nil)
	return nil
}

// eventLines are the fields of an event (https://html.spec.whatwg.org/multipage/server-sent-events.html).
type eventLines struct {
	kind, id string
	hasID    bool
	data     []byte
	retry    time.Duration
}

func (e *eventLines) add(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "event":
		e.kind = string(value)
	case "id":
		e.id, e.hasID = string(value), true
	case "data":
		e.data = append(e.data, value...)
	case "retry":
		if ms, err := strconv.Atoi(string(value)); err == nil {
			e.retry = time.Duration(ms) * time.Millisecond
		}
	}
}

var errEventTooLong = errors.New("the event is too long")

// readLine returns the next line without its end.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(line) <= maxEventBytes:
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, errEventTooLong
		case err != nil:
			return nil, err
		default:
			return bytes.TrimRight(line, "\r\n"), nil
		}
	}
}
