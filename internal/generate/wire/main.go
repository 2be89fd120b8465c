// Command wire writes the published schemas of the WebSocket protocol from the table of frames in api/wire: what each
// frame has comes from the table, the comments come from its source.
//
//	go run ./internal/generate/wire api/wire api/wire/v1
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: wire SOURCE DESTINATION")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "wire:", err)
		os.Exit(1)
	}
}

func run(source, destination string) error {
	c, err := readComments(source)
	if err != nil {
		return err
	}
	client, clientErr := jsonSchema(c, true)
	server, serverErr := jsonSchema(c, false)
	if err := errors.Join(clientErr, serverErr); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"frame.proto": protobuf(c), "client.schema.json": client, "server.schema.json": server,
	} {
		if err := os.WriteFile(filepath.Join(destination, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
