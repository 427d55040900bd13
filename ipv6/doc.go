// Package ipv6 is the header of the Internet Protocol of version 6, RFC 8200, its control messages, RFC 4443, and
// those by which neighbours find each other, RFC 4861.
//
// The header is the same waybill as IPv4's with larger addresses and less on it: no checksum, no options, and nothing
// about fragments. What is not needed on every parcel goes onto slips between the waybill and the goods, the extension
// headers; each says what the next one is, down to the one that is not a slip but TCP, UDP or ICMPv6. Chain.Walk goes
// down that row.
//
// Routers do not cut packets up here: the sender does, and who finds a packet too large says so in an ICMP message.
// There is no ARP and no broadcast either. A host asks for a neighbour's card address with a Neighbor Solicitation, and
// listens for routers' advertisements: the type NDP.
//
// Decode and Encode work on memory of the caller's and allocate nothing.
package ipv6
