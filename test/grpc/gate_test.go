package grpc

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// gate is a service with one method that streams an answer whenever the test opens it, so that no test depends on time.
type gate struct {
	t     *testing.T
	opens chan []byte   // a message to send; closed: the stream ends with OK
	gone  chan struct{} // closed when the call has ended otherwise
}

func newGate(t *testing.T) *gate {
	return &gate{t: t, opens: make(chan []byte), gone: make(chan struct{})}
}

// gateMethod is the path of the only method.
const gateMethod = "/test.Gate/Watch"

var gateStream = grpc.StreamDesc{StreamName: "Watch", ServerStreams: true}

func (g *gate) register(s *grpc.Server) {
	desc := gateStream
	desc.Handler = func(_ any, stream grpc.ServerStream) error { return g.serve(stream) }
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Gate", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{desc}}, g)
}

func (g *gate) serve(stream grpc.ServerStream) error {
	if err := stream.RecvMsg(new(testgrpc.Empty)); err != nil {
		return err
	}
	for {
		select {
		case body, ok := <-g.opens:
			if !ok {
				return nil
			}
			if err := stream.SendMsg(&testgrpc.Payload{Body: body}); err != nil {
				return err
			}
		case <-stream.Context().Done():
			close(g.gone)
			return stream.Context().Err()
		}
	}
}

// open lets the server send one message.
func (g *gate) open(message string) {
	g.t.Helper()
	select {
	case g.opens <- []byte(message):
	case <-time.After(patience):
		g.t.Error("nobody waits at the gate")
	}
}

// watch begins a call.
func watch(ctx context.Context, conn *grpc.ClientConn) (grpc.ClientStream, error) {
	stream, err := conn.NewStream(ctx, &gateStream, gateMethod)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(new(testgrpc.Empty)); err != nil {
		return nil, err
	}
	return stream, stream.CloseSend()
}

// receive wants one message.
func receive(t *testing.T, stream grpc.ClientStream, want string) {
	t.Helper()
	var m testgrpc.Payload
	if err := stream.RecvMsg(&m); err != nil || string(m.Body) != want {
		t.Fatalf("received %q, %v; want %q", m.Body, err, want)
	}
}
