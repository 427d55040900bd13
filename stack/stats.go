package stack

import (
	"sync/atomic"

	"github.com/seed87e66d9f/waybill/tcp"
)

// Drop names why a packet went no further. What TCP refuses is named by tcp.Drop.
type Drop uint8

// The reasons, from the link upwards.
const (
	BadFrame          Drop = iota // Ethernet: shorter than its header, or 802.3
	OtherStation                  // Ethernet: not our address
	UnknownEtherType              // Ethernet: neither IP nor ARP
	VLAN                          // Ethernet: of a virtual LAN that we are not in
	BadARP                        // ARP: malformed
	AddressConflict               // ARP, NDP: another station uses an address of ours
	LoopedBack                    // NDP: our own question came back
	BadHeader                     // IP: malformed, or its checksum is wrong
	BadExtension                  // IPv6: extension headers that make no sense
	BadSource                     // IP: from an address that no packet comes from
	OtherHost                     // IP: to an address that is not ours
	LinkBroadcast                 // IP: to one host, by a broadcast of the link
	SourceRoute                   // IPv4: with a source route (RFC 7126)
	BadFragment                   // IP: a fragment whose length or place is impossible
	FragmentOverlap               // IP: a fragment that covers what another has brought, or belongs to a packet given up for that
	FragmentDuplicate             // IP: a fragment that was there already
	FragmentCongested             // IP: fragments that disagree on whether their sender knows ECN, one of which met congestion
	FragmentFull                  // IP: too many fragments, of one packet, of one source or in all
	FragmentTimeout               // IP: the rest of the packet did not come in time
	UnknownProtocol               // IP: neither TCP, UDP nor ICMP
	BadICMP                       // ICMP: malformed, or its checksum is wrong
	BadNDP                        // NDP: malformed, or not of this link
	BadIGMP                       // IGMP: malformed, or not of this link
	BadMLD                        // MLD: malformed, or not of this link
	EchoGroup                     // ICMP: an echo request to a group
	UnknownICMP                   // ICMP: a type that we have no use for
	StrayICMP                     // ICMP: an error about nothing that we sent
	BadUDP                        // UDP: malformed
	BadUDPChecksum                // UDP: wrong checksum
	NoSocket                      // UDP: nobody is bound there
	UDPFull                       // UDP: the socket's buffer is full
	UDPMemory                     // UDP: the stack's memory is used up
	BadTCPHeader                  // TCP: malformed
	BadTCPChecksum                // TCP: wrong checksum
	TCPGroup                      // TCP: to a group
	NoRoute                       // sent: no way there
	NeighborFailed                // sent: the next hop does not answer
	NeighborFull                  // sent: the neighbour cache has no room
	NeighborQueue                 // sent: too much waits for the next hop already
	DeviceFull                    // sent: the device has no room
	DeviceError                   // sent: the device failed
	ICMPLimited                   // an error that was not sent: over the limit, or not allowed (RFC 1122 §3.2.2)
	NotForwarded                  // router: to or from an address that is not passed on
	HopsExceeded                  // router: the time to live is used up
	PacketTooBig                  // router: longer than the next link carries, and may not be cut
	ReversePath                   // router: it came by another interface than the one that leads to its source
	Firewalled                    // the firewall's, which counts its own reasons
	InterceptLimit                // an intercepted flow, of whose source too many wait for a decision
	numDrops
)

var dropNames = [numDrops]string{"bad-frame", "other-station", "unknown-ethertype", "vlan", "bad-arp", "address-conflict",
	"looped-back", "bad-header", "bad-extension", "bad-source", "other-host", "link-broadcast", "source-route", "bad-fragment",
	"fragment-overlap", "fragment-duplicate", "fragment-congested", "fragment-full", "fragment-timeout", "unknown-protocol", "bad-icmp", "bad-ndp", "bad-igmp", "bad-mld", "echo-group", "unknown-icmp", "stray-icmp", "bad-udp", "bad-udp-checksum",
	"no-socket", "udp-full", "udp-memory", "bad-tcp-header", "bad-tcp-checksum", "tcp-group", "no-route", "neighbor-failed",
	"neighbor-full", "neighbor-queue", "device-full", "device-error", "icmp-limited",
	"not-forwarded", "hops-exceeded", "packet-too-big", "reverse-path", "firewall", "intercept-limit"}

// String is the reason's name in Stats.Drops.
func (d Drop) String() string {
	if d < numDrops {
		return dropNames[d]
	}
	return "unknown"
}

// Stats are the counters of a stack since it was made.
type Stats struct {
	PacketsIn, PacketsOut       uint64 // packets of the devices, super-segments counted once
	BytesIn, BytesOut           uint64 // octets of those
	SegmentsIn, SegmentsOut     uint64 // TCP segments
	Retransmits                 uint64 // TCP segments sent again
	Resets                      uint64 // TCP resets sent
	Opened                      uint64 // TCP connections that reached ESTABLISHED
	Accepted                    uint64 // of those, by listeners
	Parked                      uint64 // segments that waited for room in a device
	DatagramsIn, DatagramsOut   uint64 // UDP
	FragmentsIn, FragmentsOut   uint64 // of IP packets
	Forwarded                   uint64 // packets passed on, super-segments counted once
	Echoes                      uint64 // echo requests answered
	ICMPErrorsIn, ICMPErrorsOut uint64
	ReadErrors                  uint64            // reads from devices that failed
	Memory                      int64             // octets that sockets and fragments hold now
	Conns, TimeWait             int               // TCP connections, and how many more are remembered in TIME-WAIT
	Drops                       map[string]uint64 // by reason, of which a name is in Drop, or "tcp-" and one in tcp.Drop
}

// counters are what Stats is a copy of.
type counters struct {
	packetsIn, packetsOut, bytesIn, bytesOut, segmentsIn, segmentsOut, retransmits, resetsOut atomic.Uint64
	opened, accepted, parked, datagramsIn, datagramsOut, echoes, icmpErrorsIn, icmpErrorsOut  atomic.Uint64
	readErrors, fragmentsIn, fragmentsOut, forwarded                                          atomic.Uint64
	drops                                                                                     [numDrops]atomic.Uint64
	tcpDrops                                                                                  [tcp.NumDrops]atomic.Uint64
}

func (c *counters) drop(d Drop)         { c.drops[d].Add(1) }
func (c *counters) dropN(d Drop, n int) { c.drops[d].Add(uint64(n)) }
func (c *counters) tcpDrop(d tcp.Drop)  { c.tcpDrops[d].Add(1) }

// Stats tells the counters. Reasons that never happened are left out of Drops.
func (s *Stack) Stats() Stats {
	c := &s.stats
	t := Stats{
		PacketsIn: c.packetsIn.Load(), PacketsOut: c.packetsOut.Load(), BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		SegmentsIn: c.segmentsIn.Load(), SegmentsOut: c.segmentsOut.Load(), Retransmits: c.retransmits.Load(), Resets: c.resetsOut.Load(),
		Opened: c.opened.Load(), Accepted: c.accepted.Load(), Parked: c.parked.Load(),
		DatagramsIn: c.datagramsIn.Load(), DatagramsOut: c.datagramsOut.Load(),
		FragmentsIn: c.fragmentsIn.Load(), FragmentsOut: c.fragmentsOut.Load(), Forwarded: c.forwarded.Load(),
		Echoes: c.echoes.Load(), ICMPErrorsIn: c.icmpErrorsIn.Load(), ICMPErrorsOut: c.icmpErrorsOut.Load(),
		ReadErrors: c.readErrors.Load(), Memory: s.memory.used.Load(), Drops: map[string]uint64{},
	}
	for i := range s.shards {
		h := &s.shards[i]
		h.mu.Lock()
		t.Conns += len(h.conns)
		t.TimeWait += len(h.waits)
		h.mu.Unlock()
	}
	for d := range c.drops {
		if n := c.drops[d].Load(); n > 0 {
			t.Drops[Drop(d).String()] = n
		}
	}
	for d := range c.tcpDrops {
		if n := c.tcpDrops[d].Load(); n > 0 {
			t.Drops["tcp-"+tcp.Drop(d).String()] = n
		}
	}
	return t
}
