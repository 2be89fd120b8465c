package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/client"
)

const chatHelp = `text                  write to everybody, or to the user or group of --to, --group and :to
user;;text            write to a user
:to USER | :g use G   where the next lines go; :to alone means everybody
:olu                  who is online
:watch USER…          show how users are, and when that changes; alone: those who are watched
:unwatch USER…        no more; alone: nobody any more
:status STATUS TEXT…  what others see of you: online, away, busy or invisible, and a short text
:g create G USER…     make a group         :g add G USER…      add members
:g members G          list the members     :g remove G USER…   remove members
:g leave G            leave a group        :g delete G         delete it
:history [N]          the last messages
:all                  show the commands    :q                  log out and quit`

// commandNames are what Tab completes.
var commandNames = []string{":all", ":g add ", ":g create ", ":g delete ", ":g leave ", ":g members ", ":g remove ", ":g use ", ":history", ":olu", ":q", ":status away", ":status busy", ":status invisible", ":status online", ":to ", ":unwatch ", ":watch "}

// obey does what a line that begins with a colon asks for.
func (v *conversation) obey(ctx context.Context, line string) {
	ctx, cancel := context.WithTimeout(ctx, v.command.Timeout)
	defer cancel()
	words := strings.Fields(line)
	var err error
	switch words[0] {
	case ":all":
		v.p.warn("%s", chatHelp)
	case ":olu":
		err = v.listOnline(ctx)
	case ":watch":
		err = v.obeyWatch(ctx, words[1:])
	case ":unwatch":
		err = v.obeyUnwatch(ctx, words[1:])
	case ":status":
		err = v.obeyStatus(ctx, words[1:])
	case ":history":
		err = v.showHistory(words[1:])
	case ":to":
		v.to = target{user: strings.Join(words[1:], " ")}
		v.p.warn("Lines go to %s.", printable(v.to.String()))
	case ":g":
		err = v.obeyGroup(ctx, words[1:])
	default:
		err = fmt.Errorf("there is no command %s; \":all\" shows those that there are", words[0])
	}
	if err != nil {
		v.complain(err)
	}
}

// complain reports a command that failed.
func (v *conversation) complain(err error) {
	if v.p.json {
		_ = v.p.value(map[string]string{"event": "error", "error": err.Error()})
		return
	}
	v.p.warn("%s", v.p.bad(printable(err.Error())))
}

func (v *conversation) showHistory(words []string) error {
	n := 20
	if len(words) > 0 {
		var err error
		if n, err = strconv.Atoi(words[0]); err != nil || n < 1 {
			return fmt.Errorf(":history wants a number of messages, not %q", words[0])
		}
	}
	for _, line := range v.log.last(n) {
		v.p.warn("%s", line)
	}
	return nil
}

// errUsage is a group command with words missing.
var errUsage = errors.New(`usage: :g create|add|remove G USER…, :g members|leave|delete|use G`)

func (v *conversation) obeyGroup(ctx context.Context, words []string) (err error) {
	if len(words) < 2 {
		return errUsage
	}
	verb, group, users := words[0], words[1], words[2:]
	if (verb == "add" || verb == "remove") == (len(users) == 0) && verb != "create" {
		return errUsage
	}
	var page client.GroupPage
	switch verb {
	case "create":
		page, err = v.chat.CreateGroup(ctx, group, users...)
	case "add":
		page, err = v.chat.AddMembers(ctx, group, users...)
	case "remove":
		page, err = v.chat.RemoveMembers(ctx, group, users...)
	case "leave":
		page, err = v.chat.RemoveMembers(ctx, group, v.chat.UserID())
	case "delete":
		page, err = client.GroupPage{}, v.chat.DeleteGroup(ctx, group)
	case "members":
		return v.listMembers(ctx, group)
	case "use":
		v.to = target{group: group}
		v.p.warn("Lines go to %s.", printable(v.to.String()))
		return nil
	default:
		return errUsage
	}
	if err != nil {
		return err
	}
	v.know(users...)
	if v.p.json {
		return v.p.value(map[string]any{"event": "group", "groupId": group, "action": verb, "count": page.Count})
	}
	v.p.warn("Group %s: %s done; %d members.", printable(group), verb, page.Count)
	return nil
}

func (v *conversation) listMembers(ctx context.Context, group string) error {
	var members []string
	var owner string
	for cursor := ""; ; {
		page, err := v.chat.GroupMembers(ctx, group, cursor, 0)
		if err != nil {
			return err
		}
		members, owner = append(members, page.Members...), page.Owner
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	v.know(members...)
	if v.p.json {
		return v.p.value(map[string]any{"event": "members", "groupId": group, "owner": owner, "users": members})
	}
	v.p.warn("%d members of %s, which is %s's: %s", len(members), printable(group), v.p.user(owner), v.names(members))
	return nil
}

// maxListed bounds what :olu shows.
const maxListed = 200

// listOnline shows who is online, as the gateway says or, where it does not tell clients, the presence service.
func (v *conversation) listOnline(ctx context.Context) error {
	users, count, err := v.askOnline(ctx)
	if err != nil {
		return err
	}
	slices.Sort(users)
	v.know(users...)
	if v.p.json {
		return v.p.value(map[string]any{"event": "online", "users": users, "count": count})
	}
	more := ""
	if count > len(users) {
		more = " …"
	}
	v.p.warn("%d online: %s%s", count, v.names(users), more)
	return nil
}

func (v *conversation) askOnline(ctx context.Context) (users []string, count int, err error) {
	page, err := v.chat.OnlineUsers(ctx, "", maxListed)
	if err == nil {
		return page.Users, max(page.Count, len(page.Users)), nil
	}
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Code != wire.CodeForbidden && refused.Code != wire.CodeUnknownType {
		return nil, 0, err
	}
	presence, configured := v.command.client()
	if configured != nil {
		return nil, 0, err
	}
	list, asked := presence.OnlinePage(ctx, "", maxListed)
	if asked != nil {
		return nil, 0, fmt.Errorf("%w; and the presence service: %w", err, asked)
	}
	counts, asked := presence.Count(ctx)
	if asked != nil {
		return nil, 0, asked
	}
	return list.Users, max(counts.Users, len(list.Users)), nil
}

func (v *conversation) names(users []string) string {
	names := make([]string, len(users))
	for i, u := range users {
		names[i] = v.p.user(u)
	}
	return strings.Join(names, " ")
}
