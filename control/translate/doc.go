// Package translate turns Kubernetes objects into a data-plane configuration, endpoint sets and object statuses.
//
// It owns what the objects mean: which Gateways and Ingresses are RAUTA's, which routes attach to which listener, what
// every field becomes, and every condition and problem that a user is told. It is a pure function: no clock, no I/O, no
// logging, inputs are never changed, and the same objects in any order give the same bytes.
//
// It does not own reading or watching objects (control/watch), writing statuses (control/status) or executing anything
// (the data plane). control calls Translate for every change of configuration, and EndpointsOf when only an
// EndpointSlice changed. cmd/rauta calls it for check and explain.
//
// Rules that hold everywhere in here:
//   - A value reaches the configuration byte for byte, or what carries it is left out and reported.
//   - One bad object, rule or reference never hurts another.
//   - What is not supported is never ignored: it is reported, and where leaving it out could open something, the rule
//     answers 500.
//
// Decisions where the specifications leave room:
//   - All Gateways and the Ingress listener share the node's addresses, unless there is a pool of addresses of which each
//     Gateway gets its own (docs/adr/0011-addresses-of-gateways.md). Within a Gateway, listeners that are not
//     distinct are all rejected, as the Gateway API asks. Two Gateways may use the same port and hostname; requests
//     then choose among the routes of both. A Gateway that could disable another one by merely existing would break the
//     second rule above.
//   - A port speaks the PROXY protocol or it does not: the oldest Gateway on the port decides, a younger one that
//     disagrees gets its listener refused. The Ingress listener follows the Gateways on its port.
//   - A port is TLS or plain text: the oldest Gateway on it decides. An HTTPS listener without a usable certificate keeps
//     its hostname, and refuses every handshake for it: the listener for all hostnames must not take its clients. The same
//     holds for hosts in the tls sections of Ingresses, of which the oldest with a usable certificate decides.
//   - The wildcard host of an Ingress covers exactly one label, as its specification says; those of the Gateway API cover any
//     number. Certificates, and what clients are asked for, go by the longest wildcard however many labels a name has.
package translate
