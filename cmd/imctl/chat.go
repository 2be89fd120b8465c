package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/imcluster/imcluster/api/wire"
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
	if c.Token == "" {
		return cli.Configf("--token is empty")
	}
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
	return c.converse(ctx, p, urls, cfg, in)
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
	stored := ""
	if receipt.Code == wire.CodeAccepted {
		stored = ", not stored: it goes to those devices of " + printable(c.To) + " that are connected now"
	}
	p.line("Accepted at %s as %s%s.", receipt.Time.Local().Format("15:04:05"), receipt.MsgID, stored)
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
