// Package gateway is the WebSocket gateway: it holds the connections of clients, registers their sessions in the store,
// and routes messages between them, across pods directly from gateway to gateway.
//
// An idle connection costs one goroutine with a stack of 2 KB, a read buffer of 1 KB, and a [conn]: everything else is
// borrowed while there is something to do. The reading goroutine stays shallow, because a stack that grew once does not
// shrink: it hands frames to a worker, and a worker writes what is queued. Time-outs are timers of one wheel.
//
//	conn.go, read.go, outbox.go   one connection: its state, reading, writing
//	handle.go, login.go, ask.go   what the frames do
//	chat.go, group.go, fanout.go  sending: storing a message, and telling the gateways of the recipients
//	publish.go, broadcast.go      sending for back ends, and to everybody
//	push.go, mail.go, replay.go   delivering: pushes as hints, mailboxes as the truth
//	ack.go, redeliver.go          what clients acknowledge, and what they do not
//	sweep.go                      finding what pushes have missed
//	idle.go                       time-outs: login, silence, token, grace, drain
//	table.go                      the sessions of this gateway
//	drain.go                      how a gateway goes away
//	auth, cork, wheel             the parts that stand alone
package gateway
