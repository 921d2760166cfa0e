// Package l4 forwards what nobody looks into: TCP connections, TLS connections as they come or decrypted, and UDP datagrams.
//
// It owns the tunnel between a client connection and one to a back end, and the flows of datagrams. It does not own the
// decision where something belongs (proxy/snapshot), the choice of an endpoint (proxy/upstream), nor handshakes and PROXY
// headers: proxy/server hands over connections whose route is known. Everything happens on the thread of one worker.
//
// A connection to a back end carries one tunnel and is never pooled. What one side sends and the other does not take waits
// in one buffer, and while something waits nothing more is read: that is the whole of back pressure.
package l4
