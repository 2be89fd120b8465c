package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/client"
)

const (
	// reconnectTries, with pauses that double from firstPause on, give a gateway that restarts 16 s.
	reconnectTries = 6
	firstPause     = 500 * time.Millisecond
)

const welcome = `Messages are not stored: they go to those devices that are connected when you send them.`

// conversation is a chat on the terminal, over one connection after another.
type conversation struct {
	command *chatCommand
	p       *printer
	cfg     client.Config
	urls    []string

	conn  *client.Conn
	lines chan string        // what is typed; closed when the input ends
	moves chan time.Duration // when the gateway wants conn to be given up for another one
	kept  []string           // lines that were typed while there was no connection
}

// errQuit ends a conversation because the user wants it.
var errQuit = errors.New("the user quits")

// converse chats until the user ends it, or the server does for good.
func (c *chatCommand) converse(ctx context.Context, p *printer, urls []string, cfg client.Config, in terminal) (err error) {
	v := &conversation{
		command: c, cfg: cfg, urls: urls, lines: make(chan string), moves: make(chan time.Duration, 1),
		p: &printer{std: streams{out: in, err: in}, json: p.json}, // so that output does not tear the line that is typed
	}
	v.cfg.OnMessage = func(m client.Message) { showMessage(v.p, m) }
	v.cfg.OnError = func(e *client.Error) { v.p.warn("%s", printable(e.Error())) }
	v.cfg.OnReconnect = func(d time.Duration) {
		select {
		case v.moves <- d:
		default: // one is waiting
		}
	}
	if v.conn, err = client.Dial(ctx, v.cfg); err != nil {
		return err
	}
	defer func() { v.hangUp() }()
	v.p.warn("Logged in as %s on %s.\n%s\n%s", v.conn.UserID(), v.cfg.URL, welcome, chatHelp)

	quit := make(chan struct{})
	defer close(quit)
	go readLines(in, v.lines, quit)
	if err := v.run(ctx); !errors.Is(err, errQuit) {
		return err
	}
	return v.leave(ctx)
}

// run handles lines, and connects again when the connection is lost, until one of them ends the conversation.
func (v *conversation) run(ctx context.Context) error {
	var move <-chan time.Time
	for {
		var lost error
		select {
		case line, ok := <-v.lines:
			if !ok || line == ":q" {
				return errQuit
			}
			v.handleLine(ctx, line)
			continue
		case delay := <-v.moves:
			v.p.warn("The gateway is going away.")
			move = time.After(delay)
			continue
		case <-move:
			lost = &client.ReconnectError{} // the delay is over
		case <-v.conn.Done():
			lost = v.conn.Err()
		case <-ctx.Done():
			return errQuit
		}
		v.hangUp()
		move = nil
		if err := v.reconnect(ctx, lost); err != nil {
			return err
		}
	}
}

// hangUp ends the connection without logging out, and whatever it asked for.
func (v *conversation) hangUp() {
	v.conn.Close()
	<-v.conn.Done()
	select {
	case <-v.moves:
	default:
	}
}

// reconnect connects again after the connection was lost, unless that is of no use, and sends what was typed meanwhile.
func (v *conversation) reconnect(ctx context.Context, lost error) error {
	if final(lost) {
		return v.explain(lost)
	}
	v.event("disconnected", lost)
	v.p.warn("Disconnected: %s. Connecting again.", printable(v.explain(lost).Error()))
	pause := firstPause
	if moved := (*client.ReconnectError)(nil); errors.As(lost, &moved) {
		pause = moved.Delay
	}
	for try := 1; ; try++ {
		v.cfg.URL = v.urls[(try-1)%len(v.urls)]
		conn, err := v.dialAfter(ctx, pause)
		if err == nil {
			v.conn = conn
			v.event("connected", nil)
			v.p.warn("Logged in as %s on %s.", conn.UserID(), v.cfg.URL)
			break
		}
		if errors.Is(err, errQuit) || ctx.Err() != nil {
			return errQuit
		}
		if final(err) || try == reconnectTries {
			return errors.Join(fmt.Errorf("not connected after %d tries: %w", try, err), v.unsent())
		}
		pause = firstPause << (try - 1)
	}
	for _, line := range v.kept {
		v.handleLine(ctx, line)
	}
	v.kept = nil
	return nil
}

// dialAfter connects after a pause. It keeps what is typed meanwhile, and returns errQuit when that is the end.
func (v *conversation) dialAfter(ctx context.Context, pause time.Duration) (*client.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn *client.Conn
		err  error
	}
	dialed := make(chan result, 1)
	go func() {
		select {
		case <-time.After(pause):
			conn, err := client.Dial(ctx, v.cfg)
			dialed <- result{conn, err}
		case <-ctx.Done():
			dialed <- result{err: ctx.Err()}
		}
	}()
	for {
		select {
		case r := <-dialed:
			return r.conn, r.err
		case line, ok := <-v.lines:
			if ok && line != ":q" {
				v.kept = append(v.kept, line)
				continue
			}
			cancel()
			if r := <-dialed; r.conn != nil {
				r.conn.Close()
			}
			return nil, errQuit
		}
	}
}

// unsent says that lines that were kept are lost.
func (v *conversation) unsent() error {
	if len(v.kept) == 0 {
		return nil
	}
	return fmt.Errorf("not sent: %s", printable(strings.Join(v.kept, " / ")))
}

// event tells programs about the connection.
func (v *conversation) event(name string, err error) {
	if !v.p.json {
		return
	}
	event := map[string]string{"event": name, "url": v.cfg.URL}
	if err != nil {
		event["error"] = err.Error()
	}
	_ = v.p.value(event)
}

// final tells whether connecting again is of no use after err, or would do harm.
func final(err error) bool {
	var refused *client.Error
	return errors.Is(err, client.ErrKicked) || errors.As(err, &refused) && !refused.Retryable()
}

// explain says for people why the connection ended.
func (v *conversation) explain(err error) error {
	var moved *client.ReconnectError
	switch {
	case errors.Is(err, client.ErrKicked):
		return fmt.Errorf("%w: device %q of %s is in use there; --device chooses another one", err, v.conn.DeviceID(), v.conn.UserID())
	case errors.As(err, &moved), websocket.IsCloseError(err, websocket.CloseGoingAway):
		return errors.New("the gateway is going away")
	case websocket.IsUnexpectedCloseError(err):
		return fmt.Errorf("the gateway is gone: %w", err)
	}
	return err
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

// leave logs out, unless the connection is lost already.
func (v *conversation) leave(ctx context.Context) error {
	if v.conn.Err() != nil {
		return v.unsent()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.command.Timeout)
	defer cancel()
	return v.conn.Logout(ctx)
}

// handleLine does what a line says; what goes wrong with it does not end the chat.
func (v *conversation) handleLine(ctx context.Context, line string) {
	to, text, private := strings.Cut(line, ";;")
	to, text = strings.TrimSpace(to), strings.TrimSpace(text)
	if !private {
		to, text = v.command.To, line
	}
	switch {
	case line == "":
		return
	case !private && strings.HasPrefix(line, ":"):
		if line != ":all" {
			v.p.warn("There is no command %s.", printable(line))
		}
		v.p.warn("%s", chatHelp)
		return
	case to == "" && private:
		v.notSent(to, errors.New("no user before ;;"))
		return
	case to == "":
		v.notSent(to, errors.New("to whom? Write user;;text, or start with --to USER"))
		return
	case text == "":
		v.notSent(to, fmt.Errorf("no text for %s after ;;", to))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, v.command.Timeout)
	defer cancel()
	receipt, err := v.conn.SendText(ctx, to, text)
	switch {
	case err != nil:
		v.notSent(to, err)
	case v.p.json:
		_ = v.p.value(receiptJSON{"receipt", receipt.MsgID, to, int(receipt.Code), receipt.Time})
	}
}

func (v *conversation) notSent(to string, err error) {
	if v.p.json {
		_ = v.p.value(map[string]string{"event": "error", "toId": to, "error": err.Error()})
		return
	}
	v.p.warn("Not sent: %s", printable(err.Error()))
}
