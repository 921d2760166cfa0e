package message

// GRPC is how a request says that it is gRPC.
type GRPC uint8

// Kinds of gRPC.
const (
	NotGRPC GRPC = iota
	// PlainGRPC is application/grpc on HTTP/2.
	PlainGRPC
	// GRPCWeb is application/grpc-web: from a browser, on any protocol.
	GRPCWeb
	// GRPCWebText is application/grpc-web-text: the same in base64.
	GRPCWebText
)

// Web reports whether the request is gRPC-Web, in either form.
func (g GRPC) Web() bool { return g >= GRPCWeb }

// grpcMediaType begins all content types of gRPC.
const grpcMediaType = "application/grpc"

// GRPCOf reads the method, which is POST in gRPC, and the content type. Parameters and the message format, as in
// application/grpc+proto, play no part.
func GRPCOf(r *Request) GRPC {
	if r.MethodID != MethodPost {
		return NotGRPC
	}
	value, _ := r.Get(ContentType)
	kind, _ := GRPCMediaType(value)
	if kind == PlainGRPC && r.Version != HTTP2 {
		return NotGRPC
	}
	return kind
}

// GRPCMediaType reads a content type; format is what follows the kind, such as "+proto".
func GRPCMediaType(value []byte) (kind GRPC, format []byte) {
	if len(value) < len(grpcMediaType) || !equalFold(value[:len(grpcMediaType)], grpcMediaType) {
		return NotGRPC, nil
	}
	suffix := value[len(grpcMediaType):]
	end := 0
	for end < len(suffix) && suffix[end] != '+' && suffix[end] != ';' && suffix[end] != ' ' {
		end++
	}
	suffix, format = suffix[:end], suffix[end:]
	switch {
	case len(suffix) == 0:
		return PlainGRPC, format
	case equalFold(suffix, "-web"):
		return GRPCWeb, format
	case equalFold(suffix, "-web-text"):
		return GRPCWebText, format
	}
	return NotGRPC, nil
}

// GRPCWebAnswer is the form in which a gRPC-Web request wants its response: what Accept names first, else its own.
func GRPCWebAnswer(r *Request) GRPC {
	value, _ := r.Get(Accept)
	for len(value) > 0 {
		for len(value) > 0 && (value[0] == ' ' || value[0] == '\t' || value[0] == ',') {
			value = value[1:]
		}
		end := 0
		for end < len(value) && value[end] != ',' {
			end++
		}
		if kind, _ := GRPCMediaType(value[:end]); kind.Web() {
			return kind
		}
		value = value[end:]
	}
	return GRPCOf(r)
}
