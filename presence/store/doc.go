// Package store is the presence model in Redis: which gateway incarnations are alive, which sessions sit on them, who was
// last seen when, which messages wait for whom. Gateways write it through a [Member]; presence pods read and tend it through a [Store].
//
// The model, with every key, script, cost and failure, is written down in docs/redis-model.md. In short:
//
//   - A gateway incarnation is an [Epoch] under a lease. Leases are measured in store time, a counter in Redis that only
//     advances while somebody can write to Redis, by at most 5 s a step: a Redis that stops takes nobody offline.
//   - A session is a field of its user's hash that names the epoch it sits on. Whether the user is online is decided when
//     it is read, against the lease table: a dead gateway's late write brings nobody back.
//   - Users are spread over 128 partitions, each within one slot of a Redis Cluster. Every partition has a generation, and
//     who is not found in a partition that lost its data and is not complete again is [Unknown], never [Offline].
//   - A message waits in the mailbox of its user, numbered, until every device that is known has acknowledged it. It is stored
//     once, in the order of acceptance, whatever is retried.
//   - Writes go through one in-order lane per Redis node; reads go around it, one pipeline per node.
package store
