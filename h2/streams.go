package h2

// recentSlots is a power of two, several times the streams that a connection usually has: a stream whose id is that far
// behind the newest is looked for among all.
const recentSlots = 256

// find returns the open stream with the id, or nil.
func (c *link) find(id uint32) *stream {
	if c.recent != nil {
		if s := c.recent[id>>1%recentSlots]; s != nil && s.id == id {
			return s
		}
	}
	for i := len(c.ids) - 1; i >= 0; i-- {
		if c.ids[i] == id {
			return c.streams[i]
		}
	}
	return nil
}

// add makes a new stream part of the connection.
func (c *link) add(s *stream, id uint32) {
	s.c, s.id = c, id
	s.sendWindow, s.recvWindow, s.recvTarget = c.streamSendWindow, streamWindow, streamWindow
	s.since = c.e.loop.Now()
	s.touched, s.progress = s.since, s.since
	c.enlist(s)
}

func (c *link) enlist(s *stream) {
	s.index = len(c.streams)
	c.streams, c.ids = append(c.streams, s), append(c.ids, s.id)
	const fewStreams = 8 // which are found as fast without a table
	if c.recent == nil && len(c.streams) > fewStreams {
		c.recent = new([recentSlots]*stream)
	}
	if c.recent != nil {
		c.recent[s.id>>1%recentSlots] = s
	}
}

func (c *link) delist(s *stream) {
	last := len(c.streams) - 1
	c.ids[s.index], c.streams[s.index] = c.ids[last], c.streams[last]
	c.streams[s.index].index = s.index
	c.streams[last] = nil
	c.ids, c.streams = c.ids[:last], c.streams[:last]
	if c.recent != nil && c.recent[s.id>>1%recentSlots] == s {
		c.recent[s.id>>1%recentSlots] = nil
	}
}

// remove ends a stream. Its exchange is over, or is told by the caller.
func (c *link) remove(s *stream, byUs bool) {
	s.dead = true
	s.releaseBody()
	s.releasePend()
	c.delist(s)
	c.remember(s.id, byUs)
	c.graveyard = append(c.graveyard, s)
	c.markDirty()
	if len(c.streams) == 0 {
		c.role.emptied()
	}
}

// remember notes a stream that has ended.
func (c *link) remember(id uint32, byUs bool) {
	closed := closedStream(id)
	if byUs {
		closed |= resetByUs
	}
	c.closedIDs[c.closedNext] = closed
	c.closedNext = (c.closedNext + 1) % closedMax
}

// recall tells whether the stream has ended a short while ago, and how.
func (c *link) recall(id uint32) (known, byUs bool) {
	for _, closed := range c.closedIDs[:] {
		if closed&^resetByUs == closedStream(id) {
			return true, closed&resetByUs != 0
		}
	}
	return false, false
}

func (c *link) sendReset(id uint32, code errCode) {
	c.control()
	c.out.buf = appendRSTStream(c.out.buf, id, code)
	c.e.exchange.Shard.StreamReset(c.resetFrom + 1)
}

// reset ends a stream with RST_STREAM in our own name. Its exchange is over, or is told by the caller.
func (c *link) reset(s *stream, code errCode) {
	c.sendReset(s.id, code)
	c.remove(s, true)
}

// streamError answers an error of the peer on one stream (RFC 9113 section 5.4.2), open or not.
func (c *link) streamError(id uint32, code errCode, reason string) {
	if s := c.find(id); s != nil {
		c.reset(s, code)
		s.user.onLost(reason)
	} else {
		c.sendReset(id, code)
		if known, _ := c.recall(id); !known {
			c.remember(id, true)
		}
	}
	c.role.glitch()
}

// glitch implements role. A reset that it made us send counts like one of its own.
func (c *serverConn) glitch() {
	c.glitches++
	if c.glitches > glitchesMax {
		c.fail(codeEnhanceYourCalm, "too_many_stream_errors")
		return
	}
	c.countReset()
}

// countReset counts a stream that ended before its response.
func (c *serverConn) countReset() {
	if c.resets == nil {
		c.resets = new(resetLog)
	}
	if c.resets.add(c.e.loop.Now(), c.opened) {
		c.fail(codeEnhanceYourCalm, "rapid_reset")
	}
}

// creditConn gives the peer window of the connection back.
func (c *link) creditConn() {
	if c.recvCredit >= connWindow/creditPart && c.state == serving {
		c.out.reserve(c.e.loop, 16)
		c.out.buf = appendWindowUpdate(c.out.buf, 0, uint32(c.recvCredit))
		c.recvWindow += c.recvCredit
		c.recvCredit = 0
	}
}

// creditStream gives n bytes of a stream's window back, because they have been passed on.
func (c *link) creditStream(s *stream, n int) {
	if s.dead || s.recvEnded {
		return
	}
	s.recvCredit += int64(n)
	if s.recvCredit >= s.recvTarget/creditPart {
		if !s.recvHeld && s.recvTarget < c.streamWindowMax {
			s.recvCredit += s.recvTarget
			s.recvTarget *= 2
		}
		s.recvHeld = false
		c.out.reserve(c.e.loop, 16)
		c.out.buf = appendWindowUpdate(c.out.buf, s.id, uint32(s.recvCredit))
		s.recvWindow += s.recvCredit
		s.recvCredit = 0
		c.markDirty()
	}
}
