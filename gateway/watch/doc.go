// Package watch is a gateway's one watch of presence: for all users that any of its connections subscribed to, over one gRPC
// stream, which comes back by itself and goes on where it was.
//
// A [Hub] knows how each of those users is, and who wants to know. What changes it hands to the subscribers, each user once
// however many steps there were. While presence cannot be reached the states stay as they are and nothing new can be
// subscribed to; when it is back, subscribers are told what is different, and of nothing else.
package watch
