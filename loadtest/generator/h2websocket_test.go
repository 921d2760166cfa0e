package generator

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// tunnelServer speaks with golang.org/x/net, which shares nothing with the generator; answer says what becomes of a message.
type tunnelServer struct {
	connects uint32 // SETTINGS_ENABLE_CONNECT_PROTOCOL
	status   string
	answer   func(f *http2.Framer, stream uint32)
}

// start serves every connection, and returns the port. What clients send wrongly is reported.
func (s tunnelServer) start(t *testing.T) int {
	t.Helper()
	return listenOn(t, func(conn net.Conn) { s.serve(t, conn) })
}

func (s tunnelServer) serve(t *testing.T, conn net.Conn) {
	if _, err := io.ReadFull(conn, make([]byte, len(preface))); err != nil {
		return
	}
	f := http2.NewFramer(conn, conn)
	f.ReadMetaHeaders = hpack.NewDecoder(tableBytes, nil)
	f.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: s.connects}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 14})
	var head bytes.Buffer
	hpack.NewEncoder(&head).WriteField(hpack.HeaderField{Name: ":status", Value: s.status})
	want := clientMessage(9)
	got := map[uint32][]byte{}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if frame.PseudoValue("method") != "CONNECT" || frame.PseudoValue("protocol") != "websocket" || frame.PseudoValue("scheme") != "http" ||
				frame.PseudoValue("authority") == "" || frame.PseudoValue("path") == "" || frame.StreamEnded() {
				t.Errorf("stream %d began with %v", frame.StreamID, frame.Fields)
			}
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: frame.StreamID, BlockFragment: head.Bytes(), EndHeaders: true})
		case *http2.DataFrame:
			f.WriteWindowUpdate(0, frame.Length)
			f.WriteWindowUpdate(frame.StreamID, frame.Length)
			b := append(got[frame.StreamID], frame.Data()...)
			for ; len(b) >= len(want); b = b[len(want):] {
				if !bytes.Equal(b[:len(want)], want) {
					t.Errorf("stream %d got %x", frame.StreamID, b)
				}
				s.answer(f, frame.StreamID)
			}
			got[frame.StreamID] = b
		}
	}
}

func TestMessagesOfWebSocketsOverHTTP2AreAnsweredByAnotherImplementation(t *testing.T) {
	answer := serverMessage(125)
	whole := func(f *http2.Framer, stream uint32) { f.WriteData(stream, false, answer) }
	for _, c := range []struct {
		name   string
		server tunnelServer
		want   string // "": messages are answered
	}{
		{"whole answers", tunnelServer{1, "200", whole}, ""},
		{"answers in pieces", tunnelServer{1, "200", func(f *http2.Framer, stream uint32) {
			f.WriteData(stream, false, answer[:3])
			f.WriteDataPadded(stream, false, answer[3:], make([]byte, 7))
		}}, ""},
		{"no extended CONNECT", tunnelServer{0, "200", whole}, failSettings},
		{"a refusal", tunnelServer{1, "403", whole}, failStatus},
		{"a changed byte", tunnelServer{1, "200", func(f *http2.Framer, stream uint32) {
			f.WriteData(stream, false, append(bytes.Clone(answer[:len(answer)-1]), 'x'))
		}}, failCorrupt},
		{"more than there should be", tunnelServer{1, "200", func(f *http2.Framer, stream uint32) {
			f.WriteData(stream, false, append(bytes.Clone(answer), 'x'))
		}}, failExtra},
		{"a reset", tunnelServer{1, "200", func(f *http2.Framer, stream uint32) { f.WriteRSTStream(stream, http2.ErrCodeCancel) }}, failReset},
		{"an end", tunnelServer{1, "200", func(f *http2.Framer, stream uint32) { f.WriteData(stream, true, nil) }}, failClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			command := h2Command(c.server.start(t))
			command.Protocol, command.UploadBytes, command.BodyBytes, command.SliceNanos = Tunnels, 9, 125, int64(50*time.Millisecond)
			r := runPrepared(t, testLoop(t), command)
			switch {
			case c.want == "" && (r.Requests == 0 || r.Failed() > 0):
				t.Errorf("%d answered, failures %v", r.Requests, r.Failures)
			case c.want != "" && (r.Failures[c.want] == 0 || len(r.Failures) != 1):
				t.Errorf("%d answered, failures %v; want only %q", r.Requests, r.Failures, c.want)
			}
		})
	}
}

// TestTheCreditOfATunnelIsGivenBack: without it the answers would end when a stream's window is used up.
func TestTheCreditOfATunnelIsGivenBack(t *testing.T) {
	l := testLoop(t)
	c := &h2Tunnels{h2Client: h2Client{link: link{socket: socket{fd: -1}}}}
	s := &h2WebSocket{conn: c, id: 3}
	for range streamWindowOffered/2 - 1 {
		c.credit(l, s, 1)
	}
	if len(c.out) != 0 {
		t.Errorf("%x before half of the window was used", c.out)
	}
	c.credit(l, s, 1)
	f, _, whole := cutFrame(c.out)
	if !whole || f.kind != frameWindowUpdate || f.stream != 3 || !bytes.Equal(f.payload, []byte{0, 8, 0, 0}) {
		t.Errorf("got %x", c.out)
	}
}
