// Package status tells the users of a cluster what has become of their objects: it writes statuses and Events, it knows under
// which addresses RAUTA is reached, and it looks after the Services that stand for Gateways.
//
// It owns the writing: what differs, what belongs to other controllers and stays, conflicts, refusals, rates. It does not
// own what the statuses say (control/translate) or who may write them (control/lead). cmd/rauta connects it to the live
// loop of control, which offers an Update for every publication, and runs it while this replica leads.
//
// Rules that hold everywhere in here:
//   - What another controller has written stays as it is, unknown fields included.
//   - Nothing is said about a generation of an object that is older than what has been said.
//   - One write that fails never keeps another one from being made.
package status
