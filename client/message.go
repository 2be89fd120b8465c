package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/imcluster/imcluster/api/wire"
)

// Message is a message that was received.
type Message struct {
	// ID is the same however often the message comes.
	ID   string
	From string
	// To is the user of this client, Group the group that the message was sent to; of a broadcast both are empty.
	To, Group string
	// Time is when the server took the message.
	Time time.Time
	// Content is JSON, as the sender sent it.
	Content json.RawMessage
	// Redelivered says that it was sent on this connection before and not acknowledged in time.
	Redelivered bool
	// Missed is how many messages before this one were dropped unread: they were older than the server keeps messages, or
	// more than it keeps.
	Missed int
}

// Broadcast tells whether the message went to everybody online. Those are not stored, and need no acknowledgement.
func (m *Message) Broadcast() bool { return m.To == "" && m.Group == "" }

// Text returns the text of a message whose content is like [Text], and "" of any other.
func (m *Message) Text() string {
	var c textContent
	_ = json.Unmarshal(m.Content, &c) // other content is legal and has no text
	return c.Body
}

// textContent is the content of a text message.
type textContent struct {
	ContentType int    `json:"contentType"`
	Body        string `json:"body"`
}

// Text returns the content of a text message: {"contentType":1,"body":"…"}.
func Text(text string) json.RawMessage {
	content, _ := json.Marshal(textContent{ContentType: 1, Body: text})
	return content
}

// Outgoing is a message to send. Exactly one of To, Group and Everyone says to whom.
type Outgoing struct {
	// To is a user, on all devices.
	To string
	// Group is a group, whose members but the sender get it. The sender must be one.
	Group string
	// Everyone is everybody who is online now. It is not stored, and servers allow it to clients only if they are set to.
	Everyone bool
	// Content is any JSON; see [Text]. Servers take frames of 64 KiB unless set otherwise.
	Content json.RawMessage
	// ClientMsgID makes it possible to send the message again after an unknown outcome, by another process too: the same
	// sender, recipient and ClientMsgID is the same message. Empty means a random one. At most 128 bytes.
	ClientMsgID string
}

// Receipt is the server's answer to a message that it accepted.
type Receipt struct {
	MsgID, ClientMsgID string
	// Code is wire.CodeOK when the message is stored, wire.CodeAccepted when it went to whoever is connected now.
	Code wire.Code
	// Time is when the server took the message.
	Time time.Time
	// Gateways is how many gateways there were to hand a broadcast to, Reached how many of them took it.
	Gateways, Reached int
}

// Stored tells whether the message is stored, and so reaches devices that are not connected now.
func (r *Receipt) Stored() bool { return r.Code == wire.CodeOK }

// Send sends a message and waits for the server's answer, which does not depend on whether the recipient is online. While
// there is no connection it waits for one. The error is an [*Error], or wraps [ErrNotSent] or [ErrUnknownOutcome] and the
// reason, or [ErrQueueFull], or says what is wrong with the message.
func (c *Client) Send(ctx context.Context, m Outgoing) (Receipt, error) {
	type result struct {
		receipt Receipt
		err     error
	}
	answered := make(chan result, 1)
	r, err := c.sendRequest(m, func(receipt Receipt, err error) { answered <- result{receipt, err} })
	if err != nil {
		return Receipt{}, err
	}
	select {
	case a := <-answered:
		return a.receipt, a.err
	case <-ctx.Done():
		c.out.cancel(r, ctx.Err())
		a := <-answered // an answer may have come at the same time
		return a.receipt, a.err
	}
}

// SendText sends a text message to a user; see [Client.Send].
func (c *Client) SendText(ctx context.Context, to, text string) (Receipt, error) {
	return c.Send(ctx, Outgoing{To: to, Content: Text(text)})
}

// SendAsync is [Client.Send] for those who do not wait: it returns at once, and done is called once, with what Send would
// return. Messages are sent in the order of the calls, up to 64 of them unanswered, which makes many messages faster.
func (c *Client) SendAsync(ctx context.Context, m Outgoing, done func(Receipt, error)) {
	var stop func() bool
	ready := make(chan struct{}) // stop is there
	r, err := c.sendRequest(m, func(receipt Receipt, err error) {
		c.notes.push(func() {
			<-ready
			stop()
			done(receipt, err)
		})
	})
	if err != nil {
		c.notes.push(func() { done(Receipt{}, err) })
		return
	}
	stop = context.AfterFunc(ctx, func() { c.out.cancel(r, ctx.Err()) })
	close(ready)
}

// sendRequest queues a message. done is called once unless there is an error, by whoever ends the request, and must not
// block.
func (c *Client) sendRequest(m Outgoing, done func(Receipt, error)) (*request, error) {
	fr, answer, err := m.frame()
	if err != nil {
		return nil, err
	}
	r := &request{frame: fr, key: waitKey{answer, fr.ClientMsgID}, resend: true, retry: c.cfg.RetryRefused}
	r.done = func(a wire.Frame, err error) {
		if err != nil {
			done(Receipt{ClientMsgID: fr.ClientMsgID}, fmt.Errorf("send to %s: %w", m.recipient(), err))
			return
		}
		done(Receipt{MsgID: a.MsgID, ClientMsgID: fr.ClientMsgID, Code: a.Code, Time: time.UnixMilli(a.Time),
			Gateways: int(a.Gateways), Reached: int(a.Reached)}, nil)
	}
	if err := c.out.add(r); err != nil {
		return nil, fmt.Errorf("send to %s: %w", m.recipient(), err)
	}
	return r, nil
}

func (m *Outgoing) recipient() string {
	if m.Everyone {
		return "everyone"
	}
	return m.To + m.Group
}

// frame returns the frame to send and the type of its answer. What a server would take for a broken frame must not be
// sent: it would end the connection, and be sent again on the next.
func (m *Outgoing) frame() (wire.Frame, wire.Type, error) {
	fr := wire.Frame{ToID: m.To, GroupID: m.Group, ClientMsgID: cmp.Or(m.ClientMsgID, uuid.NewString()), Content: bytes.Clone(m.Content)} // a copy, to be sent again
	if !json.Valid(m.Content) || !utf8.Valid(m.Content) {
		return fr, 0, errors.New("the content is not JSON in UTF-8")
	}
	if err := wire.CheckClientMsgID(fr.ClientMsgID); err != nil {
		return fr, 0, err
	}
	switch {
	case m.To != "" && m.Group == "" && !m.Everyone:
		fr.Type = wire.TypeChat
		return fr, wire.TypeChatResp, wire.CheckUserID(m.To)
	case m.Group != "" && m.To == "" && !m.Everyone:
		fr.Type = wire.TypeGroupChat
		return fr, wire.TypeGroupChatResp, checkGroupID(m.Group)
	case m.Everyone && m.To == "" && m.Group == "":
		fr.Type = wire.TypeBroadcast
		return fr, wire.TypeBroadcastResp, nil
	}
	return fr, 0, errors.New("exactly one of To, Group and Everyone must be set")
}

// Ack acknowledges a message, with [Config.ManualAck], and waits for the server's answer. If the context ends first, or
// the connection is lost, the message is acknowledged as soon as it comes again. Acknowledging what is acknowledged has no
// effect.
func (c *Client) Ack(ctx context.Context, msgID string) error {
	if err := wire.CheckMsgID(msgID); err != nil {
		return err
	}
	if err := c.cfg.Dedupe.SetHandled(ctx, msgID); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	c.in.forget(msgID)
	_, err := c.call(ctx, &request{frame: wire.Frame{Type: wire.TypeAck, MsgID: msgID}, key: waitKey{wire.TypeAckResp, msgID},
		lane: laneAcks, resend: true, retry: true})
	if err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	return nil
}

// Nack gives back a message that was handed over, with [Config.ManualAck], and that cannot be handled now. It is handed
// over again when the server sends it again.
func (c *Client) Nack(msgID string) { c.in.forget(msgID) }

// call queues a request and waits for its answer.
func (c *Client) call(ctx context.Context, r *request) (wire.Frame, error) {
	type result struct {
		frame wire.Frame
		err   error
	}
	answered := make(chan result, 1)
	r.done = func(fr wire.Frame, err error) { answered <- result{fr, err} }
	if err := c.out.add(r); err != nil {
		return wire.Frame{}, err
	}
	select {
	case a := <-answered:
		return a.frame, a.err
	case <-ctx.Done():
		c.out.cancel(r, ctx.Err())
		a := <-answered
		return a.frame, a.err
	}
}
