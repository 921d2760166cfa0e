//go:build !invariants

package loop

const invariants = false

type threadOwner struct{}

func (w *Worker) takeThread()    {}
func (w *Worker) releaseThread() {}
func (w *Worker) checkThread()   {}

func (m *Message) markQueued() {}
func (m *Message) markTaken()  {}

type bufferLedger struct{}

func (l *bufferLedger) got([]byte)  {}
func (l *bufferLedger) put([]byte)  {}
func (w *Worker) poisonReadBuffer() {}
