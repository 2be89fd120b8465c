package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
)

// end makes err the reason for which the connection ended, unless there is one, and wakes who waits for answers.
func (c *Conn) end(err error) {
	c.endOnce.Do(func() {
		c.err = err
		close(c.ended)
	})
}

// write sends a frame.
func (c *Conn) write(fr *wire.Frame) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	c.out = wire.AppendJSON(c.out[:0], fr)
	if err := c.ws.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return c.ws.WriteMessage(websocket.TextMessage, c.out)
}

// read returns the next frame of the server.
func (c *Conn) read() (frame, error) {
	kind, data, err := c.ws.ReadMessage()
	if err != nil {
		return frame{}, err
	}
	if kind != websocket.TextMessage {
		return frame{}, errors.New("the server sent a message that is not text")
	}
	var fr frame
	if err := json.Unmarshal(data, &fr); err != nil {
		return frame{}, fmt.Errorf("the server sent a broken frame: %w", err)
	}
	return fr, nil
}

// call sends a frame and waits for the answer with the key. An answer that reports no success is an *Error.
func (c *Conn) call(ctx context.Context, key waitKey, fr *wire.Frame) (frame, error) {
	answer := make(chan frame, 1)
	c.waitMu.Lock()
	c.waiting[key] = append(c.waiting[key], answer)
	c.waitMu.Unlock()
	defer c.forget(key, answer)
	if err := c.write(fr); err != nil {
		if ended := c.Err(); ended != nil {
			err = ended
		}
		return frame{}, err
	}
	select {
	case fr := <-answer:
		if key.typ != wire.TypePong && !fr.Code.OK() {
			return frame{}, fr.err()
		}
		return fr, nil
	case <-c.ended:
		return frame{}, c.err
	case <-ctx.Done():
		return frame{}, ctx.Err()
	}
}

// forget removes a waiting call that got no answer.
func (c *Conn) forget(key waitKey, answer chan frame) {
	c.waitMu.Lock()
	defer c.waitMu.Unlock()
	if i := slices.Index(c.waiting[key], answer); i >= 0 {
		c.waiting[key] = slices.Delete(c.waiting[key], i, i+1)
	}
	if len(c.waiting[key]) == 0 {
		delete(c.waiting, key)
	}
}

// answer hands a frame to the call that has waited longest for it, if there is one.
func (c *Conn) answer(key waitKey, fr frame) bool {
	c.waitMu.Lock()
	defer c.waitMu.Unlock()
	calls := c.waiting[key]
	if len(calls) == 0 {
		return false
	}
	calls[0] <- fr // has room: each channel gets one frame
	c.waiting[key] = calls[1:]
	return true
}

// readLoop handles frames until the connection ends.
func (c *Conn) readLoop() {
	defer c.events.close()
	defer c.ws.Close()
	for {
		_ = c.ws.SetReadDeadline(time.Now().Add(silentHeartbeats * c.heartbeat))
		fr, err := c.read()
		if err != nil {
			c.end(c.endReason(err))
			return
		}
		if err := c.handle(fr); err != nil {
			c.end(err)
			return
		}
	}
}

// handle does what a frame asks for. An error ends the connection.
func (c *Conn) handle(fr frame) error {
	switch fr.Type.Type {
	case wire.TypeChat:
		return c.receive(fr)
	case wire.TypeChatResp:
		if !c.answer(waitKey{fr.Type.Type, fr.ClientMsgID}, fr) && !fr.Code.OK() {
			return c.complain(fr)
		}
	case wire.TypeAckResp:
		if !c.answer(waitKey{fr.Type.Type, fr.MsgID}, fr) && !fr.Code.OK() {
			return c.complain(fr)
		}
	case wire.TypePong:
		c.answer(waitKey{typ: fr.Type.Type}, fr)
	case wire.TypeKicked:
		return ErrKicked
	case wire.TypeHeartbeatTimeout:
		return ErrIdle
	case wire.TypeReconnect:
		c.moving = &ReconnectError{Delay: fr.delay()}
		if c.cfg.OnReconnect != nil {
			return c.events.push(func() { c.cfg.OnReconnect(fr.delay()) })
		}
	case wire.TypeUnknown:
		return c.complain(fr)
	}
	return nil // a type of a newer server is ignored
}

// receive has a message handled, and then acknowledged.
func (c *Conn) receive(fr frame) error {
	if c.cfg.OnMessage == nil {
		return nil
	}
	m := Message{ID: fr.MsgID, From: fr.FromID, To: fr.ToID, ClientMsgID: fr.ClientMsgID, Time: time.UnixMilli(fr.Time), Content: fr.Content}
	return c.events.push(func() {
		c.cfg.OnMessage(m)
		if !c.cfg.ManualAck && c.Err() == nil {
			if err := c.write(&wire.Frame{Type: wire.TypeAck, MsgID: m.ID}); err != nil {
				_ = c.ws.Close() // the read loop says why
			}
		}
	})
}

// complain reports a refusal that no call waits for.
func (c *Conn) complain(fr frame) error {
	if c.cfg.OnError == nil {
		return nil
	}
	return c.events.push(func() { c.cfg.OnError(fr.err()) })
}

// endReason turns a read error into the reason for which the connection ended. Whatever ends a connection that was
// asked to move, short of the answer to a logout or a newer login, the client has to move.
func (c *Conn) endReason(err error) error {
	reason := closeReason(err)
	if c.moving == nil || errors.Is(reason, ErrKicked) || websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		return reason
	}
	return c.moving
}

// pingLoop tells the server that the client is there.
func (c *Conn) pingLoop() {
	ticker := time.NewTicker(c.heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-c.ended:
			return
		case <-ticker.C:
			if err := c.write(&wire.Frame{Type: wire.TypePing}); err != nil {
				_ = c.ws.Close() // the read loop says why
				return
			}
		}
	}
}
