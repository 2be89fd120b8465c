// Package presence is the query service: it answers over HTTP who is online, and tends the presence model in Redis.
//
// A [Server] has three listeners: the public API (docs/presence-api.md) for application back ends, with the API key as a
// bearer token; the internal API (package internalapi) for the operator, with the peer key; and the ops listener with
// probes and metrics. Every answer about a user is one of three: online, offline, or unknown with a reason. What could not
// be read is unknown, never offline.
//
// What is told comes from memory where it can, which package replica keeps up with Redis; any number of pods serve the same
// answers. What they read and tend is package store's.
package presence
