// Package grpc calls gRPC services through RAUTA with clients and servers that are not RAUTA's: the interoperability suite of
// grpc-go, and a client of gRPC-Web as browsers have it. It is a module of its own, so that RAUTA needs none of these.
//
// The tests run the program that the environment variable RAUTA names; `make grpc` builds it and runs them.
package grpc
