package demo

import (
	"encoding/binary"
	"io"
	"net/http"
	"strings"
)

// The gRPC service is written by hand, frames and messages: the libraries that would do it for us would end up in RAUTA's
// binary. Its definition, which the server also tells by reflection:
//
//	syntax = "proto3";
//	package demo;
//	service Echo {
//	  rpc Say(Message) returns (Message);
//	  rpc Chat(stream Message) returns (stream Message);
//	}
//	message Message { string text = 1; string back_end = 2; }

const (
	// grpcPrefixBytes stand before each message: a byte for compression, four for the length.
	grpcPrefixBytes = 5
	// grpcInternal and grpcUnimplemented are status codes of gRPC.
	grpcInternal      = "13"
	grpcUnimplemented = "12"
)

// GRPCHandler answers as the gRPC back end called name: each message comes back with the name added.
func GRPCHandler(name string) http.Handler {
	echo := func(message []byte) []byte { return appendText(message, 2, name) }
	methods := map[string]func([]byte) []byte{
		"/demo.Echo/Say":  echo,
		"/demo.Echo/Chat": echo,
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      reflect,
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": reflect,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			http.Error(w, "this back end speaks gRPC", http.StatusUnsupportedMediaType)
			return
		}
		w.Header().Set("Content-Type", "application/grpc")
		method := methods[r.URL.Path]
		if method == nil {
			w.Header().Set("Grpc-Status", grpcUnimplemented)
			w.Header().Set("Grpc-Message", "the demo has no such method")
			return
		}
		status := "0"
		if err := answerEach(w, r.Body, method); err != nil {
			status = grpcInternal
		}
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
	})
}

// answerEach answers every message as it comes, so that one loop does for all kinds of calls.
func answerEach(w http.ResponseWriter, body io.Reader, method func([]byte) []byte) error {
	out := http.NewResponseController(w)
	for {
		var prefix [grpcPrefixBytes]byte
		if _, err := io.ReadFull(body, prefix[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		length := binary.BigEndian.Uint32(prefix[1:])
		if prefix[0] != 0 || length > bodyBytesMax {
			return http.ErrNotSupported
		}
		message := make([]byte, length)
		if _, err := io.ReadFull(body, message); err != nil {
			return err
		}
		reply := method(message)
		if _, err := w.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(reply))), reply...)); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

// Fields of grpc.reflection.v1.ServerReflectionRequest and its response.
const (
	askFileByName   = 3
	askFileBySymbol = 4
	askServices     = 7

	tellRequest  = 2
	tellFiles    = 4
	tellServices = 6
	tellError    = 7
)

// grpcNotFound is the status code in an answer of reflection.
const grpcNotFound = 5

const protoFile = "demo.proto"

// reflect answers the questions with which clients such as grpcurl find out what there is to call.
func reflect(request []byte) []byte {
	reply := appendBytes(nil, tellRequest, request)
	field, text := question(request)
	switch {
	case field == askServices:
		return appendBytes(reply, tellServices, appendBytes(nil, 1, appendText(nil, 1, "demo.Echo")))
	case field == askFileByName && text == protoFile, field == askFileBySymbol && strings.HasPrefix(text, "demo."):
		return appendBytes(reply, tellFiles, appendBytes(nil, 1, fileDescriptor()))
	}
	return appendBytes(reply, tellError, appendText(appendNumber(nil, 1, grpcNotFound), 2, "only demo.Echo is known here"))
}

// question is the last field that asks something; all of them are texts.
func question(request []byte) (field uint64, text string) {
	for len(request) > 0 {
		key, n := binary.Uvarint(request)
		if n <= 0 || key&7 != wireBytes {
			return 0, ""
		}
		length, m := binary.Uvarint(request[n:])
		if m <= 0 || length > uint64(len(request)-n-m) {
			return 0, ""
		}
		value := request[n+m : n+m+int(length)]
		request = request[n+m+int(length):]
		if key>>3 >= askFileByName {
			field, text = key>>3, string(value)
		}
	}
	return field, text
}

// fileDescriptor is the service's definition as a google.protobuf.FileDescriptorProto.
func fileDescriptor() []byte {
	const typeString, labelOptional = 9, 1
	var message []byte
	message = appendText(message, 1, "Message")
	for i, name := range []string{"text", "back_end"} {
		f := appendText(nil, 1, name)
		f = appendNumber(f, 3, uint64(i+1))
		f = appendNumber(f, 4, labelOptional)
		f = appendNumber(f, 5, typeString)
		message = appendBytes(message, 2, f)
	}
	service := appendText(nil, 1, "Echo")
	for _, m := range []struct {
		name      string
		streaming bool
	}{{"Say", false}, {"Chat", true}} {
		d := appendText(appendText(appendText(nil, 1, m.name), 2, ".demo.Message"), 3, ".demo.Message")
		if m.streaming {
			d = appendNumber(appendNumber(d, 5, 1), 6, 1)
		}
		service = appendBytes(service, 2, d)
	}
	file := appendText(appendText(nil, 1, protoFile), 2, "demo")
	file = appendBytes(appendBytes(file, 4, message), 6, service)
	return appendText(file, 12, "proto3")
}

// Wire types of protobuf.
const (
	wireNumber = 0
	wireBytes  = 2
)

func appendNumber(b []byte, field int, value uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(field)<<3|wireNumber), value)
}

func appendBytes(b []byte, field int, value []byte) []byte {
	b = binary.AppendUvarint(b, uint64(field)<<3|wireBytes)
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}

func appendText(b []byte, field int, value string) []byte {
	return appendBytes(b, field, []byte(value))
}
