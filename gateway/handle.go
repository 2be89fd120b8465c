package gateway

import (
	"bytes"
	"errors"
	"runtime/debug"

	"github.com/imcluster/imcluster/api/wire"
)

// handleReceived handles what was received, in order, until nothing is left. One worker at a time does so for a
// connection.
func (c *conn) handleReceived() {
	for {
		c.mu.Lock()
		if len(c.in) == 0 {
			c.in, c.working = nil, false
			c.mu.Unlock()
			return
		}
		batch := c.in
		c.in, c.inBytes = nil, 0
		// The answers go out together, written by this worker, unless somebody writes already. A login may take
		// long, so there it is left to another one.
		c.writes = c.state == stateOpen && c.claimWriterLocked()
		c.readable.Signal()
		c.mu.Unlock()
		for i := range batch {
			c.handleOne(&batch[i])
			releaseBuffer(batch[i].data)
		}
		c.letOthersWrite()
	}
}

// letOthersWrite writes what is queued, if the caller, the worker that handles received frames, is the writer. From then on
// others write, so that it may wait for something.
func (c *conn) letOthersWrite() {
	if c.writes {
		c.writes = false
		c.flush()
	}
}

// handleOne handles a frame. A panic ends this connection only.
func (c *conn) handleOne(in *inbound) {
	defer func() {
		if fault := recover(); fault != nil {
			c.g.panicked(fault, debug.Stack())
			c.close(reasonPanic)
		}
	}()
	c.mu.Lock()
	closing, state := c.closing, c.state
	c.mu.Unlock()
	if closing != reasonNone {
		return
	}
	data := *in.data
	if in.limit > 0 {
		c.g.metrics.received[wire.TypeUnknown].Add(1)
		c.close(reasonFrameTooLarge, refusal(wire.TypeUnknown, nil,
			wire.Errorf(wire.CodeFrameTooLarge, "the frame has more than %d bytes", in.limit)))
		return
	}
	limit, tooFast := c.take(len(data))
	if limit == flood {
		c.close(reasonFlood, refusal(wire.TypeUnknown, nil, tooFast))
		return
	}
	if in.ping {
		if limit == allowed {
			c.enqueue(outPong, bytes.Clone(data))
		}
		return
	}
	fr, err := c.decode(in)
	c.g.metrics.received[fr.Type].Add(1)
	if err == nil && limit == refused {
		err = tooFast
	}
	if err == nil && state == stateNew && fr.Type != wire.TypeLogin {
		err = wire.Errorf(wire.CodeLoginRequired, "the first frame must be a login (type 10)")
	}
	if err != nil {
		c.refuse(&fr, err, state)
		return
	}
	c.dispatch(&fr, state, len(data))
}

// logout ends the session, for good if the device is not to be known any more.
func (c *conn) logout(forget bool) {
	c.mu.Lock()
	c.forget = forget
	c.mu.Unlock()
	c.close(reasonLogout)
}

var (
	errBinary = wire.Errorf(wire.CodeBadMessage, "send text messages; the sub-protocol "+wire.SubprotocolJSON+" has no binary ones")
	errText   = wire.Errorf(wire.CodeBadMessage, "send binary messages; the sub-protocol "+wire.SubprotocolProtobuf+" has no text ones")
)

func (c *conn) decode(in *inbound) (wire.Frame, error) {
	switch {
	case in.binary == c.codec.Binary():
		return c.codec.Decode(*in.data)
	case in.binary:
		return wire.Frame{}, errBinary
	default:
		return wire.Frame{}, errText
	}
}

// dispatch does what a frame of so many bytes that could be read asks for.
func (c *conn) dispatch(fr *wire.Frame, state sessionState, size int) {
	if fr.Type == wire.TypeLogin {
		if state == stateOpen {
			c.renew(fr)
		} else {
			c.login(fr)
		}
		return
	}
	// user is not written any more once the session is open, and only this goroutine opens it.
	if fr.FromID != "" && fr.FromID != c.user {
		c.refuse(fr, wire.Errorf(wire.CodeWrongSender, "fromId is not the user who logged in"), stateOpen)
		return
	}
	switch fr.Type {
	case wire.TypeLogout:
		c.logout(fr.Action == wire.LogoutForget)
	case wire.TypePing:
		c.send(&wire.Frame{Type: wire.TypePong})
	case wire.TypeChat:
		c.chat(fr)
	case wire.TypeAck:
		c.ack(fr, size)
	case wire.TypeGroupChat:
		c.groupChat(fr)
	case wire.TypeGroup:
		c.group(fr)
	case wire.TypeBroadcast:
		c.broadcast(fr)
	case wire.TypeOnlineList:
		c.onlineList(fr)
	case wire.TypePresenceQuery:
		c.presenceQuery(fr)
	case wire.TypeSubscribe:
		c.subscribe(fr)
	case wire.TypeSetStatus:
		c.setStatus(fr)
	}
}

// refuse answers a frame that is not done. Before the login it also ends the connection.
func (c *conn) refuse(fr *wire.Frame, err error, state sessionState) {
	answer := refusal(fr.Type, fr, err)
	if state == stateNew {
		reason := reasonNoLogin
		if fr.Type == wire.TypeLogin {
			reason = reasonLoginRefused
		}
		c.closeWith(reason, answer.Code.CloseCode(), answer)
		return
	}
	c.send(&answer)
}

// refusal is the answer to a frame of type t that is refused because of err: the answer that the type has, with the ids
// that tell which frame it is for, or one of type 0.
func refusal(t wire.Type, fr *wire.Frame, err error) wire.Frame {
	answer := wire.Frame{Type: t.Answer(), Code: wire.CodeInternal, Message: "a fault of the server"}
	if fr != nil {
		answer.MsgID, answer.ClientMsgID, answer.GroupID, answer.RequestID = fr.MsgID, fr.ClientMsgID, fr.GroupID, fr.RequestID
	}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		answer.Code, answer.Message = e.Code, e.Message
	}
	if answer.Code.Retryable() {
		answer.DelayMS = delay(answer.Code)
	}
	return answer
}
