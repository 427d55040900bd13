// Package ipv4 is the header of the Internet Protocol, RFC 791, and the control messages that go with it, RFC 792.
//
// An IP header is to a packet what the waybill is to a parcel: from whom, to whom, how long it is, what kind of
// thing is inside, and how many more hands it may pass through before somebody throws it away. Each router reads it,
// takes one from the number of hands, and passes the packet on to a router that is nearer. Nobody signs for a packet:
// it may be lost, doubled or overtaken, and where a road is too narrow it may be cut into fragments that the receiver
// puts together again. What makes a reliable stream of that is TCP's matter.
//
// When a packet cannot be delivered, whoever noticed may send a note to its source: an ICMP message that says why and
// quotes the beginning of the packet.
//
// Decode and Encode work on memory of the caller's and allocate nothing.
package ipv4
