// Package wire is the WebSocket protocol of IMCluster: the frames that clients and gateways exchange, the codes that
// they carry, and their encodings.
//
// A frame is one JSON object in one WebSocket text message, or one protobuf message in a binary one. Which fields a frame
// type has is written down once, in the table of frame.go; both codecs, the schemas in v1 and the documentation follow it.
package wire
