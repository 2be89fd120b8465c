package store

import (
	"fmt"
	"strconv"
	"time"
)

const (
	// groupIDs is how many messages of a group are remembered, for groupIDTime. 128 is what a listpack holds by default.
	groupIDs    = 128
	groupIDTime = 24 * time.Hour
)

// GroupSend says whom a message to a group is due to.
type GroupSend struct {
	// Version of the group that the members are of.
	Version uint64
	// Members, sorted; nil if the caller knows them.
	Members []string
	// Done: every member has the message already.
	Done bool
}

// BeginGroup is the first step of sending a message to a group: it checks that the sender is a member (empty: the
// application's back end, which need not be) and returns who is. Store the message for every one of them, then call
// [Member.FinishGroup]. A message that was begun and not finished, because a gateway died, is begun again when it is sent
// again, with the members of that time; one that was finished is Done, if it is among the last 128 of the group and not older
// than 24 h.
//
// known is the version whose members the caller has; 0 if none. It is ordered behind what was begun before in the group.
// Errors: ErrUnavailable, ErrNoGroup, ErrForbidden. done is called once and must not block.
func (m *Member) BeginGroup(group, sender string, msgID [16]byte, known uint64, done func(GroupSend, error)) {
	part := Partition(group)
	o := m.groupOp(opBeginGroup, part, groupBeginScript, m.store.keys.groupKeys(part, group),
		sender, string(msgID[:]), strconv.FormatUint(known, 10), groupIDs, groupIDTime.Milliseconds())
	o.finish = func(_ *lanes, o *op, reply any, err error) {
		o.free()
		send, err := parseGroupSend(reply, err)
		if err != nil {
			err = fmt.Errorf("begin to send to a group: %w", err)
		}
		done(send, err)
	}
	m.lanes.push(o)
}

// FinishGroup notes that every member of a group has the message. It does not block. If it is lost, because Redis does not
// answer in time, a resend is sent to everybody again, who have it already.
func (m *Member) FinishGroup(group string, msgID [16]byte) {
	part := Partition(group)
	o := m.groupOp(opFinishGroup, part, groupFinishScript, m.store.keys.groupKeys(part, group)[2:], string(msgID[:]))
	o.finish = func(_ *lanes, o *op, _ any, _ error) { o.free() }
	m.lanes.push(o)
}

// groupOp makes an op whose arguments are known now.
func (m *Member) groupOp(k kind, part int, sc *script, keys []string, args ...any) *op {
	o := newOp(k, part, Session{})
	o.deadline = o.queued.Add(m.store.cfg.OpTimeout)
	o.fixed = sc.eval(keys, args...)
	return o
}

func parseGroupSend(reply any, err error) (GroupSend, error) {
	if err != nil {
		return GroupSend{}, err
	}
	list, _ := reply.([]any)
	if err := groupError(list); err != nil {
		return GroupSend{}, err
	}
	if len(list) < 3 {
		return GroupSend{}, fmt.Errorf("unexpected reply %v", list)
	}
	send := GroupSend{Version: uint64(intOf(list[1])), Done: textOf(list[2]) == "1"}
	if len(list) > 3 {
		send.Members = texts(list[3])
	}
	return send, nil
}
