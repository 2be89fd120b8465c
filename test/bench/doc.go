// Bench measures what IMCluster promises about itself, each figure beside a yardstick of the same run on the same
// machine. Servers run in processes of their own; the load is generated here, on loopback only.
//
//	bench idle    memory of idle, logged-in connections, beside a bare gorilla/websocket server
//	bench login   logins with JWT a second, beside a bare gorilla/websocket server that answers one frame
//	bench chat    one-to-one messages across two gateways, beside Centrifuge, Socket.IO, and what the sockets alone cost
//	bench group   messages to a group of 1,000 on two gateways, beside a channel of Centrifuge and a room of Socket.IO
//	bench query   users a second that presence tells the state of, beside a Node.js server that answers MGET
//	bench watch   from the change of a user to the event at those who watch, across two gateways and presence
//	bench all     everything
package main
