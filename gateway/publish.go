package gateway

import (
	"time"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/store"
)

const (
	// backEndPrefix begins what msgIds of the back end's messages are derived from instead of a sender, so that a client
	// cannot take one of them before.
	backEndPrefix = "\x00p"
	// usersPrefix stands for the recipient there if it is a user: a message to many users has one msgId.
	usersPrefix = "\x00u"
)

// Publish sends a message for the application's back end. It implements [peer.Handler].
func (g *Gateway) Publish(p *peerv1.Publish, done func(*peerv1.Published)) {
	member := g.registry()
	if member == nil {
		done(&peerv1.Published{Code: uint32(errAskLater.Code), Message: errAskLater.Message})
		return
	}
	if p.GetStatus() != nil {
		g.StatusSet(p.GetStatus())
		gateways := make([]store.Epoch, len(p.GetGateways()))
		for i, epoch := range p.GetGateways() {
			gateways[i] = store.Epoch(epoch)
		}
		g.tellStatus(gateways, p.GetStatus())
		done(&peerv1.Published{Code: uint32(wire.CodeOK)})
		return
	}
	rec := record{from: p.GetFrom(), group: p.GetGroup(), time: time.Now().UnixMilli(), content: p.GetContent()}
	to := usersPrefix
	switch {
	case p.GetEveryone():
		to = broadcastPrefix
	case p.GetGroup() != "":
		to = groupPrefix + p.GetGroup()
	}
	msgID := wire.MessageID(backEndPrefix+p.GetFrom(), to, p.GetClientMsgId())
	id, _ := rawID(msgID)
	stored := &store.Record{ID: id, Sender: p.GetFrom(), Data: rec.encode()}
	answer := &peerv1.Published{Code: uint32(wire.CodeOK), MsgId: msgID, Time: rec.time}
	switch {
	case p.GetClientMsgId() == "" || len(p.GetContent()) == 0:
		answer.Code, answer.Message = uint32(wire.CodeBadField), "client_msg_id and content are required"
		done(answer)
	case p.GetEveryone():
		g.toEverybody(member, id, stored.Data, "", func(gateways, reached int) {
			answer.Code, answer.Gateways, answer.Reached = uint32(wire.CodeAccepted), uint32(gateways), uint32(reached)
			done(answer)
		})
	case p.GetGroup() != "":
		stored.Sender = "" // as in group
		g.sendToGroup(member, p.GetGroup(), "", stored, len(p.GetContent()), func(err error) {
			setOutcome(answer, err)
			done(answer)
		})
	default:
		g.fanOut(member, stored, p.GetUsers(), func(outcomes []error) {
			for i, err := range outcomes {
				o := &peerv1.Outcome{User: p.GetUsers()[i], Code: uint32(wire.CodeOK), MsgId: msgID}
				if err != nil {
					o.Code = uint32(codeOf(err))
				}
				answer.Outcomes = append(answer.Outcomes, o)
			}
			setOutcome(answer, worst(outcomes))
			done(answer)
		})
	}
}

// setOutcome puts a failure into the answer.
func setOutcome(answer *peerv1.Published, err error) {
	if err != nil {
		answer.Code, answer.Message = uint32(codeOf(err)), messageOf(err)
	}
}
