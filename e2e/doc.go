// Package e2e holds the stories: a whole fleet of real processes on a real
// Redis, the clients that use it, and the faults that befall it. It decides
// whether the product keeps its promises where nothing is simulated.
//
// The crowd's stories (story_test.go) have many clients talk through a fault,
// each with a ledger, and lay the ledgers beside the log. The contract's
// stories (contract_*_test.go) have few clients on plain frames, and look at
// one promise each. What they are made of stands in ledger, fault, fleet and
// raw.
//
// The flag -story runs the long form; -seed repeats a run's choices.
package e2e
