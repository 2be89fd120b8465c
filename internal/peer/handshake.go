package peer

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
)

const nonceSize = 32

var errHandshakeTimeout = errors.New("the handshake took too long")

// session is what the proofs of one stream cover.
type session struct {
	senderNonce, receiverNonce []byte
	cluster, epoch             string
}

// proof is the HMAC of the session by one side.
func (s *session) proof(key []byte, side string) []byte {
	h := hmac.New(sha256.New, key)
	for _, part := range [][]byte{[]byte(side), s.senderNonce, s.receiverNonce, []byte(s.cluster), []byte(s.epoch)} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	return h.Sum(nil)
}

func newNonce() []byte {
	b := make([]byte, nonceSize)
	rand.Read(b)
	return b
}

// introduce is the sender's part of the handshake. The nonce of hello is filled in. It returns nil once the receiver has
// proved who it is and was sent our proof.
func introduce(stream clientStream, hello *peerv1.Hello, keys Keys) error {
	hello.Nonce = newNonce()
	s := session{senderNonce: hello.Nonce, cluster: hello.Cluster, epoch: hello.Epoch}
	if err := stream.Send(&peerv1.FromSender{Body: &peerv1.FromSender_Hello{Hello: hello}}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	s.receiverNonce = m.GetChallenge().GetNonce()
	if len(s.receiverNonce) != nonceSize {
		return errors.New("the peer's challenge is malformed")
	}
	key := s.keyOf(keys.Values(), m.GetChallenge().GetProofs())
	if key == nil {
		return errors.New("the peer does not have our peer key")
	}
	return stream.Send(&peerv1.FromSender{Body: &peerv1.FromSender_Proof{
		Proof: &peerv1.Proof{Proof: s.proof(key, side(hello.Role))}}})
}

// side is the side of a stream's sender in its proof.
func side(r peerv1.Role) string {
	if r == peerv1.Role_ROLE_PUBLISHER {
		return "publisher"
	}
	return "sender"
}

// keyOf returns the key of ours that one of the receiver's proofs is made with: during a rotation either side may be
// ahead of the other.
func (s *session) keyOf(keys, proofs [][]byte) []byte {
	for _, key := range keys {
		want := s.proof(key, "receiver")
		for _, p := range proofs[:min(2, len(proofs))] {
			if hmac.Equal(want, p) {
				return key
			}
		}
	}
	return nil
}

// Connect serves the stream of another gateway. It implements the gRPC service.
func (n *Node) Connect(stream serverStream) error {
	var hello *peerv1.Hello
	done := make(chan error, 1)
	go func() { // ends with the stream
		var err error
		hello, err = n.admit(stream)
		done <- err
	}()
	timeout := time.NewTimer(handshakeTimeout)
	defer timeout.Stop()
	select {
	case err := <-done:
		if err != nil {
			return err
		}
	case <-timeout.C:
		return status.Error(codes.DeadlineExceeded, errHandshakeTimeout.Error())
	}
	n.cfg.Logger.Info("peer stream accepted", "peer", hello.Sender, "role", hello.Role.String())
	return n.serve(stream, hello)
}

// admit is the receiver's part of the handshake.
func (n *Node) admit(stream serverStream) (*peerv1.Hello, error) {
	m, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	hello := m.GetHello()
	switch {
	case len(hello.GetNonce()) != nonceSize:
		return nil, status.Error(codes.InvalidArgument, "a stream starts with a Hello with a nonce of 32 bytes")
	case hello.Cluster != n.cfg.Cluster:
		return nil, status.Error(codes.FailedPrecondition, "this gateway belongs to another IMCluster")
	case hello.Epoch == "" || hello.Epoch != n.cfg.Epoch():
		return nil, errOtherEpoch
	}
	s := session{senderNonce: hello.Nonce, receiverNonce: newNonce(), cluster: hello.Cluster, epoch: hello.Epoch}
	keys := n.cfg.Keys.Values()
	challenge := &peerv1.Challenge{Nonce: s.receiverNonce}
	for _, key := range keys {
		challenge.Proofs = append(challenge.Proofs, s.proof(key, "receiver"))
	}
	if err := stream.Send(&peerv1.FromReceiver{Body: &peerv1.FromReceiver_Challenge{Challenge: challenge}}); err != nil {
		return nil, err
	}
	if m, err = stream.Recv(); err != nil {
		return nil, err
	}
	for _, key := range keys {
		if hmac.Equal(s.proof(key, side(hello.Role)), m.GetProof().GetProof()) {
			return hello, nil
		}
	}
	return nil, status.Error(codes.Unauthenticated, "the proof is wrong: another peer key")
}

var errOtherEpoch = status.Error(codes.FailedPrecondition, "this gateway has another epoch")
