//go:build linux && (amd64 || arm64)

package bpf

import (
	"errors"
	"io"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// stamps goes over the stamps of all sockets that there are, and returns how many that is each time it is asked. The product
// needs no such program.
func (w *watch) stamps() func() int {
	w.t.Helper()
	const meta, sk, seq = 0, 16, 0 // where struct bpf_iter__bpf_sk_storage_map and struct bpf_iter_meta have their fields
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: "bpf_sk_storage_map", License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, sk, asm.DWord),
			asm.JEq.Imm(asm.R2, 0, "end"), // the last call has none
			asm.LoadMem(asm.R1, asm.R1, meta, asm.DWord),
			asm.LoadMem(asm.R1, asm.R1, seq, asm.DWord),
			asm.Mov.Imm(asm.R2, 1),
			asm.StoreMem(asm.RFP, -8, asm.R2, asm.DWord),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -8),
			asm.Mov.Imm(asm.R3, 1),
			asm.FnSeqWrite.Call(), // a byte for each
			asm.Mov.Imm(asm.R0, 0).WithSymbol("end"),
			asm.Return(),
		},
	})
	if errors.Is(err, unix.EPERM) {
		w.t.Skipf("the kernel permits no iterator over storage of sockets, as with lockdown=integrity: %v", err)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.Close() })
	it, err := link.AttachIter(link.IterOptions{Program: p, Map: w.requests.collection.Maps[requestsMapRautaStamps]})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { it.Close() })
	return func() int {
		r, err := it.Open()
		if err != nil {
			w.t.Fatal(err)
		}
		defer r.Close()
		all, err := io.ReadAll(r)
		if err != nil {
			w.t.Fatal(err)
		}
		return len(all)
	}
}

// TestTheStampOfASocketGoesWithIt: whichever side ends the connection, and however.
func TestTheStampOfASocketGoesWithIt(t *testing.T) {
	const each = 10
	for name, end := range map[string]func(c *watched){
		"the client first": func(c *watched) { c.client.Close(); c.server.Close() },
		"RAUTA first":      func(c *watched) { c.server.Close(); c.client.Close() },
		"reset by the client": func(c *watched) {
			abort(c.client)
			_, _ = c.server.Read(c.buffer)
			c.server.Close()
		},
		"reset by RAUTA": func(c *watched) { abort(c.server); c.client.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatch(t, 1)
			stamps, rt := w.stamps(), w.registry.Route("a")
			stays := w.connect()
			defer stays.close()
			var conns []*watched
			for range each {
				c := w.connect()
				c.exchange(rt, 10, 20)
				conns = append(conns, c)
			}
			if n := stamps(); n != each+1 {
				t.Errorf("%d sockets have stamps, not %d", n, each+1)
			}
			for _, c := range conns {
				end(c)
				w.Release(&c.tap)
			}
			until(t, func() bool { return stamps() == 1 })
		})
	}
}
