package gateway

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/store"
)

// maxCachedMembers is how many members of groups are remembered, over all groups: some 25 MB.
const maxCachedMembers = 250_000

// groupPrefix begins what msgIds of messages to a group are derived from instead of a user, which has no such characters.
const groupPrefix = "\x00g"

// Refusals of what is asked of groups.
var (
	errNoGroup        = wire.Errorf(wire.CodeNotFound, "there is no such group")
	errNotMember      = wire.Errorf(wire.CodeForbidden, "only members may send to the group")
	errGroupExists    = wire.Errorf(wire.CodeConflict, "there is a group with that id")
	errGroupForbidden = wire.Errorf(wire.CodeForbidden, "only the owner may do that, and members may list who is in the group, and leave it")
	errTooManyMembers = wire.Errorf(wire.CodeTooMuch, "a group has at most %d members", store.MaxGroupMembers)
	errBadCursor      = wire.Errorf(wire.CodeBadField, `field "cursor" is not one that an earlier answer had`)
	errAskLater       = wire.Errorf(wire.CodeUnavailable, "the store cannot be asked now; try again after delayMs")
)

// groupChat handles GROUP_CHAT: the message is stored for every member but the sender, and then answered. If that fails
// half way the client is told to send it again, which finishes it: nobody gets it twice with another msgId.
func (c *conn) groupChat(fr *wire.Frame) {
	g := c.g
	member := g.registry()
	if err := g.groupQuota.check(c.user); err != nil {
		c.refuse(fr, err, stateOpen)
		return
	}
	if member == nil || !c.reserve(len(fr.Content)) {
		c.refuse(fr, errBusy, stateOpen)
		return
	}
	now := time.Now().UnixMilli()
	msgID := wire.MessageID(c.user, groupPrefix+fr.GroupID, fr.ClientMsgID)
	id, _ := rawID(msgID)
	content := record{from: c.user, group: fr.GroupID, time: now, content: fr.Content}
	// Without a sender: one member who does not read must not have the messages of everybody refused.
	rec := &store.Record{ID: id, Data: content.encode()}
	asked := wire.Frame{GroupID: fr.GroupID, ClientMsgID: fr.ClientMsgID}
	size := len(fr.Content)
	g.sendToGroup(member, fr.GroupID, c.user, rec, size, func(err error) {
		c.release(size)
		if err != nil {
			answer := refusal(wire.TypeGroupChat, &asked, err)
			c.send(&answer)
			return
		}
		c.send(&wire.Frame{Type: wire.TypeGroupChatResp, Code: wire.CodeOK, MsgID: msgID, ClientMsgID: asked.ClientMsgID, Time: now})
	})
}

// sendToGroup stores a message with so many bytes of content for every member of a group but the sender, who has to be one;
// an empty sender is the application's back end. done is called once, on the goroutine of a lane.
func (g *Gateway) sendToGroup(member membership, group, sender string, rec *store.Record, content int, done func(error)) {
	version, members := g.groups.get(group)
	member.BeginGroup(group, sender, rec.ID, version, func(send store.GroupSend, err error) {
		switch {
		case errors.Is(err, store.ErrNoGroup):
			g.groups.forget(group)
			done(errNoGroup)
			return
		case errors.Is(err, store.ErrForbidden):
			done(errNotMember)
			return
		case err != nil:
			g.logRare.log(g.ctx, "sending to a group", "error", err)
			done(errUnavailable)
			return
		case send.Done:
			done(nil)
			return
		case send.Members != nil:
			members = send.Members
			g.groups.put(group, send.Version, members)
		}
		users := members
		if i, ok := slices.BinarySearch(members, sender); ok {
			users = slices.Concat(members[:i], members[i+1:])
		}
		g.fanOutFrom(sender, member, rec, users, content, func(err error) {
			if err == nil {
				member.FinishGroup(group, rec.ID)
			}
			done(err)
		})
	})
}

// fanOutFrom is fanOut within what the sender may have stored. It tells only the worst of the outcomes.
func (g *Gateway) fanOutFrom(sender string, member membership, rec *store.Record, users []string, content int, done func(error)) {
	reserved := len(users) * pendingOverhead
	if sender != "" && len(rec.Data)*len(users) <= maxFanOutBytes { // else it is refused, and costs nothing
		if err := g.groupQuota.take(sender, len(users), content, reserved); err != nil {
			done(err)
			return
		}
		then := done
		done = func(err error) {
			g.groupQuota.release(sender, reserved)
			then(err)
		}
	}
	g.metrics.fanOuts.Add(1)
	g.fanOut(member, rec, users, func(outcomes []error) { done(worst(outcomes)) })
}

// groupCache remembers the members of groups. What it says is only used if the store confirms the version.
type groupCache struct {
	mu      sync.Mutex
	groups  map[string]cachedGroup
	members int
}

type cachedGroup struct {
	version uint64
	members []string // sorted; never changed
}

// get returns the members of a group and the version of the group that they are of; 0 if they are not known.
func (c *groupCache) get(group string) (version uint64, members []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.groups[group]
	return g.version, g.members
}

// put remembers a group, and forgets others at random if they are too many.
func (c *groupCache) put(group string, version uint64, members []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if version < c.groups[group].version {
		return
	}
	c.forgetLocked(group)
	if c.groups == nil {
		c.groups = map[string]cachedGroup{}
	}
	c.groups[group] = cachedGroup{version, members}
	c.members += len(members) + 1
	for other := range c.groups {
		if c.members <= maxCachedMembers {
			break
		}
		if other != group {
			c.forgetLocked(other)
		}
	}
}

func (c *groupCache) forget(group string) {
	c.mu.Lock()
	c.forgetLocked(group)
	c.mu.Unlock()
}

func (c *groupCache) forgetLocked(group string) {
	if g, ok := c.groups[group]; ok {
		c.members -= len(g.members) + 1
		delete(c.groups, group)
	}
}
