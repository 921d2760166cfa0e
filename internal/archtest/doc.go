// Package archtest holds the tests that keep the architecture: who may import what, who owns which third-party package,
// where goroutines may start, and the sizes of files and functions.
//
// It owns the import rule: the table in rule_test.go is the rule. `make check` and every test run call it.
package archtest
