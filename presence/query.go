package presence

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/store"
)

// Sizes of a page of GET /v1/online.
const (
	defaultPage = 100
	maxPage     = 1000
)

// buffers holds the bodies of answers. The largest ones, of several megabytes, are not kept.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

const maxKeptBuffer = 1 << 20

// lists holds the ids of requests.
var lists = sync.Pool{New: func() any { return new([]string) }}

// keepList gives a list back, without what it refers to.
func keepList(list *[]string) {
	clear(*list)
	*list = (*list)[:0]
	lists.Put(list)
}

// respond answers with what encode appends.
func respond(w http.ResponseWriter, encode func([]byte) []byte) {
	buf := buffers.Get().(*[]byte)
	body := encode((*buf)[:0])
	writeJSON(w, http.StatusOK, body)
	keepBuffer(buf, body)
}

// keepBuffer gives back what was taken from buffers and has become b.
func keepBuffer(buf *[]byte, b []byte) {
	if cap(b) <= maxKeptBuffer {
		*buf = b[:0]
		buffers.Put(buf)
	}
}

func (s *Server) getUser(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	id := r.PathValue("user")
	if err := checkUser("user", id); err != nil {
		return err
	}
	users, asOf, degraded := s.model.Users(r.Context(), []string{id})
	s.telem.answered(r.Context(), users, degraded)
	respond(w, func(b []byte) []byte { return appendUserAnswer(b, &users[0], asOf, degraded) })
	return nil
}

func (s *Server) batchGet(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	body, err := readText(w, r, maxListBytes(s.cfg.MaxQueryUsers))
	if err != nil {
		return err
	}
	list := lists.Get().(*[]string)
	defer keepList(list)
	ids, err := parseBatch((*list)[:0], body)
	if err != nil {
		return err
	}
	*list = ids
	if len(ids) > s.cfg.MaxQueryUsers {
		return &requestError{http.StatusBadRequest, codeTooManyUsers,
			"users: " + strconv.Itoa(len(ids)) + " are too many; ask for at most " + strconv.Itoa(s.cfg.MaxQueryUsers) + " at once"}
	}
	for i, id := range ids {
		if err := wire.CheckUserID(id); err != nil {
			return checkUser("users["+strconv.Itoa(i)+"]", id)
		}
	}
	users, asOf, degraded := s.model.Users(r.Context(), ids)
	s.telem.answered(r.Context(), users, degraded)
	respond(w, func(b []byte) []byte { return appendBatchAnswer(b, users, asOf, degraded) })
	return nil
}

func (s *Server) listOnline(w http.ResponseWriter, r *http.Request) error {
	params, err := parameters(r, "limit", "cursor")
	if err != nil {
		return err
	}
	limit := defaultPage
	if text := params.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxPage {
			return invalid("limit: must be a number from 1 to %d", maxPage)
		}
	}
	page, err := s.model.Online(r.Context(), params.Get("cursor"), limit)
	if errors.Is(err, store.ErrInvalidCursor) {
		return invalid("cursor: is not one that an earlier answer gave as nextCursor; start again without it")
	}
	if err != nil {
		return err
	}
	respond(w, func(b []byte) []byte { return appendPage(b, &page) })
	return nil
}

func (s *Server) countOnline(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	counts, err := s.model.Counts(r.Context())
	if err != nil {
		return err
	}
	respond(w, func(b []byte) []byte { return appendCounts(b, &counts) })
	return nil
}

// parameters returns the query parameters, which must be among the known ones and occur once. A mistyped one must not
// look as if it had an effect.
func parameters(r *http.Request, known ...string) (url.Values, error) {
	values, err := parametersOf(r, known...)
	for name, v := range values {
		if len(v) > 1 {
			return nil, invalid("%s: is given more than once", name)
		}
	}
	return values, err
}

// parametersOf is parameters, which may be repeated.
func parametersOf(r *http.Request, known ...string) (url.Values, error) {
	if r.URL.RawQuery == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("the query string is malformed: %v", err)
	}
	for name := range values {
		if !slices.Contains(known, name) {
			return nil, invalid("%q is not a parameter of this path; there are: %s", name, orNone(known))
		}
	}
	return values, nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// checkUser refuses what cannot be a user id; the error names the field.
func checkUser(field, id string) error {
	err := wire.CheckUserID(id)
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return invalid("%s: %s", field, e.Message)
	}
	return err
}
