package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/client"
)

// conversation is a chat on the terminal.
type conversation struct {
	command *chatCommand
	p       *printer
	in      terminal
	chat    *client.Client // fixed before ready is closed
	ready   chan struct{}
	to      target // where a plain line goes; owned by converse
	log     scrollback
	*completer
	hook *hook // nil unless a command handles messages

	mu     sync.Mutex
	lost   bool     // since the last login
	failed []string // lines that were not sent
}

// target is whom a line goes to: a user, a group, or everybody.
type target struct{ user, group string }

func (t target) String() string {
	switch {
	case t.user != "":
		return t.user
	case t.group != "":
		return "group " + t.group
	}
	return "everybody"
}

func newConversation(c *chatCommand, p *printer, in terminal, known *completer) *conversation {
	v := &conversation{
		command: c, in: in, to: target{user: c.To, group: c.Group}, completer: known, ready: make(chan struct{}),
		p: &printer{std: streams{out: in, err: in}, json: p.json, colour: p.colour}, // so that output does not tear the line that is typed
	}
	if c.OnMessage != "" {
		v.hook = newHook(c.hookFlags, v.p)
	}
	return v
}

// converse chats until the user ends it, or the server does for good.
func (v *conversation) converse(ctx context.Context, cfg client.Config) error {
	cfg.OnMessage = func(ctx context.Context, m client.Message) error { v.received(ctx, m); return nil }
	cfg.ManualAck = v.hook != nil
	cfg.OnError = func(err error) { v.p.warn("%s", printable(err.Error())) }
	cfg.OnState, cfg.OnPresence = v.stateChanged, v.changed
	dialing, cancel := context.WithTimeout(ctx, v.command.Timeout)
	defer cancel()
	var err error
	if v.chat, err = client.Dial(dialing, cfg); err != nil {
		return err
	}
	if v.hook != nil {
		v.hook.chat = v.chat
		defer v.hook.cancel()
	}
	close(v.ready)
	defer func() { v.chat.Close(); <-v.chat.Done() }()
	v.p.warn("Lines go to %s; \":all\" shows the commands.", printable(v.to.String()))

	lines, quit := make(chan string), make(chan struct{})
	defer close(quit)
	go readLines(v.in, lines, quit)
	for {
		select {
		case line, ok := <-lines:
			if !ok && v.hook != nil && !v.in.interactive() {
				lines = nil // nothing more to send; what arrives goes on
				continue
			}
			if !ok || line == ":q" {
				return v.leave(ctx)
			}
			v.handleLine(ctx, line)
		case <-v.chat.Done():
			return errors.Join(v.explain(v.chat.Err()), v.unsent())
		case <-ctx.Done():
			return v.leave(ctx)
		}
	}
}

// leave logs out after what was typed is sent; without a connection it does not wait for one.
func (v *conversation) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.command.Timeout)
	defer cancel()
	if v.hook != nil {
		v.hook.stop(ctx)
	}
	if s := v.chat.State().State; s != client.StateOnline && s != client.StateMoving {
		v.chat.Close()
		<-v.chat.Done()
		return v.unsent()
	}
	err := v.chat.Logout(ctx)
	<-v.chat.Done()
	return errors.Join(err, v.unsent())
}

// stateChanged tells what happens to the connection.
func (v *conversation) stateChanged(s client.StateChange) {
	<-v.ready
	v.mu.Lock()
	lostBefore := v.lost
	v.lost = s.State == client.StateOffline
	v.mu.Unlock()
	switch s.State {
	case client.StateOnline:
		v.event("connected", s)
		v.p.warn("Logged in as %s on %s.", printable(v.chat.UserID()), s.URL)
	case client.StateMoving:
		v.event("moving", s)
		v.p.warn("The gateway is going away; moving to another one.")
	case client.StateOffline:
		if !lostBefore {
			v.event("disconnected", s)
			v.p.warn("Disconnected: %s. Connecting again; what you write waits.", printable(v.explain(s.Err).Error()))
		}
	}
}

// event tells programs about the connection.
func (v *conversation) event(name string, s client.StateChange) {
	if !v.p.json {
		return
	}
	event := map[string]string{"event": name, "url": s.URL}
	if s.Err != nil {
		event["error"] = s.Err.Error()
	}
	_ = v.p.value(event)
}

// explain says for people why the connection ended.
func (v *conversation) explain(err error) error {
	var move *client.MoveError
	switch {
	case errors.Is(err, client.ErrKicked):
		return fmt.Errorf("%w: device %q of %s is in use there; --device chooses another one", err, v.chat.DeviceID(), v.chat.UserID())
	case errors.As(err, &move), websocket.IsCloseError(err, websocket.CloseGoingAway):
		return errors.New("the gateway is going away")
	case websocket.IsUnexpectedCloseError(err):
		return fmt.Errorf("the gateway is gone: %w", err)
	}
	return err
}

// unsent says which lines are lost.
func (v *conversation) unsent() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.failed) == 0 {
		return nil
	}
	return fmt.Errorf("not sent: %s", printable(strings.Join(v.failed, " / ")))
}

// readLines passes lines on until the input ends, and then closes lines. It may outlive its caller, waiting for a line
// that is not typed on a terminal.
func readLines(in terminal, lines chan<- string, quit <-chan struct{}) {
	defer close(lines)
	for {
		line, err := in.ReadLine()
		if err != nil {
			return
		}
		select {
		case lines <- strings.TrimSpace(line):
		case <-quit:
			return
		}
	}
}

// handleLine does what a line says; what goes wrong with it does not end the chat.
func (v *conversation) handleLine(ctx context.Context, line string) {
	if line == "" {
		return
	}
	if strings.HasPrefix(line, ":") {
		v.obey(ctx, line)
		return
	}
	user, text, private := strings.Cut(line, ";;")
	if !private {
		v.send(ctx, v.to, line, line)
		return
	}
	user, text = strings.TrimSpace(user), strings.TrimSpace(text)
	switch {
	case user == "":
		v.notSent(target{}, errors.New("no user before ;;"))
	case text == "":
		v.notSent(target{user: user}, fmt.Errorf("no text for %s after ;;", user))
	default:
		v.send(ctx, target{user: user}, text, line)
	}
}

// send sends a text without waiting for the answer. line is what was typed.
func (v *conversation) send(ctx context.Context, to target, text, line string) {
	m := client.Outgoing{To: to.user, Group: to.group, Everyone: to == target{}, Content: client.Text(text)}
	v.chat.SendAsync(context.WithoutCancel(ctx), m, func(receipt client.Receipt, err error) {
		if err == nil {
			v.accepted(to, text, receipt)
			return
		}
		if errors.Is(err, client.ErrNotSent) || errors.Is(err, client.ErrUnknownOutcome) { // the chat ends
			v.mu.Lock()
			v.failed = append(v.failed, line)
			v.mu.Unlock()
			return
		}
		v.notSent(to, err)
	})
}
