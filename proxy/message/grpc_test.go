package message

import "testing"

func post(version Version, fields ...string) *Request {
	r := &Request{MethodID: MethodPost, Version: version}
	for i := 0; i < len(fields); i += 2 {
		r.Add(fields[i], fields[i+1], LookupIDString(fields[i]))
	}
	return r
}

func TestTheContentTypeTellsGRPC(t *testing.T) {
	for _, c := range []struct {
		contentType string
		version     Version
		want        GRPC
	}{
		{"application/grpc", HTTP2, PlainGRPC},
		{"application/grpc+proto", HTTP2, PlainGRPC},
		{"Application/GRPC; x=y", HTTP2, PlainGRPC},
		{"application/grpc", HTTP11, NotGRPC},
		{"application/grpc-web", HTTP11, GRPCWeb},
		{"application/grpc-web+proto", HTTP2, GRPCWeb},
		{"application/grpc-web-text+proto", HTTP11, GRPCWebText},
		{"application/grpc-web-text;charset=x", HTTP11, GRPCWebText},
		{"application/grpcx", HTTP2, NotGRPC},
		{"application/grpc-webx", HTTP2, NotGRPC},
		{"application/json", HTTP2, NotGRPC},
		{"", HTTP2, NotGRPC},
	} {
		if got := GRPCOf(post(c.version, "Content-Type", c.contentType)); got != c.want {
			t.Errorf("%q in version %d is %d, want %d", c.contentType, c.version, got, c.want)
		}
	}
	get := post(HTTP2, "Content-Type", "application/grpc")
	if get.MethodID = MethodGet; GRPCOf(get) != NotGRPC {
		t.Error("a GET is taken for gRPC")
	}
}

func TestAcceptChoosesTheFormOfAGRPCWebResponse(t *testing.T) {
	for _, c := range []struct {
		contentType, accept string
		want                GRPC
	}{
		{"application/grpc-web+proto", "", GRPCWeb},
		{"application/grpc-web-text", "*/*", GRPCWebText},
		{"application/grpc-web-text", "application/grpc-web+proto", GRPCWeb},
		{"application/grpc-web", "text/plain,application/grpc-web-text+proto;q=1", GRPCWebText},
		{"application/grpc-web", " , application/grpc", GRPCWeb},
	} {
		if got := GRPCWebAnswer(post(HTTP11, "Content-Type", c.contentType, "Accept", c.accept)); got != c.want {
			t.Errorf("%q, Accept %q: %d, want %d", c.contentType, c.accept, got, c.want)
		}
	}
}
