package peer

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
)

// messages are batches of all kinds, and what is none.
func messages() []*peerv1.FromSender {
	push := func(id, data string, targets ...*peerv1.Target) *peerv1.Item {
		return &peerv1.Item{Body: &peerv1.Item_Push{Push: &peerv1.Push{MessageId: []byte(id), Data: []byte(data), Targets: targets}}}
	}
	one := push("0123456789abcdef", strings.Repeat("x", 300), &peerv1.Target{User: "ada", Connections: []uint64{7}, Seq: 1 << 40})
	var many []*peerv1.Target
	for i := range uint64(300) {
		many = append(many, &peerv1.Target{User: "ada", Connections: []uint64{i, i << 20}, Seq: i})
	}
	kick := &peerv1.Item{Body: &peerv1.Item_Kick{Kick: &peerv1.Kick{User: "ada", Connection: 1}}}
	sweep := &peerv1.Item{Body: &peerv1.Item_Sweep{Sweep: &peerv1.Sweep{}}}
	batch := func(items ...*peerv1.Item) *peerv1.FromSender {
		return &peerv1.FromSender{Body: &peerv1.FromSender_Batch{Batch: &peerv1.Batch{Items: items}}}
	}
	return []*peerv1.FromSender{
		batch(one), batch(one, kick, push("", ""), one, sweep), batch(), batch(&peerv1.Item{}),
		batch(push("0123456789abcdef", "x", many...)), batch(push("", "", &peerv1.Target{})),
		{Body: &peerv1.FromSender_Hello{Hello: &peerv1.Hello{Epoch: "e"}}}, {},
	}
}

func TestCodecWritesAndReadsWhatProtobufDoes(t *testing.T) {
	c := newCodec()
	for _, m := range messages() {
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Materialize(), want) {
			t.Errorf("%v: wrote %x, want %x", m, got.Materialize(), want)
		}
		read := &peerv1.FromSender{}
		if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(want)}, read); err != nil || !proto.Equal(read, m) {
			t.Errorf("read %v, want %v: %v", read, m, err)
		}
	}
}

// FuzzCodecReads: what the short way accepts means the same to protobuf.
func FuzzCodecReads(f *testing.F) {
	for _, m := range messages() {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	c := newCodec()
	f.Fuzz(func(t *testing.T, b []byte) {
		want, got := &peerv1.FromSender{}, &peerv1.FromSender{}
		wantErr := proto.Unmarshal(b, want)
		err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, got)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, want %v", err, wantErr)
		}
		if err == nil && !proto.Equal(got, want) {
			t.Fatalf("read %v, want %v", got, want)
		}
	})
}
