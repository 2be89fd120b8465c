// Package rpc serves presence over gRPC: PresenceService (api/presence/v1) for application back ends and gateways,
// pb.UserStatus (api/userstatus) for chat servers of others, the standard health service, which follows readiness, and
// reflection. docs/grpc.md is its description for users.
//
// Callers show the API key or the peer key as "authorization: Bearer <key>"; health and reflection are open. Nothing that
// fails is answered as offline: it is UNAVAILABLE, or a user whose state is unknown.
package rpc
