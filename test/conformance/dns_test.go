package conformance

import (
	"net"
	"os"
)

// Bits of a DNS header (RFC 1035 section 4.1.1).
const (
	dnsHeaderBytes = 12
	dnsResponse    = 0x80 // in the third byte
	dnsNameUnknown = 3    // in the fourth
)

// answerDNS is the back end of the suite's UDPRoutes, in the place of CoreDNS: it answers every question with "there is no
// such name". The suite wants an answer to its question and does not look at what it says.
func answerDNS([]string) error {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(os.Getenv("POD_IP")), Port: 53})
	if err != nil {
		return err
	}
	buffer := make([]byte, 64<<10)
	for {
		n, client, err := conn.ReadFromUDP(buffer)
		if err != nil {
			return err
		}
		if n < dnsHeaderBytes {
			continue
		}
		buffer[2] |= dnsResponse
		buffer[3] = dnsNameUnknown
		if _, err := conn.WriteToUDP(buffer[:n], client); err != nil {
			return err
		}
	}
}
