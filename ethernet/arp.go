package ethernet

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// ARPLen is the length of an ARP packet for Ethernet and IPv4 in octets (RFC 826, "Packet format"): 8 of numbers and
// lengths, then hardware and protocol address of the sender and of the target.
const ARPLen = 28

// The operations of RFC 826, "Packet format".
const (
	OpRequest uint16 = 1 // who has TargetIP?
	OpReply   uint16 = 2 // SenderHW has SenderIP
)

// What an ARP packet that Decode refuses has wrong.
var (
	ErrARPType   = errors.New("ethernet: ARP for other than Ethernet and IPv4")
	ErrARPOp     = errors.New("ethernet: ARP operation that is neither request nor reply")
	ErrARPSender = errors.New("ethernet: ARP sender with a group address")
)

// arpEthernetIPv4 is how each packet begins that we read or write: hardware type 1 (RFC 826, "Definitions"), protocol
// type 0x0800, and lengths 6 and 4.
var arpEthernetIPv4 = [6]byte{0, 1, 8, 0, 6, 4}

// ARP is a request or reply of the Address Resolution Protocol, RFC 826.
type ARP struct {
	Op       uint16     // OpRequest or OpReply
	SenderHW Addr       // whose packet it is
	SenderIP netip.Addr // 0.0.0.0 in a probe (RFC 5227 §1.1)
	TargetHW Addr       // not set in a request
	TargetIP netip.Addr // the address in question
}

// Decode reads the ARP packet b; octets behind it are padding. The error is ErrShort, ErrARPType, ErrARPOp or
// ErrARPSender, and then a holds nothing of use.
func (a *ARP) Decode(b []byte) error {
	if len(b) < ARPLen {
		return ErrShort
	}
	if [6]byte(b) != arpEthernetIPv4 {
		return ErrARPType
	}
	a.Op = binary.BigEndian.Uint16(b[6:])
	if a.Op != OpRequest && a.Op != OpReply {
		return ErrARPOp
	}
	a.SenderHW, a.SenderIP = Addr(b[8:14]), netip.AddrFrom4([4]byte(b[14:18]))
	a.TargetHW, a.TargetIP = Addr(b[18:24]), netip.AddrFrom4([4]byte(b[24:28]))
	// RFC 1812 §3.3.2: "A router MUST not believe any ARP reply that claims that the Link Layer address of
	// another host or router is a broadcast or multicast address." Here hosts do not either, and of requests.
	if a.SenderHW.IsMulticast() {
		return ErrARPSender
	}
	return nil
}

// Encode writes a to b and returns ARPLen, or 0 and writes nothing if b is shorter than that or an address is not IPv4.
func (a *ARP) Encode(b []byte) int {
	if len(b) < ARPLen || !a.SenderIP.Is4() || !a.TargetIP.Is4() {
		return 0
	}
	copy(b, arpEthernetIPv4[:])
	binary.BigEndian.PutUint16(b[6:], a.Op)
	sender, target := a.SenderIP.As4(), a.TargetIP.As4()
	copy(b[8:], a.SenderHW[:])
	copy(b[14:], sender[:])
	copy(b[18:], a.TargetHW[:])
	copy(b[24:], target[:])
	return ARPLen
}
