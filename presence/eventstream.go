package presence

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/imcluster/imcluster/presence/replica"
)

const (
	// eventWriteTimeout is how long a caller may take to read an event when all buffers are full. Then it is cut off: a
	// caller that is merely slower than the events gets fewer of them, so this one reads nothing at all.
	eventWriteTimeout = 15 * time.Second
	// minComeBack and maxComeBack are after how long callers are asked to come back when the pod stops, so that not all come
	// at once.
	minComeBack = 100 * time.Millisecond
	maxComeBack = 3 * time.Second
)

// eventStream writes Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html). After an error it
// writes nothing.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration // of a write
	err     error
}

func streamHeaders(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no") // or nginx collects events
}

// newEventStream answers with the headers, and lifts the limits of the server, which are for requests that end.
func newEventStream(w http.ResponseWriter) *eventStream {
	s := &eventStream{w: w, control: http.NewResponseController(w), timeout: eventWriteTimeout}
	s.err = s.control.SetReadDeadline(time.Time{})
	streamHeaders(w.Header())
	s.comment()
	return s
}

// write sends what encode appends.
func (s *eventStream) write(encode func([]byte) []byte) {
	if s.err != nil {
		return
	}
	buf := buffers.Get().(*[]byte)
	b := encode((*buf)[:0])
	if s.err = s.control.SetWriteDeadline(time.Now().Add(s.timeout)); s.err == nil {
		if _, s.err = s.w.Write(b); s.err == nil {
			s.err = s.control.Flush()
		}
	}
	keepBuffer(buf, b)
}

func (s *eventStream) event(e *replica.Event) {
	s.write(func(b []byte) []byte { return appendEvent(b, e) })
}

// comment is a sign of life.
func (s *eventStream) comment() {
	s.write(func(b []byte) []byte { return append(b, ":\n\n"...) })
}

// relist says that the caller cannot go on from its last event: a snapshot follows. The id is reset, or the caller would come
// back with it.
func (s *eventStream) relist() {
	s.write(func(b []byte) []byte { return append(b, "event: relist\nid:\ndata: {}\n\n"...) })
}

// goodbye asks the caller to come back, which leads it to another pod.
func (s *eventStream) goodbye() {
	after := minComeBack + rand.N(maxComeBack-minComeBack)
	s.write(func(b []byte) []byte {
		b = strconv.AppendInt(append(b, "retry: "...), after.Milliseconds(), 10)
		return append(b, "\n\n"...)
	})
}

// appendEvent appends an event. Its data is one line: JSON has line ends only where somebody puts them.
func appendEvent(b []byte, e *replica.Event) []byte {
	b = append(append(b, "event: "...), eventKind(e)...)
	if e.Token != "" {
		b = append(append(b, "\nid: "...), e.Token...)
	}
	b = append(b, "\ndata: {"...)
	if !e.Bookmark {
		b = append(appendUsers(append(b, `"users":`...), e.Users), ',')
	}
	if e.More {
		b = append(b, `"more":true,`...)
	}
	return append(appendFreshness(b, e.AsOf, e.Degraded), "\n\n"...)
}

func eventKind(e *replica.Event) string {
	switch {
	case e.Bookmark:
		return "bookmark"
	case e.Snapshot:
		return "snapshot"
	}
	return "change"
}
