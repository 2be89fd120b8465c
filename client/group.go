package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/imcluster/imcluster/api/wire"
)

// GroupPage is a group, with a part of its members.
type GroupPage struct {
	ID, Owner string
	// Members are sorted; Count is how many there are in all.
	Members []string
	Count   int
	// Cursor asks for the next page; empty after the last one.
	Cursor string
}

// UserPage is a part of the list of online users.
type UserPage struct {
	Users []string
	// Count is how many there are in all.
	Count int
	// Cursor asks for the next page; empty after the last one.
	Cursor string
}

// CreateGroup makes a group that this user owns and is a member of. An id that is taken is an [*Error] with
// wire.CodeConflict. A server that does not let clients manage groups answers with wire.CodeForbidden.
func (c *Client) CreateGroup(ctx context.Context, id string, members ...string) (GroupPage, error) {
	return c.group(ctx, wire.Frame{Action: wire.GroupCreate, GroupID: id, Users: members})
}

// AddMembers adds users to a group. Only its owner may; a group has 2,000 members at most.
func (c *Client) AddMembers(ctx context.Context, id string, users ...string) (GroupPage, error) {
	return c.group(ctx, wire.Frame{Action: wire.GroupAdd, GroupID: id, Users: users})
}

// RemoveMembers removes users from a group. Its owner may remove everybody, members themselves.
func (c *Client) RemoveMembers(ctx context.Context, id string, users ...string) (GroupPage, error) {
	return c.group(ctx, wire.Frame{Action: wire.GroupRemove, GroupID: id, Users: users})
}

// GroupMembers returns up to limit members of a group (0 means as many as the server likes), from a cursor on or, if it
// is empty, from the start. Only members may ask.
func (c *Client) GroupMembers(ctx context.Context, id, cursor string, limit int) (GroupPage, error) {
	return c.group(ctx, wire.Frame{Action: wire.GroupMembers, GroupID: id, Cursor: cursor, Limit: int64(limit)})
}

// DeleteGroup deletes a group. Only its owner may.
func (c *Client) DeleteGroup(ctx context.Context, id string) error {
	_, err := c.group(ctx, wire.Frame{Action: wire.GroupDelete, GroupID: id})
	return err
}

// group does what a GROUP frame asks for. Making and deleting a group is not sent twice: the second answer would be that
// it exists, or does not.
func (c *Client) group(ctx context.Context, fr wire.Frame) (GroupPage, error) {
	page, err := c.groupPage(ctx, fr)
	if err != nil {
		return GroupPage{}, fmt.Errorf("group %s: %s: %w", fr.GroupID, fr.Action, err)
	}
	return page, nil
}

func (c *Client) groupPage(ctx context.Context, fr wire.Frame) (GroupPage, error) {
	if err := checkGroupID(fr.GroupID); err != nil {
		return GroupPage{}, err
	}
	for _, user := range fr.Users {
		if err := wire.CheckUserID(user); err != nil {
			return GroupPage{}, err
		}
	}
	fr.Type, fr.RequestID = wire.TypeGroup, uuid.NewString()
	answer, err := c.call(ctx, &request{frame: fr, key: waitKey{wire.TypeGroupResp, fr.RequestID},
		resend: fr.Action != wire.GroupCreate && fr.Action != wire.GroupDelete, retry: c.cfg.RetryRefused})
	if err != nil {
		return GroupPage{}, err
	}
	return GroupPage{ID: fr.GroupID, Owner: answer.Owner, Members: answer.Users, Count: int(answer.Count), Cursor: answer.Cursor}, nil
}

// OnlineUsers returns up to limit online users (0 means as many as the server likes), from a cursor on or, if it is empty,
// from the start. Servers allow it to clients only if they are set to; otherwise it is an [*Error] with wire.CodeForbidden.
func (c *Client) OnlineUsers(ctx context.Context, cursor string, limit int) (UserPage, error) {
	fr := wire.Frame{Type: wire.TypeOnlineList, Cursor: cursor, Limit: int64(limit), RequestID: uuid.NewString()}
	answer, err := c.call(ctx, &request{frame: fr, key: waitKey{wire.TypeOnlineListResp, fr.RequestID}, resend: true, retry: c.cfg.RetryRefused})
	if err != nil {
		return UserPage{}, fmt.Errorf("list who is online: %w", err)
	}
	return UserPage{Users: answer.Users, Count: int(answer.Count), Cursor: answer.Cursor}, nil
}

func checkGroupID(id string) error {
	if id == "" {
		return errors.New("the id of the group is empty")
	}
	return wire.CheckGroupID(id)
}
