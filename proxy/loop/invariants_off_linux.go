//go:build !invariants

package loop

// Without -tags invariants the checks are empty and cost nothing.

type threadOwner struct{}

func (*threadOwner) take()    {}
func (*threadOwner) release() {}
func (*threadOwner) check()   {}

type queueMark struct{}

func (*queueMark) set()   {}
func (*queueMark) clear() {}

type bufferLedger struct{}

func (*bufferLedger) got([]byte) {}
func (*bufferLedger) put([]byte) {}

func (w *Worker) poisonReadBuffer() {}

func (w *Worker) poisonAhead() {}

type owedCheck struct{}

func (*owedCheck) set([]byte)        {}
func (*owedCheck) check([]byte, int) {}
