package wire

import "slices"

// Codec is an encoding of frames. All of them know the same frames and fields, and refuse the same ones.
type Codec uint8

// Codecs.
const (
	JSON     Codec = iota // one object in a text message
	Protobuf              // the message Frame of v1/frame.proto in a binary message
	NumCodecs
)

// Names of the WebSocket sub-protocols.
const (
	SubprotocolJSON     = "imcluster.v1.json"
	SubprotocolProtobuf = "imcluster.v1.protobuf"
)

// Subprotocol returns the name of the WebSocket sub-protocol that stands for the codec.
func (c Codec) Subprotocol() string {
	if c == Protobuf {
		return SubprotocolProtobuf
	}
	return SubprotocolJSON
}

// CodecOf returns the codec of a WebSocket sub-protocol. That of clients that ask for none, or for one that is not known,
// is JSON; ok is false then.
func CodecOf(subprotocol string) (c Codec, ok bool) {
	switch subprotocol {
	case SubprotocolJSON:
		return JSON, true
	case SubprotocolProtobuf:
		return Protobuf, true
	}
	return JSON, false
}

// Binary tells whether frames are binary WebSocket messages, not text ones.
func (c Codec) Binary() bool { return c == Protobuf }

// Append appends the encoded frame to dst. Content is appended as it is and must be valid JSON.
func (c Codec) Append(dst []byte, fr *Frame) []byte {
	if c == Protobuf {
		return AppendProtobuf(dst, fr)
	}
	return AppendJSON(dst, fr)
}

// Decode reads a frame that a client sent. The error is an *Error with the code to answer with; the returned frame then
// holds at least the type and the ids that could be read, so that the answer can name them. Ids that an accepted frame
// has are within their limits, except fromId.
//
// Unknown fields are ignored, and so are those that frames of other types have, or that only servers send. A known field
// must not occur twice, and must be what the table says. The frame does not refer to data.
func (c Codec) Decode(data []byte) (Frame, error) { return c.decode(data, fromClient) }

// DecodeServer reads a frame that a server sent, as Decode does, but for the limits of ids and for fields that are
// required: clients have to do with newer servers. A type that is not known is an error with [CodeUnknownType]; clients
// ignore such frames.
func (c Codec) DecodeServer(data []byte) (Frame, error) { return c.decode(data, fromServer) }

func (c Codec) decode(data []byte, from direction) (Frame, error) {
	if c == Protobuf {
		return decodeProtobuf(data, from)
	}
	return decodeJSON(data, from)
}

// layoutFor returns the layout of a frame of type t that from sent.
func layoutFor(t Type, from direction) (*layout, error) {
	l := &frames[t]
	if l.dir&from != 0 {
		return l, nil
	}
	if from == fromClient {
		return nil, Errorf(CodeNotAllowed, "frames of type %d (%s) are sent by the server only", t, t)
	}
	return nil, Errorf(CodeNotAllowed, "frames of type %d (%s) are sent by clients only", t, t)
}

// wanted tells whether a decoder of frames from a sender reads field f.
func (l *layout) wanted(f field, from direction) bool {
	return from == fromServer || !l.serverOnly.has(f)
}

// finish returns what is wrong with a frame of which set was read: first what the codec found, fields that occur twice
// and fields that are not what they should be.
func (fr *Frame) finish(l *layout, from direction, set fieldSet, found ...error) (err error) {
	if from == fromClient {
		err = fr.check(l, set)
	}
	for _, first := range slices.Backward(found) {
		if first != nil {
			err = first
		}
	}
	return err
}
