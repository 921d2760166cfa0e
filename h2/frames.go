package h2

import "encoding/binary"

// onFrame takes one frame.
func (c *link) onFrame(h frameHeader, payload []byte) {
	if c.state == awaitSettings {
		if h.typ != frameSettings || h.flags&flagAck != 0 {
			c.fail(codeProtocol, "settings_expected")
			return
		}
		c.state = serving
	}
	if c.block.stream != 0 && (h.typ != frameContinuation || h.stream != c.block.stream) { // RFC 9113 section 6.10
		c.fail(codeProtocol, "continuation_expected")
		return
	}
	switch h.typ {
	case frameData:
		c.onData(h, payload)
	case frameHeaders:
		c.onHeaders(h, payload)
	case framePriority:
		c.onPriority(h, payload)
	case frameRSTStream:
		c.onRSTStream(h, payload)
	case frameSettings:
		c.onSettingsFrame(h, payload)
	case framePing:
		c.onPing(h, payload)
	case frameGoAway:
		c.onGoAwayFrame(h, payload)
	case frameWindowUpdate:
		c.onWindowUpdate(h, payload)
	case frameContinuation:
		c.onContinuation(h, payload)
	case framePushPromise: // RFC 9113 section 8.4: a client can't push
		c.fail(codeProtocol, "push_promise")
	default: // RFC 9113 section 5.5: unknown types are ignored; PRIORITY_UPDATE comes with requests
		c.spend(&c.budgets.priorities, prioritiesPerMinute, "unknown_frame_flood")
	}
}

// spend takes one token; without it the peer is sent away. It reports whether there was one.
func (c *link) spend(b *budget, perMinute int64, reason string) bool {
	if b.take(c.e.loop.Now(), perMinute) {
		return true
	}
	c.fail(codeEnhanceYourCalm, reason)
	return false
}

// idleStream reports whether the stream has not been opened yet, and fails the connection if so (RFC 9113 section 5.1).
func (c *link) idleStream(id uint32) bool {
	if id%2 == 0 || id > c.lastID {
		c.fail(codeProtocol, "frame_on_idle_stream")
		return true
	}
	return false
}

// onData takes a part of a body (RFC 9113 section 6.1).
func (c *link) onData(h frameHeader, payload []byte) {
	if c.idleStream(h.stream) {
		return
	}
	if c.recvWindow -= int64(h.length); c.recvWindow < 0 {
		c.fail(codeFlowControl, "connection_window_exceeded")
		return
	}
	data, ok := cutPadding(h.flags, payload)
	if !ok {
		c.fail(codeProtocol, "bad_padding")
		return
	}
	c.recvCredit += int64(h.length)
	if c.recvCredit >= connWindow/creditPart {
		c.markDirty()
	}
	s := c.find(h.stream)
	if s == nil || s.recvEnded {
		// What was on its way when we gave the stream up is no error.
		if known, byUs := c.recall(h.stream); s != nil || !byUs && (known || !c.role.forgets()) {
			c.streamError(h.stream, codeStreamClosed, "data_after_end")
		}
		return
	}
	if s.headless {
		c.streamError(h.stream, codeProtocol, "data_before_head")
		return
	}
	if s.recvWindow -= int64(h.length); s.recvWindow < 0 {
		c.streamError(h.stream, codeFlowControl, "stream_window_exceeded")
		return
	}
	end := h.flags&flagEndStream != 0
	if len(data) == 0 && !end && !c.spend(&c.budgets.empty, emptyFramesPerMinute, "empty_frame_flood") {
		return
	}
	s.bodyBytes += int64(len(data))
	if s.length >= 0 && (s.bodyBytes > s.length || end && s.bodyBytes != s.length) { // RFC 9113 section 8.1.1
		c.streamError(h.stream, codeProtocol, "content_length_mismatch")
		return
	}
	s.recvEnded = end
	if padding := h.length - len(data); padding > 0 {
		c.creditStream(s, padding)
	}
	s.onBody(data)
	if end && !s.dead {
		s.user.halfDone()
	}
}

// onPriority ignores what RFC 9113 section 5.3.2 has deprecated, within its rules.
func (c *link) onPriority(h frameHeader, payload []byte) {
	switch {
	case h.stream == 0:
		c.fail(codeProtocol, "priority_on_connection")
	case len(payload) != 5:
		c.streamError(h.stream, codeFrameSize, "bad_priority")
	case binary.BigEndian.Uint32(payload)&streamIDMask == h.stream:
		c.streamError(h.stream, codeProtocol, "bad_priority")
	default:
		c.spend(&c.budgets.priorities, prioritiesPerMinute, "priority_flood")
	}
}

// onRSTStream: the peer gives a stream up (RFC 9113 section 6.4).
func (c *link) onRSTStream(h frameHeader, payload []byte) {
	if h.stream == 0 {
		c.fail(codeProtocol, "rst_on_connection")
		return
	}
	if len(payload) != 4 {
		c.fail(codeFrameSize, "bad_rst_stream")
		return
	}
	if c.idleStream(h.stream) {
		return
	}
	c.e.exchange.Shard.StreamReset(c.resetFrom)
	c.role.onReset(c.find(h.stream), errCode(binary.BigEndian.Uint32(payload)))
}

// onSettingsFrame applies the peer's settings (RFC 9113 section 6.5).
func (c *link) onSettingsFrame(h frameHeader, payload []byte) {
	switch {
	case h.stream != 0:
		c.fail(codeProtocol, "settings_on_stream")
		return
	case h.flags&flagAck != 0:
		if len(payload) != 0 {
			c.fail(codeFrameSize, "bad_settings")
		} else {
			c.spend(&c.budgets.settings, settingsPerMinute, "settings_flood")
		}
		return
	case len(payload)%settingBytes != 0:
		c.fail(codeFrameSize, "bad_settings")
		return
	case !c.spend(&c.budgets.settings, settingsPerMinute, "settings_flood"):
		return
	}
	for ; len(payload) > 0; payload = payload[settingBytes:] {
		id, value := binary.BigEndian.Uint16(payload), binary.BigEndian.Uint32(payload[2:])
		if code := c.applySetting(id, value); code != codeNo {
			c.fail(code, "bad_setting")
			return
		}
	}
	c.control()
	c.out.buf = appendFrameHeader(c.out.buf, 0, frameSettings, flagAck, 0)
	c.role.onSettings()
}

// applySetting takes one setting. The size of frames needs no care: we never use more than the least that it can be.
func (c *link) applySetting(id uint16, value uint32) errCode {
	switch id {
	case settingHeaderTableSize:
		c.encoder.SetTableSize(value)
	case settingMaxFrameSize:
		if value < frameBytesMax || value > 1<<24-1 {
			return codeProtocol
		}
	case settingInitialWindowSize:
		if value > windowMax {
			return codeFlowControl
		}
		delta := int64(value) - c.streamSendWindow
		c.streamSendWindow = int64(value)
		for _, s := range c.streams { // RFC 9113 section 6.9.2
			if s.sendWindow += delta; s.sendWindow > windowMax {
				return codeFlowControl
			}
			c.wake(s)
		}
	default:
		return c.role.onSetting(id, value)
	}
	return codeNo
}

// wake lets a stream go on whose window may have opened.
func (c *link) wake(s *stream) {
	if s.sendWindow > 0 && len(s.pending()) > 0 {
		c.queue.push(s)
		c.markDirty()
	}
}

// onPing answers (RFC 9113 section 6.7).
func (c *link) onPing(h frameHeader, payload []byte) {
	switch {
	case h.stream != 0:
		c.fail(codeProtocol, "ping_on_stream")
	case len(payload) != 8:
		c.fail(codeFrameSize, "bad_ping")
	case h.flags&flagAck != 0:
		if !c.role.onPong(payload) {
			c.spend(&c.budgets.pings, pingsPerMinute, "ping_flood")
		}
	case c.spend(&c.budgets.pings, pingsPerMinute, "ping_flood"):
		c.control()
		c.out.buf = append(appendFrameHeader(c.out.buf, 8, framePing, flagAck, 0), payload...)
	}
}

// onGoAwayFrame: the peer wants no more streams (RFC 9113 section 6.8).
func (c *link) onGoAwayFrame(h frameHeader, payload []byte) {
	switch {
	case h.stream != 0:
		c.fail(codeProtocol, "goaway_on_stream")
	case len(payload) < 8:
		c.fail(codeFrameSize, "bad_goaway")
	default:
		c.role.onGoAway(binary.BigEndian.Uint32(payload)&streamIDMask, errCode(binary.BigEndian.Uint32(payload[4:])))
	}
}

// onWindowUpdate opens a window (RFC 9113 section 6.9).
func (c *link) onWindowUpdate(h frameHeader, payload []byte) {
	if len(payload) != 4 {
		c.fail(codeFrameSize, "bad_window_update")
		return
	}
	if h.stream != 0 && c.idleStream(h.stream) {
		return
	}
	if !c.spend(&c.budgets.windowUpdates, windowUpdatesPerMinute, "window_update_flood") {
		return
	}
	n := int64(binary.BigEndian.Uint32(payload) & streamIDMask)
	if h.stream == 0 {
		c.sendWindow += n
		switch {
		case n == 0:
			c.fail(codeProtocol, "bad_window_update")
		case c.sendWindow > windowMax:
			c.fail(codeFlowControl, "window_overflow")
		case c.queue.first != nil:
			c.markDirty()
		}
		return
	}
	s := c.find(h.stream)
	if s == nil { // it has ended a short while ago
		if n == 0 {
			c.streamError(h.stream, codeProtocol, "bad_window_update")
		}
		return
	}
	s.sendWindow += n
	switch {
	case n == 0:
		c.streamError(h.stream, codeProtocol, "bad_window_update")
	case s.sendWindow > windowMax:
		c.streamError(h.stream, codeFlowControl, "window_overflow")
	default:
		c.wake(s)
	}
}
