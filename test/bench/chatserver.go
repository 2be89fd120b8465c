package main

import "context"

// startChatServers starts two servers of a kind on one Redis. Those that were started are returned with an error too.
func startChatServers(ctx context.Context, kind, redis string) (nodes []*server, err error) {
	for range 2 {
		var n *server
		switch {
		case kind == "socketio":
			n, err = startNode(ctx, kind, redis)
		case kind == "relay" && len(nodes) > 0:
			n, err = startServer(ctx, kind, "--peer="+nodes[0].addr)
		default:
			n, err = startServer(ctx, kind, "--redis="+redis, "--unlimited")
		}
		if err != nil {
			return nodes, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}
