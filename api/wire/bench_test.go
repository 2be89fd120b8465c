package wire

import "testing"

// BenchmarkCodecs measures what a gateway does with a chat and its acknowledgement: it decodes what the client sent, and
// encodes what the recipient gets.
func BenchmarkCodecs(b *testing.B) {
	content := []byte(`{"contentType":1,"body":"hello there, how are you doing today?"}`)
	frames := map[string]*Frame{
		"chat from a client": {Type: TypeChat, FromID: "user-000123", ToID: "user-004567", ClientMsgID: "c-0001-000000042", Content: content},
		"chat to a client": {Type: TypeChat, MsgID: "2bfea133-72a8-4315-82aa-80049fe4fb7b", FromID: "user-000123", ToID: "user-004567",
			ClientMsgID: "c-0001-000000042", Time: 1700000000000, Content: content},
		"ack": {Type: TypeAck, MsgID: "2bfea133-72a8-4315-82aa-80049fe4fb7b"},
	}
	for name, fr := range frames {
		for codec := range NumCodecs {
			data := codec.Append(nil, fr)
			b.Run(name+"/"+codec.Subprotocol()+"/decode", func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					if _, err := codec.Decode(data); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+"/"+codec.Subprotocol()+"/append", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					data = codec.Append(data[:0], fr)
				}
			})
		}
	}
}
