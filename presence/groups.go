package presence

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/store"
)

// maxMembersBytes is what a list of the most members can take, every byte of every id escaped as \u00xx.
const maxMembersBytes = store.MaxGroupMembers*(6*wire.MaxUserID+8) + 4<<10

var errGroupNotFound = &requestError{http.StatusNotFound, codeGroupNotFound, "there is no such group"}

// groupAnswer describes a group.
type groupAnswer struct {
	Group   string    `json:"group"`
	Owner   string    `json:"owner,omitempty"`
	Members int       `json:"members"`
	Created time.Time `json:"created"`
}

func answerGroup(g store.Group) groupAnswer {
	return groupAnswer{Group: g.ID, Owner: g.Owner, Members: g.Members, Created: g.Created.UTC()}
}

// groupError turns what the store says of a group into an answer.
func groupError(err error) error {
	switch {
	case errors.Is(err, store.ErrNoGroup):
		return errGroupNotFound
	case errors.Is(err, store.ErrGroupExists):
		return &requestError{http.StatusConflict, codeGroupExists, "there is a group with that id"}
	case errors.Is(err, store.ErrTooManyMembers):
		return &requestError{http.StatusBadRequest, codeTooManyMembers,
			fmt.Sprintf("a group has at most %d members; nothing was changed", store.MaxGroupMembers)}
	case errors.Is(err, store.ErrStoreFull):
		return &requestError{http.StatusServiceUnavailable, codeStoreFull, "the memory of Redis is nearly full, and takes no groups"}
	case errors.Is(err, store.ErrInvalidCursor):
		return invalid("cursor: is not one that an earlier answer gave as nextCursor; start again without it")
	}
	return err
}

// checkGroup refuses what cannot be a group id; the error names the field.
func checkGroup(field, id string) error {
	if e, ok := errors.AsType[*wire.Error](wire.CheckGroupID(id)); ok {
		return invalid("%s: %s", field, e.Message)
	}
	return nil
}

// pathGroup returns the group of the path.
func pathGroup(r *http.Request) (string, error) {
	id := r.PathValue("group")
	return id, checkGroup("group", id)
}

// groupRequest is the body of POST /v1/groups.
type groupRequest struct {
	Group   string   `json:"group"`
	Owner   *string  `json:"owner"`
	Members []string `json:"members"`
}

func (s *Server) createGroup(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	body, err := readBody(w, r, maxMembersBytes)
	if err != nil {
		return err
	}
	var q groupRequest
	if err := parseObject(body, &q, `{"group":"team","members":["alice"]}`); err != nil {
		return err
	}
	key, err := idempotencyKey(r, "")
	if err != nil {
		return err
	}
	if err := checkGroup("group", q.Group); err != nil {
		return err
	}
	owner := ""
	if q.Owner != nil {
		if err := checkUser("owner", *q.Owner); err != nil {
			return err
		}
		owner = *q.Owner
	}
	if err := checkUsers("members", q.Members); err != nil {
		return err
	}
	if key == "" {
		key = uuid.NewString()
	}
	g, err := s.model.CreateGroupOnce(r.Context(), key, q.Group, owner, q.Members)
	return s.respondGroup(w, r, "create", g, err)
}

// respondGroup answers a change of a group, and counts it.
func (s *Server) respondGroup(w http.ResponseWriter, r *http.Request, change string, g store.Group, err error) error {
	s.telem.changed(r.Context(), change, err)
	if err != nil {
		return groupError(err)
	}
	return respondValue(w, answerGroup(g))
}

func (s *Server) getGroup(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	id, err := pathGroup(r)
	if err != nil {
		return err
	}
	page, err := s.model.Members(r.Context(), id, "", "", 0)
	if err != nil {
		return groupError(err)
	}
	return respondValue(w, answerGroup(page.Group))
}

func (s *Server) deleteGroup(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	id, err := pathGroup(r)
	if err != nil {
		return err
	}
	err = s.model.DeleteGroup(r.Context(), id, "")
	s.telem.changed(r.Context(), "delete", err)
	if err != nil {
		return groupError(err)
	}
	return respondValue(w, struct{}{})
}

func (s *Server) listMembers(w http.ResponseWriter, r *http.Request) error {
	params, err := parameters(r, "limit", "cursor")
	if err != nil {
		return err
	}
	id, err := pathGroup(r)
	if err != nil {
		return err
	}
	limit, err := pageLimit(params)
	if err != nil {
		return err
	}
	page, err := s.model.Members(r.Context(), id, "", params.Get("cursor"), limit)
	if err != nil {
		return groupError(err)
	}
	return respondValue(w, struct {
		groupAnswer
		Users []string `json:"users"`
		Next  string   `json:"nextCursor,omitempty"`
	}{answerGroup(page.Group), append([]string{}, page.Page...), page.Next})
}

// pageLimit is how long a page shall be.
func pageLimit(params url.Values) (int, error) {
	text := params.Get("limit")
	if text == "" {
		return defaultPage, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxPage {
		return 0, invalid("limit: must be a number from 1 to %d", maxPage)
	}
	return limit, nil
}

// ownedBatch is how many groups of a user one request deletes.
const ownedBatch = 200

func (s *Server) listOwnedGroups(w http.ResponseWriter, r *http.Request) error {
	params, err := parameters(r, "limit", "cursor")
	if err != nil {
		return err
	}
	user := r.PathValue("user")
	if err := checkUser("user", user); err != nil {
		return err
	}
	limit, err := pageLimit(params)
	if err != nil {
		return err
	}
	page, err := s.model.OwnedGroups(r.Context(), user, params.Get("cursor"), limit)
	if err != nil {
		return groupError(err)
	}
	answer := struct {
		Groups []groupAnswer `json:"groups"`
		Next   string        `json:"nextCursor,omitempty"`
	}{make([]groupAnswer, len(page.Groups)), page.Next}
	for i, g := range page.Groups {
		answer.Groups[i] = answerGroup(g)
	}
	return respondValue(w, answer)
}

// deleteOwnedGroups deletes some of the groups that a user owns, and tells whether there are more.
func (s *Server) deleteOwnedGroups(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	user := r.PathValue("user")
	if err := checkUser("user", user); err != nil {
		return err
	}
	page, err := s.model.OwnedGroups(r.Context(), user, "", ownedBatch)
	if err != nil {
		return groupError(err)
	}
	deleted := 0
	for _, g := range page.Groups {
		// As its owner, so that a group that changed hands meanwhile stays.
		err := s.model.DeleteGroup(r.Context(), g.ID, user)
		if errors.Is(err, store.ErrNoGroup) || errors.Is(err, store.ErrForbidden) {
			continue
		}
		s.telem.changed(r.Context(), "delete", err)
		if err != nil {
			return groupError(err)
		}
		deleted++
	}
	return respondValue(w, struct {
		Deleted int  `json:"deleted"`
		More    bool `json:"more"`
	}{deleted, page.Next != ""})
}

func (s *Server) addMembers(w http.ResponseWriter, r *http.Request) error {
	id, users, err := s.memberChange(w, r)
	if err != nil {
		return err
	}
	g, err := s.model.AddMembers(r.Context(), id, "", users)
	return s.respondGroup(w, r, "add", g, err)
}

func (s *Server) removeMembers(w http.ResponseWriter, r *http.Request) error {
	id, users, err := s.memberChange(w, r)
	if err != nil {
		return err
	}
	g, err := s.model.RemoveMembers(r.Context(), id, "", users)
	return s.respondGroup(w, r, "remove", g, err)
}

// membersRequest is the body of requests to add or remove members.
type membersRequest struct {
	Users []string `json:"users"`
}

// memberChange reads a request to add or remove members.
func (s *Server) memberChange(w http.ResponseWriter, r *http.Request) (group string, users []string, err error) {
	if _, err := parameters(r); err != nil {
		return "", nil, err
	}
	if group, err = pathGroup(r); err != nil {
		return "", nil, err
	}
	body, err := readBody(w, r, maxMembersBytes)
	if err != nil {
		return "", nil, err
	}
	var q membersRequest
	if err := parseObject(body, &q, `{"users":["alice"]}`); err != nil {
		return "", nil, err
	}
	switch n := len(q.Users); {
	case n == 0:
		return "", nil, invalid("users: is missing or empty; list the user ids")
	case n > store.MaxGroupMembers:
		return "", nil, &requestError{http.StatusBadRequest, codeTooManyUsers,
			fmt.Sprintf("users: %d are too many; name at most %d at once", n, store.MaxGroupMembers)}
	}
	return group, q.Users, checkUsers("users", q.Users)
}
