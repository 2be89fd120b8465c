// Bench measures what IMCluster promises about itself, each figure beside a yardstick of the same run on the same
// machine. Servers run in processes of their own; the load is generated here, on loopback only.
//
//	bench idle    memory of idle, logged-in connections, beside a bare gorilla/websocket server
//	bench login   logins with JWT a second, beside a bare gorilla/websocket server that answers one frame
//	bench all     everything
package main
