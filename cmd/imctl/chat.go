package main

import (
	"cmp"
	"context"
	"os"
	"strings"
	"time"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/cli"
)

// loginFlags say who to log in as.
type loginFlags struct {
	Token     string `placeholder:"TOKEN" help:"Who to log in as: the user id for gateways without authentication, else a JWT."`
	TokenFile string `name:"token-file" placeholder:"FILE" help:"File with the token, read anew for every login; goes before --token."`
	Protobuf  bool   `help:"Speak Protocol Buffers instead of JSON with the gateway."`
}

// source returns the source of tokens.
func (f *loginFlags) source() (client.TokenSource, error) {
	if f.TokenFile == "" {
		if f.Token == "" {
			return nil, cli.Configf("--token is empty: say who to log in as, with --token or --token-file")
		}
		return client.StaticToken(f.Token), nil
	}
	read := func(context.Context, bool) (string, error) {
		data, err := os.ReadFile(f.TokenFile)
		return strings.TrimSpace(string(data)), err
	}
	if token, err := read(context.Background(), false); err != nil {
		return nil, cli.Configf("--token-file: %w", err)
	} else if token == "" {
		return nil, cli.Configf("--token-file: %s is empty", f.TokenFile)
	}
	return read, nil
}

type chatCommand struct {
	gatewayFlags  `embed:""`
	presenceFlags `embed:""`
	loginFlags    `embed:""`
	hookFlags     `embed:""`
	To            string        `placeholder:"USER" xor:"to" help:"Whom a line goes to. Default: everybody"`
	Group         string        `placeholder:"GROUP" xor:"to" help:"The group that a line goes to."`
	Device        string        `default:"imctl" help:"Device to log in as. Default: ${default}"`
	HistoryFile   string        `name:"history-file" placeholder:"FILE" help:"Where to keep what is typed, \"none\" for nowhere. Default: ~/.local/state/imctl/history"`
	Timeout       time.Duration `default:"15s" help:"How long logging in and out may take."`
}

func (c *chatCommand) Run(ctx context.Context, p *printer) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	history, err := historyPath(c.HistoryFile)
	if err != nil {
		return err
	}
	known := &completer{}
	in, err := openTerminal(p, history, known)
	if err != nil {
		return err
	}
	defer in.Close()
	return newConversation(c, p, in, known).converse(ctx, cfg)
}

// config is that of a client which has no callbacks yet.
func (c *chatCommand) config() (client.Config, error) {
	urls, err := c.urls()
	if err != nil {
		return client.Config{}, err
	}
	token, err := c.source()
	if err != nil {
		return client.Config{}, err
	}
	return client.Config{URLs: urls, Token: token, DeviceID: c.Device, Platform: "imctl", Protobuf: c.Protobuf, RetryRefused: true}, nil
}

// onceDevice is the device that sends one message.
const onceDevice = "imctl-once"

// leave logs out. Nothing may wait for the device of its own: nobody would ever come to read it.
func (c *sendCommand) leave(ctx context.Context, conn *client.Client) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second) // also when sending took too long
	defer cancel()
	if c.Device == onceDevice {
		return conn.Forget(ctx)
	}
	return conn.Logout(ctx)
}

// sendCommand sends one message.
type sendCommand struct {
	gatewayFlags `embed:""`
	loginFlags   `embed:""`
	To           string        `placeholder:"USER" xor:"to" required:"" help:"Send to a user."`
	Group        string        `placeholder:"GROUP" xor:"to" required:"" help:"Send to a group."`
	Everyone     bool          `xor:"to" required:"" help:"Send to everybody who is online, if the gateway allows it."`
	Content      string        `placeholder:"JSON" help:"Send this instead of a text."`
	ClientMsgID  string        `name:"client-msg-id" placeholder:"ID" help:"Send again with the same id what may not have arrived: it arrives once."`
	Device       string        `default:"imctl-once" help:"Device to log in as. Default: ${default}"`
	Timeout      time.Duration `default:"15s" help:"How long it may take; refusals for now are tried again."`
	Text         []string      `arg:"" optional:"" help:"The text."`
}

func (c *sendCommand) Run(ctx context.Context, p *printer) error {
	content := client.Text(strings.Join(c.Text, " "))
	switch {
	case (c.Content == "") == (len(c.Text) == 0):
		return cli.Configf("say what to send: a text, or --content")
	case c.Content != "":
		content = []byte(c.Content)
	}
	urls, err := c.urls()
	if err != nil {
		return err
	}
	token, err := c.source()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	conn, err := client.Dial(ctx, client.Config{URLs: urls, Token: token, DeviceID: c.Device, Platform: "imctl", Protobuf: c.Protobuf, RetryRefused: true})
	if err != nil {
		return err
	}
	receipt, err := conn.Send(ctx, client.Outgoing{To: c.To, Group: c.Group, Everyone: c.Everyone, Content: content, ClientMsgID: c.ClientMsgID})
	if out := c.leave(ctx, conn); err == nil {
		err = out
	}
	if err != nil {
		return err
	}
	if p.json {
		return p.value(receiptOf(receipt, target{user: c.To, group: c.Group}))
	}
	p.line("%s at %s as %s.", whatBecame(receipt, printable(cmp.Or(c.To, c.Group, "everybody"))),
		receipt.Time.Local().Format("15:04:05"), receipt.MsgID)
	return nil
}
