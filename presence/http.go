package presence

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/presence/internalapi"
	"github.com/imcluster/imcluster/presence/store"
)

// Codes of errors, which docs/presence-api.md explains.
const (
	codeInvalidArgument  = "invalid_argument"
	codeTooManyUsers     = "too_many_users"
	codeTooMuch          = "too_much"
	codeUnauthenticated  = "unauthenticated"
	codeForbidden        = "forbidden"
	codeNotFound         = "not_found"
	codeGroupNotFound    = "group_not_found"
	codeGroupExists      = "group_exists"
	codeTooManyMembers   = "too_many_members"
	codeTooManyRevoked   = "too_many_revocations"
	codeMethodNotAllowed = "method_not_allowed"
	codeTooLarge         = "too_large"
	codeUnsupportedMedia = "unsupported_media_type"
	codeMailboxFull      = "mailbox_full"
	codeStoreFull        = "store_full"
	codeTooManyWatches   = "too_many_watches"
	codeUnavailable      = "unavailable"
	codeInternal         = "internal"
)

// retryAfter is what callers are told to wait when Redis cannot be asked, in seconds.
const retryAfter = 1

// requestError is an error with the answer that it causes.
type requestError struct {
	status  int
	code    string
	message string
}

func (e *requestError) Error() string { return e.message }

func invalid(format string, args ...any) error {
	return &requestError{http.StatusBadRequest, codeInvalidArgument, fmt.Sprintf(format, args...)}
}

// setRetryAfter tells when to try again, if that may help.
func (e *requestError) setRetryAfter(w http.ResponseWriter) {
	if e.status == http.StatusServiceUnavailable || e.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
}

// handler answers a request, or returns the error to answer with and has written nothing.
type handler func(w http.ResponseWriter, r *http.Request) error

// serve returns a handler for routes that take one of keys as a bearer token, unless they are open. Every answer to a
// request that no route takes is JSON as well.
func (s *Server) serve(keys *secretdir.Secret, routes ...route) http.Handler {
	mux := http.NewServeMux()
	methods := map[string]map[string]handler{} // by path
	for _, rt := range routes {
		if methods[rt.path] == nil {
			methods[rt.path] = map[string]handler{}
			mux.Handle(rt.path, s.observe(rt.path, func(w http.ResponseWriter, r *http.Request) error {
				if !rt.open {
					if err := authenticate(r, keys); err != nil {
						w.Header().Set("WWW-Authenticate", `Bearer realm="imcluster"`)
						return err
					}
				}
				handle, ok := methods[rt.path][r.Method]
				if !ok {
					allowed := allow(methods[rt.path])
					w.Header().Set("Allow", allowed)
					return &requestError{http.StatusMethodNotAllowed, codeMethodNotAllowed, rt.path + " takes " + allowed}
				}
				return handle(w, r)
			}))
		}
		methods[rt.path][rt.method] = rt.handle
		if rt.method == http.MethodGet {
			methods[rt.path][http.MethodHead] = rt.handle
		}
	}
	mux.Handle("/", s.observe("other", func(http.ResponseWriter, *http.Request) error {
		paths := make([]string, len(routes))
		for i, rt := range routes {
			paths[i] = rt.method + " " + rt.path
		}
		return &requestError{http.StatusNotFound, codeNotFound, "no such path; there are: " + strings.Join(paths, ", ")}
	}))
	return mux
}

func allow(methods map[string]handler) string {
	return strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
}

// authenticate checks the bearer token against all accepted keys, taking the same time whichever of them it is.
func authenticate(r *http.Request, keys *secretdir.Secret) error {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return &requestError{http.StatusUnauthorized, codeUnauthenticated, "send the key in the header 'Authorization: Bearer <key>'"}
	}
	match := 0
	for _, key := range keys.Values() {
		match |= subtle.ConstantTimeCompare([]byte(token), key)
	}
	if match == 0 {
		return &requestError{http.StatusUnauthorized, codeUnauthenticated, "the key is not accepted; it may have been rotated"}
	}
	return nil
}

// observe answers with h's error, and makes metrics and a span of the request. A panic is answered and logged: one bad
// request must not look like a broken connection.
func (s *Server) observe(path string, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		ctx, span := s.telem.startSpan(r, path)
		defer func() {
			if v := recover(); v != nil {
				s.log.Error("a request caused a panic", "route", path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				if !sw.wrote {
					writeError(sw, &requestError{http.StatusInternalServerError, codeInternal, "a fault of the server; see its log"})
				}
			}
			s.telem.finish(ctx, span, r.Method, path, sw, time.Since(start))
		}()
		if err := h(sw, r.WithContext(ctx)); err != nil {
			s.fail(sw, r, path, err)
		}
	})
}

// fail answers with err.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, path string, err error) {
	if refused, ok := errors.AsType[*refusedMessage](err); ok {
		if refused.status >= http.StatusInternalServerError {
			s.logOutage(path, err)
		}
		refused.write(w)
		return
	}
	var request *requestError
	switch {
	case errors.As(err, &request):
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		if r.Context().Err() == nil { // else the caller has gone away, and that is why
			s.logOutage(path, err)
		}
		request = &requestError{http.StatusServiceUnavailable, codeUnavailable, "Redis cannot be asked now; try again"}
	default:
		s.log.Error("a request failed", "route", path, "error", err)
		request = &requestError{http.StatusInternalServerError, codeInternal, "a fault of the server; see its log"}
	}
	writeError(w, request)
}

// outageLogSeconds is how often an outage of Redis is logged: callers may ask a thousand times a second meanwhile.
const outageLogSeconds = 10

func (s *Server) logOutage(path string, err error) {
	now, last := time.Now().Unix(), s.outage.Load()
	if now-last >= outageLogSeconds && s.outage.CompareAndSwap(last, now) {
		s.log.Warn("a request could not be served: Redis or the gateways do not answer", "route", path, "error", err)
	}
}

func writeError(w http.ResponseWriter, e *requestError) {
	e.setRetryAfter(w)
	body, _ := json.Marshal(internalapi.ErrorBody{Error: internalapi.ErrorDetail{Code: e.code, Message: e.message}})
	writeJSON(w, e.status, body)
}

// writeJSON writes a complete answer. That the caller has gone away is not of interest.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	writeBody(w, status, "application/json", body)
}

func writeBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// readBody reads a JSON body of at most limit bytes. A body without a Content-Type is taken for JSON.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if err := checkContentType(r); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	return body, bodyError(err, limit)
}

// readText is readBody for large bodies whose parts are used as strings: it allocates one string of the right size.
func readText(w http.ResponseWriter, r *http.Request, limit int64) (string, error) {
	if err := checkContentType(r); err != nil {
		return "", err
	}
	return readAny(w, r, limit)
}

// readAny is readText without a look at the Content-Type.
func readAny(w http.ResponseWriter, r *http.Request, limit int64) (string, error) {
	buf := buffers.Get().(*[]byte)
	b := bytes.NewBuffer((*buf)[:0])
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	text := b.String()
	keepBuffer(buf, b.Bytes())
	return text, bodyError(err, limit)
}

func checkContentType(r *http.Request) error {
	switch ct := r.Header.Get("Content-Type"); ct {
	case "", "application/json":
	default:
		if media, _, err := mime.ParseMediaType(ct); err != nil || media != "application/json" {
			return &requestError{http.StatusUnsupportedMediaType, codeUnsupportedMedia, "send the body with 'Content-Type: application/json'"}
		}
	}
	return nil
}

// bodyError is the answer to a body that could not be read.
func bodyError(err error, limit int64) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &requestError{http.StatusRequestEntityTooLarge, codeTooLarge, fmt.Sprintf("the body is larger than %d bytes", limit)}
	}
	if err != nil {
		return invalid("the body could not be read: %v", err)
	}
	return nil
}

// statusWriter remembers whether and with which status was answered.
type statusWriter struct {
	http.ResponseWriter
	status int
	wrote  bool
	// streams: the answer goes on for as long as the caller likes, which is no measure of the server.
	streams bool
}

func (w *statusWriter) WriteHeader(status int) {
	w.status, w.wrote = status, true
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
