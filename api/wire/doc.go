// Package wire is the WebSocket protocol of IMCluster: the frames that clients and gateways exchange, the codes that
// they carry, and their JSON encoding.
//
// A frame is one JSON object in one WebSocket text message. Which fields a frame type has is written down once, in the
// table of frame.go; codecs and documentation follow it.
package wire
