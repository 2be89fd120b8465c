// Package internalapi is the HTTP API between the operator and presence: what gateway incarnations
// exist, fencing the ones that are known to be dead, and how far the receiver of the hooks is behind.
//
// It is served on port 8082 of every presence pod, inside the cluster only, and takes the IMCluster's
// peer key as a bearer token. Presence owns the Redis schema, so this API is the only way in which the
// operator learns anything that is stored there. The package holds the types that both sides share and
// the operator's client; the server is package presence's.
package internalapi
