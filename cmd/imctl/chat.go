package main

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/cli"
)

type chatCommand struct {
	gatewayFlags `embed:""`
	Token        string        `required:"" help:"Who to log in as: the user id for gateways without authentication, else a JWT."`
	To           string        `placeholder:"USER" help:"Whom to write to."`
	Text         string        `help:"Send this to --to and end."`
	Device       string        `help:"Device to log in as. Default: imctl, or imctl-once with --text"`
	Timeout      time.Duration `default:"15s" help:"How long an answer of the server may take."`
}

const chatHelp = `user;;text   write to a user        text   write to the user of --to
:all         show the commands      :q     log out and quit`

func (c *chatCommand) Run(ctx context.Context, p *printer) error {
	urls, err := c.urls()
	if err != nil {
		return err
	}
	cfg := client.Config{URL: urls[0], Token: c.Token, DeviceID: c.Device, Platform: "imctl"}
	if c.Text != "" {
		if c.To == "" {
			return cli.Configf("--text needs --to")
		}
		return c.sendOne(ctx, p, cfg)
	}
	if cfg.DeviceID == "" {
		cfg.DeviceID = "imctl"
	}
	in, err := openTerminal(p)
	if err != nil {
		return err
	}
	defer in.Close()
	return c.converse(ctx, p, cfg, in)
}

// sendOne sends one message. It logs in as a device of its own, so that it does not replace a running chat.
func (c *chatCommand) sendOne(ctx context.Context, p *printer, cfg client.Config) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if cfg.DeviceID == "" {
		cfg.DeviceID = "imctl-once"
	}
	conn, err := client.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	receipt, err := conn.SendText(ctx, c.To, c.Text)
	if out := conn.Logout(ctx); err == nil {
		err = out
	}
	if err != nil {
		return err
	}
	if p.json {
		return p.value(receiptJSON{"receipt", receipt.MsgID, c.To, int(receipt.Code), receipt.Time})
	}
	p.line("Accepted at %s as %s.", receipt.Time.Local().Format("15:04:05"), receipt.MsgID)
	return nil
}

type receiptJSON struct {
	Event string    `json:"event"`
	MsgID string    `json:"msgId"`
	To    string    `json:"toId"`
	Code  int       `json:"code"`
	Time  time.Time `json:"time"`
}

type messageJSON struct {
	Event   string          `json:"event"`
	MsgID   string          `json:"msgId"`
	From    string          `json:"fromId"`
	Time    time.Time       `json:"time"`
	Content json.RawMessage `json:"content"`
}

// converse chats until the user or the server ends it.
func (c *chatCommand) converse(ctx context.Context, p *printer, cfg client.Config, in terminal) error {
	p = &printer{std: streams{out: in, err: in}, json: p.json} // so that output does not tear the line that is typed
	cfg.OnMessage = func(m client.Message) { showMessage(p, m) }
	cfg.OnError = func(e *client.Error) { p.warn("%s", printable(e.Error())) }
	cfg.OnReconnect = func(d time.Duration) { p.warn("The gateway is going away: start imctl chat again in %s.", d) }
	conn, err := client.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { conn.Close(); <-conn.Done() }()
	p.warn("Logged in as %s on %s.\n%s", conn.UserID(), cfg.URL, chatHelp)

	lines := make(chan string)
	quit := make(chan struct{})
	defer close(quit)
	go readLines(in, lines, quit)
	for {
		select {
		case line, ok := <-lines:
			if !ok || line == ":q" {
				return c.leave(ctx, conn)
			}
			c.handleLine(ctx, p, conn, line)
		case <-conn.Done():
			return conn.Err()
		case <-ctx.Done():
			return c.leave(ctx, conn)
		}
	}
}

// readLines passes lines on until the input ends, and then closes lines. It may outlive its caller, waiting for a key.
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

func (c *chatCommand) leave(ctx context.Context, conn *client.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Timeout)
	defer cancel()
	return conn.Logout(ctx)
}

// handleLine does what a line says; what goes wrong with it does not end the chat.
func (c *chatCommand) handleLine(ctx context.Context, p *printer, conn *client.Conn, line string) {
	to, text, private := strings.Cut(line, ";;")
	to, text = strings.TrimSpace(to), strings.TrimSpace(text)
	if !private {
		to, text = c.To, line
	}
	switch {
	case line == "":
		return
	case !private && strings.HasPrefix(line, ":"):
		if line != ":all" {
			p.warn("There is no command %s.", printable(line))
		}
		p.warn("%s", chatHelp)
		return
	case to == "":
		p.warn("To whom? Write user;;text, or start with --to USER.")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	receipt, err := conn.SendText(ctx, to, text)
	switch {
	case err != nil && p.json:
		_ = p.value(map[string]string{"event": "error", "toId": to, "error": err.Error()})
	case err != nil:
		p.warn("Not sent: %s", printable(err.Error()))
	case p.json:
		_ = p.value(receiptJSON{"receipt", receipt.MsgID, to, int(receipt.Code), receipt.Time})
	}
}

func showMessage(p *printer, m client.Message) {
	if p.json {
		_ = p.value(messageJSON{"message", m.ID, m.From, m.Time, m.Content})
		return
	}
	text := m.Text()
	if text == "" {
		text = string(m.Content)
	}
	p.line("%s %s: %s", m.Time.Local().Format("15:04:05"), printable(m.From), printable(text))
}
