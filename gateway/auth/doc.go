// Package auth decides who a client is by the token that it logs in with: a JSON Web Token under a shared key or under the
// public keys of an identity provider ([JWT]), any token that a webhook of the application judges ([Webhook]), or, for
// trying the platform out, the user id itself ([Insecure]).
//
// Whoever configures the URL of a key set or of a webhook decides what the gateways connect to: there is no list of
// forbidden addresses, since services inside the cluster are what one wants. Clients have no say in it: no header of a
// token (jku, x5u, jwk) is looked at, and redirects are not followed.
package auth
