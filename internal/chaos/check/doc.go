// Package check decides whether what clients have seen keeps the promises of the platform. It is a pure function of a
// history: what clients sent and received, in the order in which they saw it, and when processes died.
//
// The promises, as docs/protocol.md makes them:
//
//   - a message answered with 200 reaches every device of its recipients that was due it, also those that log in later;
//   - in the order of acceptance: if the answer to one message was read before another one was first sent, no device gets
//     the other one first;
//   - nothing arrives that nobody sent, or that was refused for good, or changed, or that is somebody else's;
//   - what comes again has the same msgId, and on the same connection says so;
//   - an acknowledged message does not come again on that connection, and, once the acknowledgement had its time to be
//     written, on no later one;
//   - a new device starts after the newest message that another device acknowledged;
//   - messages that were dropped, because the mailbox was full, are counted.
package check
