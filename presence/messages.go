package presence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/internal/peer"
	"github.com/imcluster/imcluster/presence/internalapi"
)

// Limits of a message. Its content is bounded like a frame of a client, and what it takes in all mailboxes like a message to
// a group, so that one request does not fill Redis.
const (
	maxContentBytes   = 64 << 10
	maxContentDepth   = 127 // as clients may send
	maxRecipients     = 1000
	maxRecipientBytes = 4 << 20
	maxMessageBytes   = maxContentBytes + maxRecipients*(6*wire.MaxUserID+8) + 4<<10
)

// publisher hands messages to a gateway.
type publisher interface {
	Publish(ctx context.Context, m *peerv1.Publish) (*peerv1.Published, error)
}

// messageRequest is the body of POST /v1/messages.
type messageRequest struct {
	From     string          `json:"from"`
	User     *string         `json:"user"`
	Users    []string        `json:"users"`
	Group    *string         `json:"group"`
	Everyone bool            `json:"everyone"`
	Content  json.RawMessage `json:"content"`
	ID       string          `json:"id"`
}

const messageExample = `{"from":"shop","user":"alice","content":{"text":"hello"}}`

// messageAnswer is what became of a message.
type messageAnswer struct {
	ID      string            `json:"id"`
	MsgID   string            `json:"msgId,omitempty"`
	Time    *time.Time        `json:"time,omitempty"`
	Results []recipientResult `json:"results,omitempty"`
	// Of a message to everyone.
	Gateways *uint32 `json:"gateways,omitempty"`
	Reached  *uint32 `json:"reached,omitempty"`
}

// recipientResult is what became of it for one of several users.
type recipientResult struct {
	User   string `json:"user"`
	Status string `json:"status"` // "stored" or the code of an error
	MsgID  string `json:"msgId,omitempty"`
}

// refusedMessage is a message that was not sent, or not to everybody, with what is known of it: at least the id to send it
// again with.
type refusedMessage struct {
	requestError
	answer messageAnswer
}

func (e *refusedMessage) write(w http.ResponseWriter) {
	e.setRetryAfter(w)
	body, _ := json.Marshal(struct { // strings and numbers
		internalapi.ErrorBody
		messageAnswer
	}{internalapi.ErrorBody{Error: internalapi.ErrorDetail{Code: e.code, Message: e.message}}, e.answer})
	writeJSON(w, e.status, body)
}

func (s *Server) sendMessage(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	body, err := readBody(w, r, maxMessageBytes)
	if err != nil {
		return err
	}
	var q messageRequest
	if err := parseObject(body, &q, messageExample); err != nil {
		return err
	}
	if q.ID, err = idempotencyKey(r, q.ID); err != nil {
		return err
	}
	if err := q.check(); err != nil {
		return err
	}
	if q.ID == "" {
		q.ID = uuid.NewString()
	}
	answer, err := s.publish(r.Context(), &q)
	if err != nil {
		return err
	}
	return respondValue(w, answer)
}

// idempotencyKey returns the id of a request, which may come in the body or in a header.
func idempotencyKey(r *http.Request, id string) (string, error) {
	switch key := r.Header.Get("Idempotency-Key"); {
	case key != "" && id != "" && key != id:
		return "", invalid("id: is not the Idempotency-Key; send one of the two")
	case key != "":
		id = key
	}
	if err := wire.CheckClientMsgID(id); err != nil {
		return "", invalid("id: must have at most %d bytes of UTF-8 without control characters", wire.MaxClientMsgID)
	}
	return id, nil
}

// check says what is wrong with a request.
func (q *messageRequest) check() error {
	if err := checkUser("from", q.From); err != nil {
		return err
	}
	targets := 0
	for _, set := range []bool{q.User != nil, q.Users != nil, q.Group != nil, q.Everyone} {
		if set {
			targets++
		}
	}
	if targets != 1 {
		return invalid("send to exactly one of: user, users, group, everyone")
	}
	switch {
	case len(q.Content) == 0:
		return invalid("content: is missing; it is any JSON value")
	case deeper(q.Content, maxContentDepth):
		return invalid("content: is nested deeper than %d levels", maxContentDepth)
	case len(q.Content) > maxContentBytes:
		return &requestError{http.StatusRequestEntityTooLarge, codeTooLarge,
			fmt.Sprintf("content: has %d bytes; at most %d are allowed", len(q.Content), maxContentBytes)}
	case q.User != nil:
		return checkUser("user", *q.User)
	case q.Group != nil:
		return checkGroup("group", *q.Group)
	case q.Users != nil:
		return q.checkUsers()
	}
	return nil
}

func (q *messageRequest) checkUsers() error {
	switch n := len(q.Users); {
	case n == 0:
		return invalid("users: is empty")
	case n > maxRecipients:
		return &requestError{http.StatusBadRequest, codeTooManyUsers,
			fmt.Sprintf("users: %d are too many; send to at most %d at once, or to a group", n, maxRecipients)}
	case n*len(q.Content) > maxRecipientBytes:
		return &requestError{http.StatusBadRequest, codeTooMuch,
			fmt.Sprintf("%d bytes of content to %d users are more than %d; send to fewer at once", len(q.Content), n, maxRecipientBytes)}
	}
	return checkUsers("users", q.Users)
}

// deeper tells whether valid JSON opens more than limit objects and lists at once.
func deeper(content []byte, limit int) bool {
	depth, quoted := 0, false
	for i := 0; i < len(content); i++ {
		switch c := content[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > limit {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// checkUsers refuses lists of what cannot be user ids.
func checkUsers(field string, users []string) error {
	for i, u := range users {
		if wire.CheckUserID(u) != nil {
			return checkUser(fmt.Sprintf("%s[%d]", field, i), u)
		}
	}
	return nil
}

// publish has a gateway send the message.
func (s *Server) publish(ctx context.Context, q *messageRequest) (messageAnswer, error) {
	answer := messageAnswer{ID: q.ID}
	m := &peerv1.Publish{From: q.From, Users: q.Users, Everyone: q.Everyone, Content: q.Content, ClientMsgId: q.ID}
	kind := targetUsers
	switch {
	case q.User != nil:
		m.Users, kind = []string{*q.User}, targetUser
	case q.Group != nil:
		m.Group, kind = *q.Group, targetGroup
	case q.Everyone:
		kind = targetEveryone
	default:
		m.Users = unique(q.Users)
	}
	if s.publisher == nil {
		return answer, &refusedMessage{requestError{http.StatusServiceUnavailable, codeUnavailable,
			"this presence server was started without a peer key, so it cannot reach the gateways"}, answer}
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.SendTimeout)
	defer cancel()
	published, err := s.publisher.Publish(ctx, m)
	if errors.Is(err, peer.ErrNoGateway) {
		// The lease table was read up to a second ago; others may have come since. Reading it tells gateways.
		if _, _, unread := s.model.Incarnations(ctx); unread == nil {
			published, err = s.publisher.Publish(ctx, m)
		}
	}
	if err != nil {
		s.telem.sent(ctx, kind, codeUnavailable, time.Since(start))
		return answer, &refusedMessage{requestError{http.StatusServiceUnavailable, codeUnavailable,
			"no gateway answers; the message may have been sent: send it again with the same id"}, answer}
	}
	answer, err = q.outcome(published)
	code := "ok"
	if refused, ok := errors.AsType[*refusedMessage](err); ok {
		code = refused.code
	}
	s.telem.sent(ctx, kind, code, time.Since(start))
	return answer, err
}

func unique(users []string) []string {
	users = slices.Clone(users)
	slices.Sort(users)
	return slices.Compact(users)
}

// outcome turns the answer of a gateway into that of the API. Only what is stored for everybody it is due to, or was handed
// to at least one gateway, is a success.
func (q *messageRequest) outcome(p *peerv1.Published) (messageAnswer, error) {
	answer := messageAnswer{ID: q.ID, MsgID: p.GetMsgId()}
	if ms := p.GetTime(); ms != 0 {
		t := time.UnixMilli(ms).UTC()
		answer.Time = &t
	}
	worst, message := wire.Code(p.GetCode()), p.GetMessage()
	if q.Users != nil {
		answer.MsgID = ""
		answer.Results, worst = q.results(p)
	} else if q.User != nil && len(p.GetOutcomes()) == 1 {
		worst = wire.Code(p.GetOutcomes()[0].GetCode())
		answer.MsgID = p.GetOutcomes()[0].GetMsgId()
	}
	if q.Everyone {
		gateways, reached := p.GetGateways(), p.GetReached()
		answer.Gateways, answer.Reached = &gateways, &reached
		if worst.OK() && reached == 0 {
			worst = wire.CodeUnavailable
		}
	}
	if worst.OK() {
		return answer, nil
	}
	return answer, &refusedMessage{*publishError(worst, message), answer}
}

// results are what became of a message for each user, in the order of the request, and the outcome that matters most: one
// that a repetition may heal.
func (q *messageRequest) results(p *peerv1.Published) (results []recipientResult, worst wire.Code) {
	byUser := make(map[string]*peerv1.Outcome, len(p.GetOutcomes()))
	for _, o := range p.GetOutcomes() {
		byUser[o.GetUser()] = o
	}
	worst = wire.CodeOK
	results = make([]recipientResult, len(q.Users))
	for i, u := range q.Users {
		code := wire.Code(p.GetCode())
		o, ok := byUser[u]
		switch {
		case ok:
			code = wire.Code(o.GetCode())
		case code.OK(): // the gateway does not say so of this user
			code = wire.CodeInternal
		}
		results[i] = recipientResult{User: u, Status: "stored", MsgID: o.GetMsgId()}
		if !code.OK() {
			results[i].Status = publishError(code, "").code
			if worst.OK() || code.Retryable() && (!worst.Retryable() || code < worst) {
				worst = code
			}
		}
	}
	return results, worst
}

// publishError is the error of this API for a code of the WebSocket protocol, whose message is about frames.
func publishError(code wire.Code, message string) *requestError {
	e := &requestError{http.StatusInternalServerError, codeInternal, "a fault of the gateway; see its log, and send the message again with the same id"}
	switch code {
	case wire.CodeUnavailable, wire.CodeDraining:
		e = &requestError{http.StatusServiceUnavailable, codeUnavailable,
			"Redis or the gateways cannot take it now; send it again with the same id: who has it does not get it twice"}
	case wire.CodeStoreFull:
		e = &requestError{http.StatusServiceUnavailable, codeStoreFull, "the memory of Redis is nearly full, and takes no messages"}
	case wire.CodeMailboxFull:
		e = &requestError{http.StatusTooManyRequests, codeMailboxFull,
			"a recipient's mailbox is full, to a large part of this sender's messages: wait until they are read"}
	case wire.CodeTooMuch:
		e = &requestError{http.StatusBadRequest, codeTooMuch, "the content times the members is too much for one message"}
	case wire.CodeFrameTooLarge:
		e = &requestError{http.StatusRequestEntityTooLarge, codeTooLarge, "the content is too large"}
	case wire.CodeNotFound:
		e = errGroupNotFound
	case wire.CodeForbidden:
		e = &requestError{http.StatusForbidden, codeForbidden, "not allowed"}
	case wire.CodeMalformed, wire.CodeBadField:
		e = &requestError{http.StatusBadRequest, codeInvalidArgument, "the gateway refuses the message: " + message}
	}
	return e
}
