package presence

import (
	"crypto/md5" //nolint:gosec // the signature that LeanCloud's clients send is defined with it
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/presence/replica"
)

// LeanCloud is what the clients of LeanCloud, such as the npm package leancloud-storage, are initialised with. They ask who
// is online by the cloud function getOnOffStatus.
//
// An app key is in the hands of every client, so it says little about who asks: it is another one than the API key, and opens
// nothing else.
type LeanCloud struct {
	AppID  string
	AppKey *secretdir.Secret
}

// Codes of LeanCloud's errors; the ones for what HTTP knows are the HTTP status.
// https://docs.leancloud.cn/sdk/error-code/
const (
	leanInvalidJSON   = 107
	leanQuotaExceeded = 140
	leanInvalid       = 142
)

// leanError is an error in the words of LeanCloud.
type leanError struct {
	status int
	Code   int    `json:"code"`
	Text   string `json:"error"`
}

func (e *leanError) Error() string { return e.Text }

// leanHeaders are what LeanCloud's clients in browsers send.
const leanHeaders = "Content-Type, X-LC-Id, X-LC-Key, X-LC-Sign, X-LC-Session, X-LC-Prod, X-LC-UA"

// allowBrowser answers the question of a browser whether a page of any origin may ask. It may: the request itself proves what
// it has to, and no cookie plays a part.
func allowBrowser(w http.ResponseWriter, _ *http.Request) error {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "POST, OPTIONS")
	h.Set("Access-Control-Allow-Headers", leanHeaders)
	h.Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// getOnOffStatus answers {"peerIds":["a","b","c"]} with {"result":["1","0",null]}: online, offline, never seen. What cannot be
// found out makes an error of the whole: clients take null for offline.
func (s *Server) getOnOffStatus(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	err := s.answerOnOff(w, r)
	if err == nil {
		return nil
	}
	refused, ok := errors.AsType[*leanError](err)
	if !ok {
		refused = &leanError{http.StatusBadRequest, leanInvalid, err.Error()}
		if e, ok := errors.AsType[*requestError](err); ok && e.status != http.StatusBadRequest {
			refused.status, refused.Code = e.status, e.status
		}
	}
	if refused.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		s.logOutage(r.URL.Path, err)
	}
	body, _ := json.Marshal(refused) // a number and a string
	writeJSON(w, refused.status, body)
	return nil
}

func (s *Server) answerOnOff(w http.ResponseWriter, r *http.Request) error {
	if !s.cfg.LeanCloud.authentic(r.Header) {
		return &leanError{http.StatusUnauthorized, http.StatusUnauthorized,
			"Unauthorized. Send X-LC-Id with the app id, and X-LC-Key or X-LC-Sign with the app key."}
	}
	body, err := readAny(w, r, maxListBytes(s.cfg.MaxQueryUsers))
	if err != nil {
		return err
	}
	list := lists.Get().(*[]string)
	defer keepList(list)
	if *list, err = parsePeers((*list)[:0], body); err != nil {
		return err
	}
	n := len(*list)
	if n > s.cfg.MaxQueryUsers {
		return &leanError{http.StatusBadRequest, leanQuotaExceeded,
			"peerIds: " + strconv.Itoa(n) + " are too many; ask for at most " + strconv.Itoa(s.cfg.MaxQueryUsers) + " at once"}
	}
	briefs := briefLists.Get().(*[]replica.Brief)
	defer briefLists.Put(briefs)
	*briefs = append((*briefs)[:0], make([]replica.Brief, n)...)
	degraded := s.model.Briefs(r.Context(), *list, *briefs)
	if counts := s.telem.briefed(r.Context(), *briefs, degraded); counts[replica.Unavailable] > 0 {
		return &leanError{http.StatusServiceUnavailable, http.StatusServiceUnavailable, "It cannot be found out now who is online; try again."}
	}
	respond(w, func(b []byte) []byte { return appendOnOff(b, *briefs) })
	return nil
}

// authentic tells whether a request carries the app id and the app key, or a signature by it: "md5(timestamp + key),timestamp",
// in milliseconds, with ",master" if it is by what the client believes to be its master key. Here there is one key for both.
//
// A signature is good at any time: whoever sees one has seen the answer too, and the clocks of phones are wrong.
func (l *LeanCloud) authentic(h http.Header) bool {
	if subtle.ConstantTimeCompare([]byte(h.Get("X-LC-Id")), []byte(l.AppID)) == 0 {
		return false
	}
	match := 0
	if key := h.Get("X-LC-Key"); key != "" {
		key = strings.TrimSuffix(key, ",master")
		for _, k := range l.AppKey.Values() {
			match |= subtle.ConstantTimeCompare([]byte(key), k)
		}
		return match == 1
	}
	sign, timestamp, _ := strings.Cut(strings.TrimSuffix(h.Get("X-LC-Sign"), ",master"), ",")
	const maxDigits = 20
	if _, err := strconv.ParseUint(timestamp, 10, 64); err != nil || len(timestamp) > maxDigits {
		return false
	}
	got, err := hex.DecodeString(sign)
	if err != nil {
		return false
	}
	for _, k := range l.AppKey.Values() {
		want := md5.Sum(append([]byte(timestamp), k...)) //nolint:gosec // see the import
		match |= subtle.ConstantTimeCompare(got, want[:])
	}
	return match == 1
}

// briefLists holds what is known of the users of requests.
var briefLists = sync.Pool{New: func() any { return new([]replica.Brief) }}

// peersRequest is the body of getOnOffStatus.
type peersRequest struct {
	PeerIDs *[]*string `json:"peerIds"`
}

// parsePeers reads {"peerIds":["…",…]} and appends the ids to ids; they share the memory of the body. Other members are
// ignored, as functions ignore parameters that they do not know.
func parsePeers(ids []string, body string) ([]string, error) {
	if !utf8.ValidString(body) {
		return nil, &leanError{http.StatusBadRequest, leanInvalidJSON, "the body is not UTF-8"}
	}
	if ids, ok := parsePlainList(ids, body, `"peerIds"`); ok {
		return ids, nil
	}
	var request peersRequest
	err := json.Unmarshal([]byte(body), &request)
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return nil, &leanError{http.StatusBadRequest, leanInvalidJSON, "the body is not JSON: " + err.Error()}
	}
	if err != nil || request.PeerIDs == nil {
		return nil, &leanError{http.StatusBadRequest, leanInvalid, `peerIds: must be a list of strings, as in {"peerIds":["a","b"]}`}
	}
	for _, id := range *request.PeerIDs {
		if id == nil {
			return nil, &leanError{http.StatusBadRequest, leanInvalid, "peerIds: must be a list of strings, but holds a JSON null"}
		}
		ids = append(ids, *id)
	}
	return ids, nil
}

// onOff are the answers of getOnOffStatus, each with the comma before the next.
var onOff = [...]string{replica.NeverSeen: "null,", replica.Offline: `"0",`, replica.Online: `"1",`}

func appendOnOff(b []byte, briefs []replica.Brief) []byte {
	b = append(b, `{"result":[`...)
	for _, p := range briefs {
		b = append(b, onOff[p]...)
	}
	if len(briefs) > 0 {
		b = b[:len(b)-1]
	}
	return append(b, "]}"...)
}
