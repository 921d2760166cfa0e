package server

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

func TestPressureFollowsTheShareOfTheLimit(t *testing.T) {
	for used, want := range map[uint64]Pressure{0: PressureNone, 919: PressureNone, 920: PressureClose, 949: PressureClose, 950: PressureRefuse, 2000: PressureRefuse} {
		if got := pressureOf(used, 1000); got != want {
			t.Errorf("%d of 1000: %v, want %v", used, got, want)
		}
	}
}

func TestMemoryPressureShedsKeepAliveAndThenRequestsAndEnds(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer backend.Close()
	var used atomic.Uint64
	s, port := startServer(t, 2, func(s *Server) { s.opt.MemoryLimit, s.used = 1000, used.Load })
	cfg, eps := everythingTo(port, backend.Listener.Addr().String())
	if err := s.Publish(cfg, eps); err != nil {
		t.Fatal(err)
	}
	url := "http://" + netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()
	kept := &http.Client{Transport: &http.Transport{}}
	ask := func() (status int, closes bool) {
		t.Helper()
		resp, err := kept.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode, resp.Close
	}
	if status, closes := ask(); status != 200 || closes {
		t.Fatalf("without pressure: %d, close %v", status, closes)
	}
	reach := func(level Pressure, bytes uint64) {
		t.Helper()
		used.Store(bytes)
		for deadline := time.Now().Add(20 * time.Second); Pressure(s.pressure.Load()) != level; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("level %v was not reached", level)
			}
		}
	}
	settles := func(what string, f func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	// A connection that has begun its request stays; nobody may join, and who idles makes room.
	begun, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer begun.Close()
	begun.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(begun, "GET / HTTP/1.1\r\nHost: a\r\n")
	settles("the connection was not accepted", func() bool { return s.plane.(*loopPlane).group.Connections() >= 2 })
	reach(PressureRefuse, 990)
	settles("the plane does not know of the pressure", func() bool { return s.plane.(*loopPlane).group.ConnectionsMax() == 1 })
	io.WriteString(begun, "\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(begun), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 503 || !resp.Close {
		t.Errorf("%d, close %v; want 503 and close", resp.StatusCode, resp.Close)
	}
	reach(PressureClose, 930)
	settles("connections are kept although memory is short", func() bool {
		status, closes := ask()
		return status == 200 && closes
	})
	reach(PressureNone, 100)
	settles("the pressure has not ended", func() bool {
		status, closes := ask()
		return status == 200 && !closes
	})
}
