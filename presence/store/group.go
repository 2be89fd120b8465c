package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Errors of groups.
var (
	// ErrGroupExists says that there is a group with that id.
	ErrGroupExists = errors.New("the group exists")
	// ErrNoGroup says that there is no group with that id.
	ErrNoGroup = errors.New("there is no such group")
	// ErrForbidden says that this user may not do that with the group.
	ErrForbidden = errors.New("not allowed")
	// ErrTooManyMembers says that the group would have more than [MaxGroupMembers]. Nothing was changed.
	ErrTooManyMembers = errors.New("too many members")
	// ErrTooManyGroups says that the user owns as many groups as may be ([Config.MaxOwnedGroups]). Nothing was made.
	ErrTooManyGroups = errors.New("too many groups")
)

// MaxGroupMembers is how many members a group can have.
const MaxGroupMembers = 2000

// tombstoneTTL is for how long the version of a deleted group is kept: longer than clocks are set back.
const tombstoneTTL = time.Hour

// Group is a set of users who get the messages that are sent to it.
type Group struct {
	ID string
	// Owner may change the group, and is always a member; empty if only the application's back end may.
	Owner string
	// Version goes up with every change.
	Version uint64
	// Members is how many there are.
	Members int
	Created time.Time // by Redis' clock
}

// MemberPage is a part of the members of a group.
type MemberPage struct {
	Group
	// Page are members, sorted by their bytes.
	Page []string
	// Next is the cursor of the next page; empty after the last one.
	Next string
}

// CreateGroup makes a group of the members for a user, who owns it and is added to them. ErrUnavailable leaves open whether it
// was made; ErrStoreFull says that there is no memory for it, ErrTooManyGroups that the user owns too many.
func (s *Store) CreateGroup(ctx context.Context, id, owner string, members []string) (Group, error) {
	return s.createGroup(ctx, uuid.NewString(), id, owner, members, s.cfg.MaxOwnedGroups)
}

// CreateGroupOnce is CreateGroup for the application's back end: without an owner (empty) the group is its alone, and users
// may own any number. It may be repeated with the same key: it then returns the group that the first call made, as it is now,
// instead of ErrGroupExists.
func (s *Store) CreateGroupOnce(ctx context.Context, key, id, owner string, members []string) (Group, error) {
	return s.createGroup(ctx, key, id, owner, members, 0)
}

// createGroup makes a group unless its owner has most already; zero: there is no limit.
func (s *Store) createGroup(ctx context.Context, key, id, owner string, members []string, most int) (Group, error) {
	members = slices.Clone(members)
	if owner != "" {
		members = append(members, owner)
	}
	slices.Sort(members)
	members = slices.Compact(members)
	if len(members) > MaxGroupMembers {
		return Group{}, fmt.Errorf("create group: %w", ErrTooManyMembers)
	}
	err := s.room(ctx, Partition(id))
	if err == nil {
		err = s.claimGroup(ctx, owner, id, most)
	}
	var reply groupReply
	if err == nil {
		reply, err = s.groupCall(ctx, groupCreateScript, id, append([]string{owner, callID(key)}, members...))
	}
	s.noteOwner(ctx, owner, id, err)
	if err != nil {
		return Group{}, fmt.Errorf("create group: %w", err)
	}
	return reply.group, nil
}

// callID is what a group keeps of the key of a call.
func callID(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:8])
}

// Group returns a group as actor may see it: its members, and the back end (empty).
func (s *Store) Group(ctx context.Context, id, actor string) (Group, error) {
	page, err := s.Members(ctx, id, actor, "", 0)
	return page.Group, err
}

// AddMembers adds users to a group, all or none. Only the owner may, and the back end (empty actor). Who is a member already
// stays one.
func (s *Store) AddMembers(ctx context.Context, id, actor string, users []string) (Group, error) {
	// Who exceeds the limit alone is refused by the script, which knows who is a member already.
	args := append([]string{actor, fmt.Sprint(MaxGroupMembers)}, unique(users)...)
	err := s.room(ctx, Partition(id))
	var reply groupReply
	if err == nil {
		reply, err = s.groupCall(ctx, groupAddScript, id, args)
	}
	if err != nil {
		return Group{}, fmt.Errorf("add members: %w", err)
	}
	s.noteOwner(ctx, reply.group.Owner, id, nil)
	return reply.group, nil
}

// RemoveMembers removes users from a group. The owner may, and the back end (empty actor); every member may leave, but for
// the owner. A group whose owner is removed is the back end's alone. Who is no member is passed over.
func (s *Store) RemoveMembers(ctx context.Context, id, actor string, users []string) (Group, error) {
	reply, err := s.groupCall(ctx, groupRemoveScript, id, append([]string{actor}, unique(users)...))
	if err != nil {
		return Group{}, fmt.Errorf("remove members: %w", err)
	}
	s.noteOwner(ctx, reply.group.Owner, id, nil)
	return reply.group, nil
}

// unique returns each user once. A user twice would be counted twice.
func unique(users []string) []string {
	users = slices.Clone(users)
	slices.Sort(users)
	return slices.Compact(users)
}

// Members returns up to limit members after a cursor that an earlier page gave; from the start if it is empty. Members may
// ask, and the back end (empty actor). Who is a member from the first page to the last is in one of them.
func (s *Store) Members(ctx context.Context, id, actor, cursor string, limit int) (MemberPage, error) {
	from := "-"
	if cursor != "" {
		last, err := base64.RawURLEncoding.DecodeString(cursor)
		if err != nil || len(last) == 0 {
			return MemberPage{}, fmt.Errorf("list members: %w", ErrInvalidCursor)
		}
		from = "(" + string(last)
	}
	reply, err := s.groupCall(ctx, groupMembersScript, id, []string{actor, from, fmt.Sprint(limit + 1)})
	if err != nil {
		return MemberPage{}, fmt.Errorf("list members: %w", err)
	}
	page := MemberPage{Group: reply.group}
	if page.Page = reply.members; len(page.Page) > limit {
		if page.Page = page.Page[:limit]; limit > 0 {
			page.Next = base64.RawURLEncoding.EncodeToString([]byte(page.Page[limit-1]))
		}
	}
	return page, nil
}

// DeleteGroup deletes a group. Its owner may, and the back end (empty actor). Messages that were sent stay due.
func (s *Store) DeleteGroup(ctx context.Context, id, actor string) error {
	args := []string{actor, callID(uuid.NewString()), fmt.Sprint(tombstoneTTL.Milliseconds())}
	reply, err := s.groupCall(ctx, groupDeleteScript, id, args)
	if err != nil {
		return fmt.Errorf("delete group: %w", err)
	}
	s.forgetOwned(ctx, reply.group.Owner, id)
	return nil
}

type groupReply struct {
	group   Group
	members []string
}

// groupCall runs a script of a group.
func (s *Store) groupCall(ctx context.Context, sc *script, id string, args []string) (groupReply, error) {
	part := Partition(id)
	all := make([]any, len(args))
	for i, a := range args {
		all[i] = a
	}
	q := eval(part, sc, s.keys.groupKeys(part, id), all...)
	var err error
	if sc == groupMembersScript {
		err = s.exchange(ctx, q)
	} else {
		err = s.write(ctx, q)
	}
	if err != nil {
		return groupReply{}, err
	}
	list := q.list()
	if err := groupError(list); err != nil {
		return groupReply{}, err
	}
	if len(list) < 5 {
		return groupReply{}, fmt.Errorf("unexpected reply %v", list)
	}
	reply := groupReply{group: Group{
		ID: id, Version: uint64(intOf(list[1])), Owner: textOf(list[2]), Created: time.UnixMilli(intOf(list[3])), Members: int(intOf(list[4])),
	}}
	if len(list) > 5 {
		reply.members = texts(list[5])
	}
	return reply, nil
}

// groupError is what the status of a script of groups means.
func groupError(reply []any) error {
	if len(reply) == 0 {
		return errors.New("unexpected reply")
	}
	switch status := textOf(reply[0]); status {
	case "OK":
		return nil
	case "NONE":
		return ErrNoGroup
	case "EXISTS":
		return ErrGroupExists
	case "FULL":
		return ErrTooManyMembers
	case "FORBIDDEN":
		return ErrForbidden
	case "OWNER":
		return fmt.Errorf("%w: the owner cannot leave the group, but delete it", ErrForbidden)
	default:
		return fmt.Errorf("unexpected reply %q", status)
	}
}

// texts reads a list of strings.
func texts(v any) []string {
	list, _ := v.([]any)
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = textOf(e)
	}
	return out
}
