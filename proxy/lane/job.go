package lane

import (
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/valyala/fasthttp"

	"rauta.io/rauta/proxy/message"
)

// Job is one run of a handler for one request. It is made and submitted on the thread of the worker that has the request,
// and used once.
type Job struct {
	// Immutable after Submit.
	handler      fasthttp.RequestHandler
	client       netip.Addr
	req          message.Request
	body         []byte
	bodyBytesMax int
	post         func(func())
	done         func(*Verdict)

	cancelled atomic.Bool
}

// NewJob returns a job that runs h on a copy of req; client is the address of the client.
func (l *Lane) NewJob(h fasthttp.RequestHandler, req *message.Request, client netip.Addr) *Job {
	j := &Job{handler: h, client: client, bodyBytesMax: l.opt.BodyBytesMax}
	j.req = *req
	j.req.Head = message.Head{}
	j.req.Head.Copy(&req.Head)
	return j
}

// AppendBody adds a part of the request body, which is copied. false means that the body is larger than
// Options.BodyBytesMax; nothing is added then.
func (j *Job) AppendBody(p []byte) bool {
	if len(j.body)+len(p) > j.bodyBytesMax {
		return false
	}
	j.body = append(j.body, p...)
	return true
}

// Cancel gives the verdict up: done will not be called. A handler that has not begun will not run; one that runs goes on to
// its end. It is called on the worker's thread.
func (j *Job) Cancel() { j.cancelled.Store(true) }

// context returns the request as a handler sees it. Field names are in fasthttp's normal form, so that a handler finds
// them however the client wrote them.
func (j *Job) context() *fasthttp.RequestCtx {
	r := &j.req
	ctx := &fasthttp.RequestCtx{}
	ctx.Init2(remoteConn{addr: net.TCPAddr{IP: j.client.AsSlice(), Zone: j.client.Zone()}}, nil, false)
	h := &ctx.Request.Header
	h.SetMethodBytes(r.Bytes(r.Method))
	uri := append([]byte(nil), r.Bytes(r.Path)...)
	if r.HasQuery {
		uri = append(append(uri, '?'), r.Bytes(r.Query)...)
	}
	h.SetRequestURIBytes(uri)
	h.SetHostBytes(r.Bytes(r.Authority))
	if r.Version == message.HTTP10 {
		h.SetProtocol("HTTP/1.0")
	}
	for i := range r.Fields {
		if f := &r.Fields[i]; f.ID != message.Removed {
			h.AddBytesKV(r.Bytes(f.Name), r.Bytes(f.Value))
		}
	}
	ctx.Request.URI().SetScheme(r.Scheme.String())
	ctx.Request.SetBodyRaw(j.body)
	return ctx
}

// remoteConn is the connection that a RequestCtx asks for addresses. There is nothing to read from or write to: a
// handler that hijacks it gets no use of it.
type remoteConn struct {
	net.Conn
	addr net.TCPAddr
}

func (c remoteConn) RemoteAddr() net.Addr { return &c.addr }
func (c remoteConn) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (c remoteConn) Close() error         { return nil }
