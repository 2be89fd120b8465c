package gateway

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/store"
)

const (
	// maxAsking is how many requests of clients may wait for the store at once. Each holds a goroutine.
	maxAsking = 256
	// askTimeout is how long the store may take.
	askTimeout = 5 * time.Second
	// defaultPage and maxPage are how many users a list has.
	defaultPage = 100
	maxPage     = 1000
)

var (
	errNotAllowed    = wire.Errorf(wire.CodeForbidden, "this cluster does not let clients do that")
	errUnknownAction = wire.Errorf(wire.CodeBadField, `field "action" is not one that is known`)
)

// ask answers a request that has to wait for the store, by what do returns.
func (c *conn) ask(fr *wire.Frame, do func(context.Context, membership) (wire.Frame, error)) {
	g := c.g
	defer g.asking.Add(-1)
	member := g.registry()
	if g.asking.Add(1) > maxAsking || member == nil {
		c.refuse(fr, errAskLater, stateOpen)
		return
	}
	c.letOthersWrite()
	ctx, cancel := context.WithTimeout(g.ctx, askTimeout)
	defer cancel()
	answer, err := do(ctx, member)
	if err != nil {
		c.refuse(fr, g.askError(err), stateOpen)
		return
	}
	answer.Type, answer.Code, answer.RequestID = fr.Type.Answer(), wire.CodeOK, fr.RequestID
	c.send(&answer)
}

// askError returns what to tell a client.
func (g *Gateway) askError(err error) error {
	if refused, ok := errors.AsType[*wire.Error](err); ok {
		return refused
	}
	switch {
	case errors.Is(err, store.ErrNoGroup):
		return errNoGroup
	case errors.Is(err, store.ErrForbidden):
		return errGroupForbidden
	case errors.Is(err, store.ErrGroupExists):
		return errGroupExists
	case errors.Is(err, store.ErrTooManyMembers):
		return errTooManyMembers
	case errors.Is(err, store.ErrTooManyGroups):
		return wire.Errorf(wire.CodeTooMuch, "a user owns at most %d groups; delete one that is not needed", g.cfg.Store.MaxOwnedGroups)
	case errors.Is(err, store.ErrInvalidCursor):
		return errBadCursor
	case errors.Is(err, store.ErrStoreFull):
		return errStoreFull
	}
	g.logRare.log(g.ctx, "asking the store for a client", "error", err)
	return errAskLater
}

func pageSize(limit int64) int { return int(min(cmp.Or(limit, defaultPage), maxPage)) }

// group handles GROUP.
func (c *conn) group(fr *wire.Frame) {
	if c.g.cfg.DenyClientGroups && fr.Action != wire.GroupMembers {
		c.refuse(fr, errNotAllowed, stateOpen)
		return
	}
	c.ask(fr, func(ctx context.Context, m membership) (wire.Frame, error) {
		var page store.MemberPage
		var err error
		switch fr.Action {
		case wire.GroupCreate:
			page.Group, err = m.CreateGroup(ctx, fr.GroupID, c.user, fr.Users)
		case wire.GroupAdd:
			page.Group, err = m.AddMembers(ctx, fr.GroupID, c.user, fr.Users)
		case wire.GroupRemove:
			page.Group, err = m.RemoveMembers(ctx, fr.GroupID, c.user, fr.Users)
		case wire.GroupMembers:
			page, err = m.Members(ctx, fr.GroupID, c.user, fr.Cursor, pageSize(fr.Limit))
		case wire.GroupDelete:
			err = m.DeleteGroup(ctx, fr.GroupID, c.user)
		default:
			err = errUnknownAction
		}
		return wire.Frame{GroupID: fr.GroupID, Owner: page.Owner, Count: int64(page.Members), Users: page.Page, Cursor: page.Next}, err
	})
}

// onlineList handles ONLINE_LIST.
func (c *conn) onlineList(fr *wire.Frame) {
	if !c.g.cfg.AllowOnlineList {
		c.refuse(fr, errNotAllowed, stateOpen)
		return
	}
	c.ask(fr, func(ctx context.Context, m membership) (wire.Frame, error) {
		page, err := m.Online(ctx, fr.Cursor, pageSize(fr.Limit))
		if err != nil {
			return wire.Frame{}, err
		}
		answer := wire.Frame{Users: page.Users, Cursor: page.Next}
		if fr.Cursor == "" { // it reads all partitions, so the pages after the first do without
			counts, err := m.Counts(ctx)
			if err != nil {
				return wire.Frame{}, err
			}
			answer.Count = int64(counts.Users)
		}
		return answer, nil
	})
}
