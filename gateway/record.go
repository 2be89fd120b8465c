package gateway

import (
	"encoding/binary"
	"errors"

	"github.com/google/uuid"

	"github.com/imcluster/imcluster/api/wire"
)

// messageID is the msgId of a message as it is stored.
type messageID = [16]byte

// record is a message as mailboxes keep it and gateways hand it to each other: without the recipient, so that all members
// of a group share its bytes. The msgId is kept beside it.
type record struct {
	from    string
	group   string // empty unless it was sent to a group
	time    int64  // Unix milliseconds, by the clock of the sender's gateway
	content []byte // JSON
}

// recordVersion is the first byte of an encoded record. The rest is the time as a varint, then from and group, each behind
// its length as a varint, then the content.
const recordVersion = 1

var errRecord = errors.New("the record of a message is malformed")

func (r *record) encode() []byte {
	b := make([]byte, 0, 16+len(r.from)+len(r.group)+len(r.content))
	b = append(b, recordVersion)
	b = binary.AppendUvarint(b, uint64(r.time))
	for _, s := range []string{r.from, r.group} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return append(b, r.content...)
}

// decodeRecord reads an encoded record. The content refers to data.
func decodeRecord(data []byte) (r record, err error) {
	if len(data) == 0 || data[0] != recordVersion {
		return r, errRecord
	}
	data = data[1:]
	next := func() uint64 {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			err = errRecord
			return 0
		}
		data = data[n:]
		return v
	}
	text := func() string {
		n := next()
		if n > uint64(len(data)) {
			err = errRecord
			return ""
		}
		s := string(data[:n])
		data = data[n:]
		return s
	}
	r.time = int64(next())
	r.from = text()
	r.group = text()
	r.content = data
	return r, err
}

// rawID returns the bytes of a msgId, and whether it is one.
func rawID(text string) (id messageID, ok bool) {
	if len(text) != 36 {
		return id, false
	}
	u, err := uuid.Parse(text)
	return messageID(u), err == nil
}

// letter is one message on its way to sessions of this gateway. It is encoded once for all that get the same bytes.
// Used by one goroutine at a time.
type letter struct {
	id   messageID
	data []byte    // the encoded record
	kind wire.Type // of the frames; 0 until the record is decoded, unless it is a broadcast

	rec  record
	text string                 // the msgId; empty until the record is decoded
	to   string                 // whom encoded is for; empty if it is for everybody
	done [wire.NumCodecs][]byte // encoded frames
}

// open decodes the record, once.
func (m *letter) open() error {
	if m.text != "" {
		return nil
	}
	var err error
	if m.rec, err = decodeRecord(m.data); err != nil {
		return err
	}
	m.text = uuid.UUID(m.id).String()
	switch {
	case m.kind != 0:
	case m.rec.group != "":
		m.kind = wire.TypeGroupChat
	default:
		m.kind = wire.TypeChat
	}
	return nil
}

// frame returns the frame for a user.
func (m *letter) frame(user string) (wire.Frame, error) {
	err := m.open()
	f := wire.Frame{Type: m.kind, MsgID: m.text, FromID: m.rec.from, GroupID: m.rec.group, Time: m.rec.time, Content: m.rec.content}
	if m.kind == wire.TypeChat {
		f.ToID = user
	}
	return f, err
}

// encoded returns the encoded frame for a user, nil if the record is malformed. It may be shared.
func (m *letter) encoded(g *Gateway, codec wire.Codec, user string) []byte {
	f, err := m.frame(user)
	if err != nil {
		return nil
	}
	if m.to != f.ToID {
		m.to, m.done = f.ToID, [wire.NumCodecs][]byte{}
	}
	if m.done[codec] == nil {
		m.done[codec] = encode(codec, &f)
	}
	g.metrics.sent[m.kind].Add(1)
	return m.done[codec]
}

// encode encodes a frame.
func encode(codec wire.Codec, f *wire.Frame) []byte {
	return codec.Append(make([]byte, 0, 160+len(f.Content)), f)
}
