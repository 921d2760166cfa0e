package grpc

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

func TestAStreamIsNotGatheredOnTheWay(t *testing.T) {
	g := newGate(t)
	r := start(t, startServer(t, g.register), everything)
	conn, ctx := r.client()
	stream, err := watch(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{"a", "b", "c"} {
		g.open(m)
		receive(t, stream, m) // before the next one is sent
	}
	close(g.opens)
	if err := stream.RecvMsg(new(testgrpc.Payload)); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
}

// TestAStreamMayBeSilent for longer than the limits on the pace of other bodies, which are 30 seconds, in both directions.
func TestAStreamMayBeSilent(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute: runs without -short")
	}
	t.Parallel()
	g := newGate(t)
	r := start(t, startServer(t, g.register), everything)
	conn, ctx := r.client()
	oneWay, err := watch(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	g.open("before")
	receive(t, oneWay, "before")
	bothWays, err := testgrpc.NewTestServiceClient(conn).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	pingPong(t, bothWays, 10)
	time.Sleep(33 * time.Second)
	g.open("after")
	receive(t, oneWay, "after")
	pingPong(t, bothWays, 10)
}

// pingPong sends a message and wants one of n bytes.
func pingPong(t *testing.T, stream testgrpc.TestService_FullDuplexCallClient, n int32) {
	t.Helper()
	err := stream.Send(&testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: n}}})
	if err != nil {
		t.Fatal(err)
	}
	reply, err := stream.Recv()
	if err != nil || len(reply.Payload.GetBody()) != int(n) {
		t.Fatalf("%d bytes, %v; want %d", len(reply.GetPayload().GetBody()), err, n)
	}
}

func TestTenThousandMessagesPassInBothDirectionsOfOneStream(t *testing.T) {
	const messages = 10_000
	r := start(t, startServer(t), everything)
	conn, ctx := r.client()
	stream, err := testgrpc.NewTestServiceClient(conn).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		for i := range int32(messages) {
			err := stream.Send(&testgrpc.StreamingOutputCallRequest{
				ResponseParameters: []*testgrpc.ResponseParameters{{Size: i % 100}}, Payload: &testgrpc.Payload{Body: make([]byte, i%200)},
			})
			if err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	for i := range messages {
		reply, err := stream.Recv()
		if err != nil || len(reply.Payload.GetBody()) != i%100 {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestACallThatTheClientCancelsIsCancelledAtTheServer(t *testing.T) {
	g := newGate(t)
	r := start(t, startServer(t, g.register), everything)
	conn, ctx := r.client()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := watch(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	g.open("x")
	receive(t, stream, "x")
	cancel()
	select {
	case <-g.gone:
	case <-time.After(patience):
		t.Fatal("the server goes on")
	}
}

func TestADeadlineReachesTheServer(t *testing.T) {
	g := newGate(t)
	r := start(t, startServer(t, g.register), everything)
	conn, ctx := r.client()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stream, err := watch(ctx, conn)
	if err == nil {
		err = stream.RecvMsg(new(testgrpc.Payload))
	}
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%v, want DEADLINE_EXCEEDED", err)
	}
	select {
	case <-g.gone:
	case <-time.After(patience):
		t.Fatal("the server goes on")
	}
}

func TestADrainLetsStreamsFinish(t *testing.T) {
	r := start(t, startServer(t), everything, "--drain-time", "60s")
	conn, ctx := r.client()
	stream, err := testgrpc.NewTestServiceClient(conn).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	pingPong(t, stream, 1)
	r.terminate()
	// The listeners close once the client has been told (GOAWAY); then a new call finds nobody.
	for code := codes.OK; code != codes.Unavailable; {
		_, err := testgrpc.NewTestServiceClient(conn).EmptyCall(ctx, new(testgrpc.Empty))
		if code = status.Code(err); ctx.Err() != nil {
			t.Fatal("new calls are still served")
		}
	}
	pingPong(t, stream, 2)
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
	r.wantExit()
}

func TestADrainEndsStreamsThatDoNotFinish(t *testing.T) {
	r := start(t, startServer(t), everything, "--drain-time", "1s")
	conn, ctx := r.client()
	stream, err := testgrpc.NewTestServiceClient(conn).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	pingPong(t, stream, 1)
	r.terminate()
	if _, err := stream.Recv(); status.Code(err) == codes.OK || ctx.Err() != nil {
		t.Errorf("the stream ends with %v", err)
	}
	r.wantExit()
}

// TestAServerThatStopsInGoodOrderCostsNoCall: GOAWAY refuses what has not been looked at, and that goes elsewhere.
func TestAServerThatStopsInGoodOrderCostsNoCall(t *testing.T) {
	stops := grpc.NewServer()
	r := service{backends: []int{serve(t, stops), startServer(t)}}.start(t, everything)
	conn, ctx := r.client()
	client := testgrpc.NewTestServiceClient(conn)
	var calls sync.WaitGroup
	var done atomic.Int64
	stopped := make(chan struct{})
	for range 8 {
		calls.Go(func() {
			for more := 0; more < 20; {
				_, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: make([]byte, 500)}})
				if err != nil {
					t.Error(err)
					return
				}
				done.Add(1)
				select {
				case <-stopped:
					more++
				default:
				}
			}
		})
	}
	for done.Load() < 500 && ctx.Err() == nil && !t.Failed() {
		time.Sleep(time.Millisecond)
	}
	stops.GracefulStop()
	close(stopped)
	calls.Wait()
}

func (r *rig) wantExit() {
	r.t.Helper()
	select {
	case <-r.exited:
		if code := r.process.ProcessState.ExitCode(); code != 0 {
			r.t.Errorf("RAUTA exits with %d", code)
		}
	case <-time.After(patience):
		r.t.Error("RAUTA goes on")
	}
}
