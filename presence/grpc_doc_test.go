package presence_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/dev"
)

// The commands of docs/grpc.md do what it says, one after the other, on a platform as `make dev` starts it.
func TestExamplesOfTheGRPCPage(t *testing.T) {
	platform, err := dev.Start(t.Context(), dev.Config{GatewayListen: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(platform.Close)
	alice, err := client.Dial(t.Context(), client.Config{URLs: platform.GatewayURLs, Token: client.StaticToken("alice"), DeviceID: "phone"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { alice.Close() })
	page, err := os.ReadFile("../docs/grpc.md")
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile("(?s)```sh\n(grpcurl .*?)```\n```json\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(list) < 8 {
		t.Fatalf("the page has %d examples", len(list))
	}
	for _, m := range list {
		want := decode(t, m[2])
		eventually(t, func() error { // counts may be a second old
			got := grpcurl(t, m[1], map[string]string{"GRPC": platform.GRPCAddress, "KEY": platform.APIKey})
			if diff := cmp.Diff(want, decode(t, got), cmp.FilterValues(anything, cmp.Ignore())); diff != "" {
				return fmt.Errorf("%s\n%s", m[1], diff)
			}
			return nil
		})
	}
}

// anything tells whether one of two is three dots, which stand for any text.
func anything(a, b string) bool { return a == "…" && b != "" || b == "…" && a != "" }

func decode(t *testing.T, text string) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// grpcurl makes the call that a command line of grpcurl says and returns the first answer. It knows no more of the services
// than reflection tells, as that program.
func grpcurl(t *testing.T, command string, variables map[string]string) string {
	t.Helper()
	words, body, key := shellWords(t, command, variables)[1:], "{}", ""
	for strings.HasPrefix(words[0], "-") {
		switch words[0] {
		case "-plaintext":
			words = words[1:]
			continue
		case "-H":
			key = strings.TrimPrefix(words[1], "authorization: ")
		case "-d":
			body = words[1]
		default:
			t.Fatalf("%s of grpcurl is not known here", words[0])
		}
		words = words[2:]
	}
	conn, err := grpc.NewClient(words[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), "authorization", key))
	defer cancel()
	service, name, _ := strings.Cut(words[1], "/")
	method := reflected(t, conn, service).Methods().ByName(protoreflect.Name(name))
	in, out := dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output())
	if err := protojson.Unmarshal([]byte(body), in); err != nil {
		t.Fatal(err)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: method.IsStreamingServer(), ClientStreams: method.IsStreamingClient()}, "/"+words[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg(in); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(out); err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	answer, err := protojson.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// reflected asks the server what a service is.
func reflected(t *testing.T, conn *grpc.ClientConn, service string) protoreflect.ServiceDescriptor {
	t.Helper()
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service}}); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var files descriptorpb.FileDescriptorSet
	for _, b := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
		file := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(b, file); err != nil {
			t.Fatal(err)
		}
		files.File = append(files.File, file)
	}
	registry, err := protodesc.NewFiles(&files)
	if err != nil {
		t.Fatal(err)
	}
	d, err := registry.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		t.Fatal(err)
	}
	return d.(protoreflect.ServiceDescriptor)
}
