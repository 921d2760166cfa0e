// Package conformance runs the conformance suite of the Gateway API against the whole program: a control plane of
// test/cluster, the suite's back ends as pods, and rauta serve with the permissions that it is shipped with.
//
// It owns how the suite is run and what counts as passed: every test that is about gateways, none skipped. `make conformance`
// runs it. It is a module of its own, because the suite needs much that RAUTA does not.
package conformance
