package filter

import "rauta.io/rauta/proxy/message"

// BodyFilter changes the bodies of one exchange on their way, piece by piece, whatever protocols carry them. It returns what
// is to be passed on for a piece: the piece itself, or what it has made in scratch, where it leaves the room that it needed.
// It keeps no more than a part of a piece, so that pausing what comes in is all that back pressure needs. A reason says that
// a body is not what it should be.
type BodyFilter interface {
	RequestData(scratch *[]byte, p []byte) (out []byte, reason string)
	RequestEnd() (reason string)
	// ResponseHead comes after all edits of the final head.
	ResponseHead(resp *message.Response)
	ResponseData(scratch *[]byte, p []byte) (out []byte)
	// ResponseEnd returns what the body ends with, and the trailers that are left to follow it.
	ResponseEnd(scratch *[]byte, trailers *message.Head) ([]byte, *message.Head)
}

// BodySpace is where the body filter of an exchange lives; it is reused, so that no exchange allocates one.
type BodySpace struct{ grpcWeb grpcWeb }

// Body returns the filter for the bodies of an exchange, nil for none, and edits the head of the request for it. It comes
// after Request.
func (c *Chain) Body(req *message.Request, space *BodySpace) BodyFilter {
	if c == nil || !c.grpcWeb {
		return nil
	}
	kind := message.GRPCOf(req)
	if !kind.Web() {
		return nil
	}
	space.grpcWeb.begin(req, kind)
	return &space.grpcWeb
}
